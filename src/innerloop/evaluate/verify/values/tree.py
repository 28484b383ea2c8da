"""Formulas as trees: numbers, constants, symbols, and operations on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction


class Unreadable(ValueError):
    """Text that the reader does not know."""


class TooLarge(ArithmeticError):
    """Numbers beyond what is computed."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it is written: exact value, decimals, significant digits, and its base where it names one.

    ``decimals`` and ``digits`` are 0 for fractions. ``cut``: dots after the last digit say that more follow.
    """

    value: Fraction
    decimals: int = 0
    digits: int = 0
    base: int = 0
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Constant:
    """π, e, i or ∞."""

    name: str


@dataclass(frozen=True, slots=True)
class Symbol:
    """A letter with its subscripts and primes, or a name."""

    name: str


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator or a function by name, and what it is applied to."""

    name: str
    arguments: tuple[Node, ...]


SERIES = ("sum", "prod")  # operations over a letter of their own, their first argument
Node = Number | Constant | Symbol | Operation


def walk(node: Node) -> Iterator[Node]:
    """All nodes of a tree."""
    stack = [node]
    while stack:
        top = stack.pop()
        yield top
        if isinstance(top, Operation):
            stack.extend(top.arguments)


def symbols(node: Node) -> frozenset[str]:
    """The names that a formula depends on."""
    if isinstance(node, Symbol):
        return frozenset((node.name,))
    if not isinstance(node, Operation):
        return frozenset()
    own = {f"{node.name}()"} if node.name.startswith("call:") else set()
    found = own.union(*map(symbols, node.arguments))
    if node.name in SERIES and isinstance(variable := node.arguments[0], Symbol):
        found.discard(variable.name)
    return frozenset(found)


def has_numbers(node: Node) -> bool:
    """Whether a number stands in a formula, outside of what unknown functions are applied to."""
    if isinstance(node, Operation):
        return not node.name.startswith("call:") and any(map(has_numbers, node.arguments))
    return isinstance(node, Number)


def whole(value: int) -> Number:
    """A whole number."""
    return Number(Fraction(value))


def negative(node: Node) -> Node:
    """The formula with the other sign."""
    if isinstance(node, Number) and not node.base:
        return Number(-node.value, node.decimals, node.digits, cut=node.cut)
    return Operation("neg", (node,))


def choose_sign(node: Node, sign: int) -> Node:
    """The formula with each ± read as ``sign``, each ∓ as the other one."""
    if not isinstance(node, Operation):
        return node
    arguments = tuple(choose_sign(part, sign) for part in node.arguments)
    if node.name in ("±", "∓"):
        positive = (node.name == "±") == (sign > 0)
        own = arguments[-1] if positive else negative(arguments[-1])
        return Operation("+", (arguments[0], own)) if len(arguments) == 2 else own
    return Operation(node.name, arguments)


def has_signs(node: Node) -> bool:
    """Whether a formula means two values."""
    return any(isinstance(part, Operation) and part.name in ("±", "∓") for part in walk(node))


def substituted(node: Node, name: str, value: Node) -> Node:
    """The formula with a value in the place of a letter."""
    if isinstance(node, Symbol):
        return value if node.name == name else node
    if isinstance(node, Operation):
        return Operation(node.name, tuple(substituted(part, name, value) for part in node.arguments))
    return node


def numerator(node: Node) -> Node:
    """What is 0 where a sum of fractions is."""
    return _parts(node)[0]


def _parts(node: Node) -> tuple[Node, Node | None]:
    """Numerator and denominator (None for 1)."""
    if not isinstance(node, Operation):
        return node, None
    if node.name == "neg":
        top, bottom = _parts(node.arguments[0])
        return negative(top), bottom
    if node.name == "/":
        top, below = _parts(node.arguments[0])
        under, above = _parts(node.arguments[1])
        return _times(top, above), _times(under, below)
    if node.name == "*":
        pairs = [_parts(part) for part in node.arguments]
        return _times(*(top for top, _ in pairs)), _times(*(bottom for _, bottom in pairs))
    if node.name == "+":
        pairs = [_parts(part) for part in node.arguments]
        bottoms = list(dict.fromkeys(bottom for _, bottom in pairs if bottom is not None))
        terms = tuple(_times(top, *(own for own in bottoms if own != bottom)) for top, bottom in pairs)
        return Operation("+", terms), _times(*bottoms) if bottoms else None
    return node, None


def _times(*factors: Node | None) -> Node:
    kept = tuple(own for own in factors if own is not None)
    return whole(1) if not kept else kept[0] if len(kept) == 1 else Operation("*", kept)


def bound_to(node: Node, name: str) -> Node:
    """The body of a sum, where its variable is no constant."""
    if isinstance(node, Constant) and node.name == name:
        return Symbol(name)
    if isinstance(node, Operation):
        return Operation(node.name, tuple(bound_to(part, name) for part in node.arguments))
    return node


def quotient(factors: Sequence[Node], divisors: Sequence[Node]) -> Node:
    """One fraction, however many signs of division there are, so that no chain of them makes a deep tree."""
    top, *bottom = (own[0] if len(own) == 1 else Operation("*", tuple(own)) for own in (factors, divisors) if own)
    return Operation("/", (top, *bottom)) if bottom else top
