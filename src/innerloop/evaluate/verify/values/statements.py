r"""Relations, chains of them, and lists of statements.

- ``x = 2 + 3 = 5`` names x and gives one value in two forms; ``3 \approx 8`` gives two values and is no answer.
- ``2/3 ≈ 0.667`` is the exact value, which may be given as this decimal too.
- An equation that the last statement solves (``2x = 6 ⟹ x = 3``) states no value of its own.
- ``x = 2 or x = 3`` are two values of x; ``x = 7, y = 2`` is a system.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from innerloop.evaluate.verify.values import numeric, regions
from innerloop.evaluate.verify.values.decimals import agree, decimal
from innerloop.evaluate.verify.values.kinds import (
    Collection,
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
from innerloop.evaluate.verify.values.tree import (
    Node,
    Number,
    Operation,
    Symbol,
    TooLarge,
    Unreadable,
    has_numbers,
    negative,
    substituted,
    symbols,
    whole,
)

DOTS = Text("…")
ZERO = whole(0)
_OR = frozenset(("or", "∨"))
_MOST = 12  # parts of a list that are compared with each other
_TURNED = {">": "<", "≥": "≤"}


def is_name(value: Value) -> bool:
    """Whether a value only names what is sought: ``x``, ``E_1``, ``f(x)``, words."""
    if isinstance(value, Quantity) and value.unit is None:
        node = value.node
        return isinstance(node, Symbol) or (isinstance(node, Operation) and node.name.startswith("call:"))
    return isinstance(value, Text | Unread)


def is_loose_name(value: Value) -> bool:
    """Whether a value is letters without any number: ``AB``, ``m + n``, ``\\sin x``."""
    return is_name(value) or (isinstance(value, Quantity) and bool(symbols(value.node)) and not has_numbers(value.node))


def states(name: Value, value: Value) -> bool:
    """Whether ``name = value`` says what a name is worth; ``2x = 4`` and ``x + y = 0`` are equations to be solved."""
    if is_name(name):
        return True
    if isinstance(name, Ratio) and isinstance(value, Ratio):
        return all(map(symbols, name.parts)) and not any(map(symbols, value.parts))
    if not (is_loose_name(name) and is_constant(value)):
        return False
    assert isinstance(name, Quantity)
    assert isinstance(value, Quantity)
    summed = isinstance(name.node, Operation) and name.node.name == "+"
    return not (summed and value.node == ZERO)


def is_constant(value: Value) -> bool:
    """Whether a value is a number."""
    return isinstance(value, Quantity) and not symbols(value.node)


def chain(sides: Sequence[Value], signs: Sequence[str]) -> Value:
    """A relation, or several in a row."""
    if "?" in signs:
        raise Unreadable("a relation that is not known")
    if set(signs) <= {"=", "≈", "≡"} and "≡" not in signs:
        return _equations(list(sides), signs)
    relations = [_ordered(left, sign, right) for left, sign, right in zip(sides, signs, sides[1:], strict=False)]
    if len(relations) == 1:
        return _named_set(relations[0])
    return _bounds(relations) or System(tuple(relations))


def _ordered(left: Value, sign: str, right: Value) -> Relation:
    if sign in _TURNED:
        return Relation(right, _TURNED[sign], left)
    return Relation(left, sign, right)


def _named_set(relation: Relation) -> Value:
    if relation.sign == "∈" and isinstance(relation.right, Collection) and is_name(relation.left):
        return Relation(relation.left, "=", replace(relation.right, braces=False))
    return relation


def _bounds(relations: Sequence[Relation]) -> Value | None:
    """``2 < x ≤ 5`` as a set of numbers."""
    found = [regions.of(relation) for relation in relations]
    if any(own is None or own.letter != (found[0].letter if found[0] else "") for own in found):
        return None
    total: Region | None = None
    for own in found:
        assert own is not None
        total = own if total is None else regions.meet(total, own)
    return total


def _equations(sides: list[Value], signs: Sequence[str]) -> Value:
    name: Value | None = None
    if len(sides) > 1 and not is_constant(sides[0]):
        if states(sides[0], sides[-1]):
            name, sides = sides[0], sides[1:]
        elif is_name(sides[-1]) and is_constant(sides[0]) and len(sides) == 2:
            name, sides = sides[1], sides[:1]
    elif len(sides) == 2 and is_name(sides[1]) and not isinstance(sides[1], Text | Unread):
        name, sides = sides[1], sides[:1]
    if name is None and len(sides) > 2 and all(map(is_constant, sides[1:])):
        sides = sides[1:]  # "m^2 + n^2 = 9 + 4 = 13" computes, while "2x = 4" asks
    constants = [side for side in sides if is_constant(side)]
    if len(constants) == len(sides):
        value = _one(constants, nearly="≈" in signs)
    elif name is not None and len(sides) == 1:
        value = sides[0]
    elif name is not None and is_constant(sides[-1]):
        return _several_names(name, sides, constants, nearly="≈" in signs)
    elif name is not None and _all_same(sides):
        value = sides[-1]
    else:
        whole_chain = ([name] if name is not None else []) + sides
        relations = tuple(Relation(left, "=", right) for left, right in itertools.pairwise(whole_chain))
        return relations[0] if len(relations) == 1 else System(relations)
    if name is None or isinstance(value, Several) or isinstance(name, Text | Unread):
        return value
    return Relation(name, "=", value)


def _several_names(name: Value, sides: Sequence[Value], constants: Sequence[Value], *, nearly: bool) -> Value:
    """``x = y = 1`` is a system; ``r = d/2 = 5`` goes through a formula to the value."""
    value = _one(constants, nearly=nearly)
    others = [side for side in sides if not is_constant(side)]
    if isinstance(value, Several):
        return value
    if all(map(is_name, others)):
        return System(tuple(Relation(own, "=", value) for own in (name, *others)))
    return value if isinstance(name, Text | Unread) else Relation(name, "=", value)


def _all_same(sides: Sequence[Value]) -> bool:
    nodes = [side.node for side in sides if isinstance(side, Quantity)]
    if len(nodes) < len(sides):
        return False
    return all(_same(nodes[-1], node) for node in nodes[:-1])


def _same(one: Node, other: Node) -> bool:
    try:
        return numeric.same(one, other)
    except (TooLarge, Unreadable):
        return False


def _one(values: Sequence[Value], *, nearly: bool) -> Value:
    """One value that was given in several forms; ``Several`` where they are different ones.

    Numbers with different units are not compared: the last counts (``1.5 hours = 90 minutes``).
    """
    known = [value for value in values if isinstance(value, Quantity)]
    last = known[-1]
    if len(known) == 1:
        return last
    found = last
    for value in (known[:_MOST] + known[-_MOST:])[:-1]:
        if value.unit and last.unit and value.unit != last.unit:
            continue
        if value.percent != last.percent:
            scaled = Operation("/", (value.node if value.percent else last.node, whole(100)))
            pair = (scaled, last.node) if value.percent else (value.node, scaled)
            if _same(*pair) or _same(value.node, last.node):
                continue
            return Several(tuple(values))
        if _same(value.node, last.node):
            continue
        shown = decimal(last.node)
        if not agree(value.node, last.node, rounded=nearly):
            return Several(tuple(values))
        if shown is not None and decimal(value.node) is None:
            found = Quantity(value.node, last.unit or value.unit, last.percent, rounded=shown)
    if found.unit is None:
        unit = next((value.unit for value in known if value.unit), None)
        found = replace(found, unit=unit) if unit is not None else found
    return found


# Lists of statements


def combined(parts: Sequence[tuple[str, Value]]) -> Value:
    """What several statements mean together; each comes with the word or mark before it."""
    marks = {mark for mark, _ in parts[1:]}
    values = [value for _, value in parts]
    if DOTS in values:
        return Tuple(tuple(values), "…", "")
    values = _without_steps(values)
    if len(values) == 1:
        return values[0]
    if marks & {"→", "not", "to", "vs", "versus", "rather", "than", "."}:
        return _same_ones(values)
    if all((isinstance(value, Relation) and value.sign != "=") or isinstance(value, Region) for value in values):
        found = _together(values, either=bool(marks & _OR), listed=not marks & {"and", "∧"})
        if found is not None:
            return found
    if any(isinstance(value, Relation | System) for value in values):
        return _system(values, either=bool(marks & _OR))
    return Collection(tuple(own for value in values for own in _flat(value)))


def _flat(value: Value) -> tuple[Value, ...]:
    return value.items if isinstance(value, Collection) and not value.braces else (value,)


def _without_steps(values: list[Value]) -> list[Value]:
    """Without equations that the last statement is a solution of, and without what is said twice."""
    last = values[-1]
    if not (isinstance(last, Relation) and last.sign == "=" and len(values) <= _MOST):
        return values
    left, right = last.left, last.right
    if not (isinstance(left, Quantity) and isinstance(left.node, Symbol) and isinstance(right, Quantity)):
        return values
    kept = [value for value in values[:-1] if not (value == last or _solved(value, left.node.name, right.node))]
    return [*kept, last]


def _solved(value: Value, name: str, solution: Node) -> bool:
    """Whether an equation, not a mere value of the letter, holds for the solution."""
    if not isinstance(value, Relation) or value.sign != "=" or is_name(value.left):
        return False
    if not (isinstance(value.left, Quantity) and isinstance(value.right, Quantity)):
        return False
    if name not in symbols(value.left.node) | symbols(value.right.node):
        return False
    return _same(substituted(value.left.node, name, solution), substituted(value.right.node, name, solution))


def _same_ones(values: Sequence[Value]) -> Value:
    """One value where an arrow leads to the same; else several, which are no answer to a question for one."""
    if all(is_constant(value) for value in values):
        return _one(list(values), nearly=True)
    return Several(tuple(values))


def _together(values: Sequence[Value], *, either: bool, listed: bool) -> Value | None:
    """Bounds of one letter: all that holds for either of them, or what holds for both."""
    found = [regions.of(value) for value in values]
    known = [own for own in found if own is not None]
    if len(known) < len(found) or len({own.letter for own in known}) > 1 or len(known) > _MOST:
        return None
    joined = Region(tuple(own for region in known for own in region.intervals), known[0].letter)
    if either:
        return joined
    total = known[0]
    for own in known[1:]:
        total = regions.meet(total, own)
    return joined if listed and not total.intervals else total


def _system(values: Sequence[Value], *, either: bool) -> Value:
    """Relations together. Values of one name are a list of them; values after ``x =`` are more of x."""
    first = values[0]
    if isinstance(first, Relation) and first.sign == "=" and is_name(first.left):
        own = [first.right]
        for value in values[1:]:
            if isinstance(value, Relation) and value.sign == "=" and value.left == first.left:
                own.append(value.right)
            elif isinstance(value, Quantity | Collection):
                own.append(value)
            else:
                break
        else:
            items = tuple(item for value in own for item in _flat(value))
            return Relation(first.left, "=", Collection(items))
    parts = [part for value in values for part in (value.parts if isinstance(value, System) else (value,))]
    return System(tuple(dict.fromkeys(parts)), either=either)


def difference(relation: Relation) -> Node | None:
    """Right side minus left side, where both are formulas."""
    left, right = relation.left, relation.right
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        return Operation("+", (_scaled(right), negative(_scaled(left))))
    return None


def _scaled(value: Quantity) -> Node:
    node = Operation("/", (value.node, whole(100))) if value.percent else value.node
    if value.unit is not None and value.unit.known and value.unit.size != 1:
        return Operation("*", (node, Number(Fraction(value.unit.size))))
    return node
