"""What equal values share: a text for each value, so that votes for one answer are counted together.

A key is made beside the reference, where there is one, because what an answer leaves out is taken from there: ``x = 5``
and ``5``, ``50`` and ``50 %`` are one answer where the reference has no name and no percent sign. An answer that is
right has the reference's key. Formulas are keyed by their values (`numeric.fingerprint`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from innerloop.evaluate.verify.values import compare, numeric, ratios, regions, statements
from innerloop.evaluate.verify.values.kinds import (
    Collection,
    Matrix,
    Option,
    Quantity,
    Ratio,
    Region,
    Relation,
    Several,
    System,
    Text,
    Tuple,
    Unread,
    Value,
)
from innerloop.evaluate.verify.values.tree import Node, Number, Operation, TooLarge, Unreadable, numerator, whole

REFERENCE = "the reference"


def key(value: Value, reference: Value | None = None) -> str:
    """The key of a value; `REFERENCE` where it is equal to the reference."""
    try:
        if reference is not None:
            if compare.equal(value, reference):
                return REFERENCE
            value = _beside(value, reference)
        elif isinstance(value, Relation) and value.sign == "=" and statements.states(value.left, value.right):
            value = value.right
        return _key(value)
    except (TooLarge, Unreadable):
        return f"as written {value}" if not isinstance(value, Unread) else _key(value)


def _beside(value: Value, reference: Value) -> Value:
    """The value with what it leaves out, and without what the reference leaves out."""
    if isinstance(value, Option) != isinstance(reference, Option):
        if isinstance(value, Option):
            return value if value.rest is None else _beside(value.rest, reference)
        letter = compare.letter_of(value)
        return value if letter is None else Option(letter.upper(), None)
    value, reference = compare.named(value, reference)
    value, reference = compare.alike(value, reference)
    if isinstance(value, Region) and isinstance(reference, Region):
        return Region(value.intervals, value.letter if reference.letter and value.letter else reference.letter)
    if isinstance(value, Quantity) and isinstance(reference, Quantity):
        value = compare.lettered(value) if reference.unit is not None and value.unit is None else value
        unit = value.unit if reference.unit is not None and value.unit is not None else reference.unit
        node = value.node
        if isinstance(node, Number) and isinstance(reference.node, Number) and reference.node.base:
            node = compare.in_base_of(node, reference.node) or node
        return Quantity(node, unit, reference.percent)
    return value


def _key(value: Value) -> str:
    rule = _RULES[type(value)]
    return f"{_FAMILIES.get(type(value), type(value).__name__)} {rule(value)}"


def _quantity(value: Quantity) -> str:
    node, unit = value.node, value.unit
    if unit is None:
        return f"{_formula(node)}{'%' if value.percent else ''}"
    if unit.known:
        node = Operation("*", (node, Number(unit.size)))
    return f"{_formula(node)} {unit.dimensions} {sorted(unit.words)}"


def _formula(node: Node) -> str:
    return "infinity" if node == regions.INFINITY else numeric.fingerprint(node)


def _ratio(value: Ratio) -> str:
    if value.half or ratios.is_clock(value):
        return f"at {ratios.time_of_day(value)}"
    zero = any(map(numeric.is_zero, value.parts))
    first = whole(1) if zero else value.parts[0]
    return ":".join(_formula(Operation("/", (part, first))) for part in value.parts)


def _sequence(value: Tuple) -> str:
    region = regions.interval(value)
    if region is not None and (value.opening + value.closing != "()" or _is_endless(region)):
        return _region(region)
    brackets = value.opening + value.closing if len(value.items) == 2 or value.opening not in "[(⟨" else "()"
    return f"{brackets.replace('⟨', '(').replace('⟩', ')')} {[_key(item) for item in value.items]}"


def _collection(value: Collection) -> str:
    keys = sorted(map(_key, value.items))
    return str(sorted(set(keys)) if value.braces else keys)


def _region(value: Region) -> str:
    """A single open interval as the pair of its ends, because it is written as one."""
    parts = regions.merged(value)
    if len(parts) == 1 and not (parts[0].low_closed or parts[0].high_closed or _is_endless(value)):
        return f"{value.letter}() {[_key(Quantity(parts[0].low)), _key(Quantity(parts[0].high))]}"
    ends = [(_end(own.low), _end(own.high), own.low_closed, own.high_closed) for own in parts]
    return f"{value.letter}{ends}"


def _is_endless(value: Region) -> bool:
    return any(own.low == regions.LOWEST or own.high == regions.INFINITY for own in value.intervals)


def _end(node: Node) -> str:
    return "-infinity" if node == regions.LOWEST else _formula(node)


def _relation(value: Relation) -> str:
    region = regions.of(value) if value.sign != "=" else None
    if region is not None:
        return _region(region)
    difference = statements.difference(value)
    if difference is None or value.sign not in ("=", "≠", "<", "≤"):
        sides = [_key(value.left), _key(value.right)]
        return f"{value.sign} {sorted(sides) if value.sign in compare.SYMMETRIC else sides}"
    symmetric = value.sign in compare.SYMMETRIC
    node = numerator(difference) if symmetric else difference
    return f"{value.sign} {numeric.direction(node, signed=not symmetric)}"


def _system(value: System) -> str:
    return f"{value.either} {sorted(map(_key, value.parts))}"


def _matrix(value: Matrix) -> str:
    return f"{value.fence} {[[_key(cell) for cell in row] for row in value.rows]}"


def _option(value: Option) -> str:
    return value.letter


def _unread(value: Unread) -> str:
    return " ".join(token.text for token in value.tokens)


_FAMILIES: dict[type, str] = dict.fromkeys((Tuple, Region, Relation), "")  # kinds that may mean the same
_RULES: dict[type, Callable[[Any], str]] = {
    Quantity: _quantity,
    Text: lambda value: value.words,
    Option: _option,
    Ratio: _ratio,
    Tuple: _sequence,
    Collection: _collection,
    Region: _region,
    Matrix: _matrix,
    Relation: _relation,
    System: _system,
    Several: lambda value: str(sorted(map(_key, value.items))),
    Unread: _unread,
}
