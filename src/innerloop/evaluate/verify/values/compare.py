r"""Whether an answer is the reference, by kind.

What an answer leaves out is taken from the reference: the unit, the percent sign, the base, the name in ``x = 5``. What
it states must agree. Where only one side has a percent sign, 25 % is 25 as well as 0.25. Kinds that mean the same are
brought into one: ``2 < x < 4`` and ``(2, 4)``, ``\{1, 2\}`` and ``1, 2``, ``x = 1, y = 2`` and ``(1, 2)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from innerloop.evaluate.verify.values import decimals, exact, numeric, ratios, regions, statements
from innerloop.evaluate.verify.values.kinds import (
    Collection,
    Matrix,
    Option,
    Quantity,
    Ratio,
    Region,
    Relation,
    System,
    Text,
    Tuple,
    Unread,
    Value,
)
from innerloop.evaluate.verify.values.numerals import rebased
from innerloop.evaluate.verify.values.tree import (
    Node,
    Number,
    Operation,
    Symbol,
    TooLarge,
    Unreadable,
    numerator,
    substituted,
    symbols,
    whole,
)
from innerloop.evaluate.verify.values.units import Unit, short

SYMMETRIC = frozenset(("=", "≠", "≈", "≡", "∼", "≅", "∥", "⊥"))  # relations whose sides may change places
_MOST_PAIRS = 400  # comparisons of the elements of two sets


def equal(answer: Value, reference: Value) -> bool:
    """Whether an answer is right. ``TooLarge`` where numbers are too large to tell."""
    if answer == reference:
        return True
    if isinstance(answer, Option) or isinstance(reference, Option):
        return _options(answer, reference)
    answer, reference = named(answer, reference)
    answer, reference = alike(answer, reference)
    if type(answer) is not type(reference):
        return False
    rule = _RULES.get(type(answer))
    return answer == reference or (rule is not None and rule(answer, reference))


def _options(answer: Value, reference: Value) -> bool:
    if isinstance(answer, Option) and isinstance(reference, Option):
        return answer.letter == reference.letter
    option, other, asked = (answer, reference, False) if isinstance(answer, Option) else (reference, answer, True)
    assert isinstance(option, Option)
    letter = letter_of(other)
    if letter is not None:
        return letter == option.letter or (asked and letter.upper() == option.letter)
    if option.rest is None:
        return False
    return equal(other, option.rest) if asked else equal(option.rest, other)


def letter_of(value: Value) -> str | None:
    """The one letter that an answer is."""
    if isinstance(value, Text) and len(value.words) == 1:
        return value.words.upper()
    if isinstance(value, Quantity) and isinstance(value.node, Symbol) and len(value.node.name) == 1:
        return value.node.name
    return None


# Names


def named(answer: Value, reference: Value) -> tuple[Value, Value]:
    """Without the name of ``x = 5`` where the other has none, or where both have the same."""
    one, other = _equation(answer), _equation(reference)
    if one is None and other is None:
        return answer, reference
    if one is None or other is None:
        own, plain = (one, reference) if one is not None else (other, answer)
        assert own is not None
        if isinstance(plain, Relation | System) or (isinstance(plain, Region) and plain.letter):
            return answer, reference
        if not statements.states(own.left, own.right):
            return answer, reference
        return (own.right, reference) if one is not None else (answer, own.right)
    if one.left == other.left:
        return one.right, other.right
    renamed = _renamed(one, other)
    return (renamed, other.right) if renamed is not None else (answer, reference)


def _equation(value: Value) -> Relation | None:
    return value if isinstance(value, Relation) and value.sign == "=" else None


def _renamed(one: Relation, other: Relation) -> Value | None:
    """``f(t) = t^2`` as ``f(x) = x^2``; ``y = x^2`` for ``f(x) = x^2``."""
    left, right, value = one.left, other.left, one.right
    if not (isinstance(left, Quantity) and isinstance(right, Quantity) and isinstance(value, Quantity)):
        return None
    first, second = left.node, right.node
    calls = [node for node in (first, second) if isinstance(node, Operation) and node.name.startswith("call:")]
    if len(calls) == 1 and Symbol("y") in (first, second):
        return value
    if len(calls) == 2 and calls[0].name == calls[1].name and len(calls[0].arguments) == len(calls[1].arguments) == 1:
        variable, wanted = calls[0].arguments[0], calls[1].arguments[0]
        if isinstance(variable, Symbol) and isinstance(wanted, Symbol):
            return Quantity(substituted(value.node, variable.name, wanted), value.unit, value.percent)
    return None


# Kinds that mean the same


def alike(answer: Value, reference: Value) -> tuple[Value, Value]:
    """Both in one kind, where they can be."""
    one, other = _series(answer, reference), _series(reference, answer)
    if (isinstance(one, Quantity) and isinstance(other, Collection)) or (
        isinstance(one, Collection) and isinstance(other, Quantity)
    ):
        single = [own.items[0] if isinstance(own, Collection) and len(own.items) == 1 else own for own in (one, other)]
        return single[0], single[1]
    if type(one) is type(other) and not isinstance(one, Relation):
        return one, other
    if isinstance(one, Ratio) != isinstance(other, Ratio):
        return _quotient(one), _quotient(other)
    kinds = (Region, Relation)
    if isinstance(one, kinds) or isinstance(other, kinds):
        left, right = regions.of(one), regions.of(other)
        if left is not None and right is not None:
            return left, right
    return one, other


def _series(value: Value, other: Value) -> Value:
    """A system of named values as a tuple or a list where the other is one; a column as a tuple."""
    if isinstance(value, System) and isinstance(other, Tuple | Collection):
        relations = [part for part in value.parts if isinstance(part, Relation) and part.sign == "="]
        names = {part.left for part in relations}
        if len(names) == len(value.parts) and all(map(statements.is_name, names)):
            items = tuple(part.right for part in relations)
            return Tuple(items, "(", ")") if isinstance(other, Tuple) else Collection(items)
    if isinstance(value, Collection) and isinstance(other, Tuple) and not value.braces and other.opening != "…":
        return Tuple(value.items, other.opening, other.closing)
    if isinstance(value, Matrix) and isinstance(other, Tuple) and not value.fence and len(value.rows[0]) == 1:
        return Tuple(tuple(row[0] for row in value.rows), other.opening, other.closing)
    if isinstance(value, Tuple) and isinstance(other, Tuple) and len(value.items) != 2 and other.opening != "…":
        brackets = "([⟨"
        if value.opening in brackets and other.opening in brackets:
            return Tuple(value.items, other.opening, other.closing)
    if isinstance(value, Tuple) and isinstance(other, Tuple) and "⟨" in (value.opening, other.opening):
        return Tuple(value.items, "(", ")") if value.opening in "(⟨" else value
    return value


def _quotient(value: Value) -> Value:
    if isinstance(value, Ratio) and len(value.parts) == 2 and not ratios.is_clock(value):
        return Quantity(Operation("/", value.parts))
    return value


# One rule a kind


def _quantities(answer: Quantity, reference: Quantity) -> bool:
    one, other = _with_units(answer, reference)
    if one is None or other is None:
        return False
    if answer.percent != reference.percent:
        scaled = [Operation("/", (node, whole(100))) for node in (one, other)]
        pairs = [(one, other), (scaled[0], other) if answer.percent else (one, scaled[1])]
    else:
        pairs = [(one, other)]
    if any(_same(left, right) for left, right in pairs):
        return True
    if answer.rounded is not None and answer.rounded.value == exact_value(other):
        return True
    return reference.rounded is not None and reference.rounded.value == exact_value(one)


def exact_value(node: Node) -> Fraction | None:
    """The exact value of a rational formula."""
    try:
        return exact.rational(node)
    except (TooLarge, ZeroDivisionError):
        return None


def _same(answer: Node, reference: Node) -> bool:
    if isinstance(answer, Number) and isinstance(reference, Number) and reference.base and not answer.base:
        digits = in_base_of(answer, reference)
        return digits is not None and digits.value == reference.value
    return numeric.same(answer, reference) or decimals.near(answer, reference)


def in_base_of(answer: Number, reference: Number) -> Number | None:
    """The answer's digits in the reference's base; None where that base lacks one of them."""
    try:
        return rebased(answer, reference.base)
    except Unreadable:
        return None


def _with_units(answer: Quantity, reference: Quantity) -> tuple[Node | None, Node | None]:
    """The numbers in one unit; None where the units are of different kinds."""
    one, other = answer.unit, reference.unit
    if one is not None and other is None:
        reference = lettered(reference)
        other = reference.unit
        if other is None:
            return (None if answer.mixed else answer.node), reference.node
    if other is not None and one is None:
        answer = lettered(answer)
        one = answer.unit
        if one is None:
            return answer.node, (None if reference.mixed else reference.node)
    if one is None or other is None or one == other:
        return answer.node, reference.node
    if one.known and other.known:
        if one.dimensions != other.dimensions:
            return None, None
        ratio = one.size / other.size
        return Operation("*", (answer.node, Number(ratio))), reference.node
    return (answer.node, reference.node) if _share_words(one, other) else (None, None)


def lettered(value: Quantity) -> Quantity:
    """``12s`` as 12 seconds, for an answer in seconds."""
    node = value.node
    if isinstance(node, Operation) and node.name == "/" and (top := lettered(Quantity(node.arguments[0]))).unit:
        return Quantity(Operation("/", (top.node, *node.arguments[1:])), top.unit)
    if isinstance(node, Operation) and node.name == "*" and isinstance(node.arguments[-1], Symbol):
        unit = short(node.arguments[-1].name)
        if unit is not None and not any(map(symbols, node.arguments[:-1])):
            return Quantity(Operation("*", node.arguments[:-1]), unit)
    return value


def _share_words(one: Unit, other: Unit) -> bool:
    if not one.known and not other.known:
        return bool(set(one.words) & set(other.words))
    unknown = other if one.known else one
    return "unit" in unknown.words


def _texts(answer: Text, reference: Text) -> bool:
    return answer.words == reference.words


def _sequences(answer: Tuple, reference: Tuple) -> bool:
    if answer.opening != reference.opening or answer.closing != reference.closing:
        return False
    return _in_order(answer.items, reference.items)


def _in_order(answer: Sequence[Value], reference: Sequence[Value]) -> bool:
    return len(answer) == len(reference) and all(map(equal, answer, reference))


def _collections(answer: Collection, reference: Collection) -> bool:
    """The same elements in any order; of sets, repeats do not count."""
    one, other = list(answer.items), list(reference.items)
    if answer.braces or reference.braces:
        one, other = _distinct(one), _distinct(other)
    return _matched(one, other, equal)


def _distinct(items: Sequence[Value]) -> list[Value]:
    found: list[Value] = []
    for item in items:
        if len(found) * len(items) > _MOST_PAIRS:
            return list(dict.fromkeys(items))
        if not any(equal(item, own) for own in found):
            found.append(item)
    return found


def _matched(one: Sequence[Value], other: Sequence[Value], same: Callable[[Value, Value], bool]) -> bool:
    """Whether each of the one has its partner among the other."""
    if len(one) != len(other):
        return False
    left = list(other)
    pending = []
    for item in one:
        if item in left:
            left.remove(item)
        else:
            pending.append(item)
    if len(pending) * len(left) > _MOST_PAIRS:
        return False
    for item in pending:
        partner = next((place for place, own in enumerate(left) if same(item, own)), None)
        if partner is None:
            return False
        left.pop(partner)
    return True


def _relations(answer: Relation, reference: Relation) -> bool:
    """Equations up to a number as a factor, inequalities up to a positive one."""
    signs = {answer.sign, reference.sign}
    if len(signs) > 1:
        return False
    symmetric = answer.sign in SYMMETRIC
    if answer.sign == "≡":
        return equal(answer.left, reference.left) and _congruent(answer.right, reference.right)
    one, other = statements.difference(answer), statements.difference(reference)
    if one is not None and other is not None and answer.sign in ("=", "<", "≤", "≠"):
        if numeric.proportional(one, other, positive=not symmetric):
            return True
        return symmetric and numeric.proportional(numerator(one), numerator(other), positive=False)
    if equal(answer.left, reference.left) and equal(answer.right, reference.right):
        return True
    return symmetric and equal(answer.left, reference.right) and equal(answer.right, reference.left)


def _congruent(answer: Value, reference: Value) -> bool:
    """``3 mod 5`` and ``8 mod 5``."""
    if not (isinstance(answer, Quantity) and isinstance(reference, Quantity)):
        return False
    one, other = answer.node, reference.node
    if not all(isinstance(node, Operation) and node.name == "mod" for node in (one, other)):
        return numeric.same(one, other)
    assert isinstance(one, Operation)
    assert isinstance(other, Operation)
    return numeric.same(one.arguments[1], other.arguments[1]) and numeric.same(
        Operation("mod", one.arguments), Operation("mod", (other.arguments[0], one.arguments[1]))
    )


def _systems(answer: System, reference: System) -> bool:
    return answer.either == reference.either and _matched(answer.parts, reference.parts, equal)


def _matrices(answer: Matrix, reference: Matrix) -> bool:
    same_shape = answer.fence == reference.fence and len(answer.rows) == len(reference.rows)
    return same_shape and all(map(_in_order, answer.rows, reference.rows))


_RULES: dict[type, Callable[..., bool]] = {
    Quantity: _quantities,
    Text: _texts,
    Ratio: ratios.same,
    Tuple: _sequences,
    Collection: _collections,
    Region: regions.same,
    Relation: _relations,
    System: _systems,
    Matrix: _matrices,
    Unread: lambda answer, reference: answer.tokens == reference.tokens,
}
