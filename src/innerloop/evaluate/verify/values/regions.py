"""Sets of real numbers: intervals, their unions, what inequalities allow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction

from innerloop.evaluate.verify.values import exact, numeric
from innerloop.evaluate.verify.values.kinds import (
    Collection,
    Interval,
    Quantity,
    Region,
    Relation,
    Tuple,
    Value,
)
from innerloop.evaluate.verify.values.tree import Constant, Node, Symbol, Unreadable, negative, symbols

INFINITY = Constant("∞")
LOWEST = negative(INFINITY)
EVERYTHING = Interval(LOWEST, INFINITY, low_closed=False, high_closed=False)
_REAL = ("mathbb:R", "ℝ", "mathbf:R")
End = tuple[Fraction | float, int]  # of an interval: a number, and where just before or behind it


def place(node: Node) -> Fraction | float:
    """Where a number lies; ``Unreadable`` where it has letters or is not real."""
    if node in (INFINITY, LOWEST):
        return math.inf if node == INFINITY else -math.inf
    found = exact.rational(node) if not symbols(node) else None
    found = numeric.real(node) if found is None else found
    if found is None:
        raise Unreadable("an end that is no real number")
    return found


def interval(value: Value) -> Region | None:
    """Two numbers between brackets as an interval; None for any other."""
    if not isinstance(value, Tuple) or len(value.items) != 2 or value.opening not in "([" or value.closing not in ")]":
        return None
    low, high = value.items
    if not isinstance(low, Quantity) or not isinstance(high, Quantity) or low.percent != high.percent:
        return None
    return Region((Interval(low.node, high.node, value.opening == "[", value.closing == "]"),))


def of(value: Value) -> Region | None:
    """Whatever is a set of real numbers, as one."""
    if isinstance(value, Region):
        return value
    if isinstance(value, Collection):
        nodes = [item.node for item in value.items if isinstance(item, Quantity)]
        if len(nodes) == len(value.items):
            return Region(tuple(Interval(node, node, low_closed=True, high_closed=True) for node in nodes))
        return None
    if isinstance(value, Quantity) and isinstance(value.node, Symbol) and value.node.name in _REAL:
        return Region((EVERYTHING,))
    if isinstance(value, Relation):
        return _allowed(value)
    return interval(value)


def _allowed(relation: Relation) -> Region | None:
    """What an inequality of a bare letter with a number allows."""
    left, right = relation.left, relation.right
    if not isinstance(left, Quantity):
        return None
    if relation.sign == "∈" and isinstance(left.node, Symbol):
        inner = of(right)
        return None if inner is None else Region(inner.intervals, left.node.name)
    if not isinstance(right, Quantity) or relation.sign not in ("<", "≤", "≠"):
        return None
    closed = relation.sign == "≤"
    for letter, number, upwards in ((left.node, right.node, False), (right.node, left.node, True)):
        if isinstance(letter, Symbol) and not symbols(number):
            if relation.sign == "≠":
                below = Interval(LOWEST, number, low_closed=False, high_closed=False)
                above = Interval(number, INFINITY, low_closed=False, high_closed=False)
                return Region((below, above), letter.name)
            if upwards:
                return Region((Interval(number, INFINITY, closed, high_closed=False),), letter.name)
            return Region((Interval(LOWEST, number, low_closed=False, high_closed=closed),), letter.name)
    return None


def union(values: Sequence[Value]) -> Value:
    """A union of intervals and points; of sets of other things, their elements."""
    regions = [of(value) for value in values]
    known = [region for region in regions if region is not None]
    if len(known) < len(values):
        raise Unreadable("a union of what is no set of numbers")
    return Region(tuple(own for region in known for own in region.intervals))


def excluded(whole: Value, part: Value) -> Value:
    """A set without another."""
    outer, inner = of(whole), of(part)
    if outer is None or inner is None:
        raise Unreadable("a difference of what are no sets of numbers")
    return meet(outer, Region(tuple(_complement(inner))))


def _complement(region: Region) -> Iterable[Interval]:
    low, closed = LOWEST, False
    for own in merged(region):
        if place(own.low) > place(low) or (not own.low_closed and closed):
            yield Interval(low, own.low, closed, not own.low_closed)
        low, closed = own.high, not own.high_closed
    if low != INFINITY:
        yield Interval(low, INFINITY, closed, high_closed=False)


def meet(one: Region, other: Region) -> Region:
    """What lies in both."""
    found = []
    for left in one.intervals:
        for right in other.intervals:
            low = max(left, right, key=_begin)
            high = min(left, right, key=_end)
            own = Interval(low.low, high.high, low.low_closed, high.high_closed)
            if _begin(own) < _end(own):
                found.append(own)
    return Region(tuple(found), one.letter or other.letter)


def _begin(own: Interval) -> End:
    return place(own.low), 0 if own.low_closed else 1


def _end(own: Interval) -> End:
    return place(own.high), 1 if own.high_closed else 0


def merged(region: Region) -> list[Interval]:
    """The intervals in order, those that touch made into one, empty ones left out."""
    found: list[Interval] = []
    for own in sorted(region.intervals, key=_begin):
        if not _begin(own) < _end(own):
            continue
        if found and _begin(own) <= _end(found[-1]):
            last = found[-1]
            longer = max(last, own, key=_end)
            found[-1] = Interval(last.low, longer.high, last.low_closed, longer.high_closed)
        else:
            found.append(own)
    return found


def same(one: Region, other: Region) -> bool:
    """Whether two sets of real numbers hold the same ones. Ends with letters are compared in their order."""
    if one.letter and other.letter and one.letter != other.letter:
        return False
    try:
        left, right = merged(one), merged(other)
    except Unreadable:
        left, right = list(one.intervals), list(other.intervals)
    return len(left) == len(right) and all(map(_same_interval, left, right))


def _same_interval(one: Interval, other: Interval) -> bool:
    ends = one.low_closed == other.low_closed and one.high_closed == other.high_closed
    return ends and _same_end(one.low, other.low) and _same_end(one.high, other.high)


def _same_end(one: Node, other: Node) -> bool:
    infinite = {INFINITY, LOWEST}
    return one == other or (one not in infinite and other not in infinite and numeric.same(one, other))
