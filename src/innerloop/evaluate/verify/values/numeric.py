r"""Formulas computed to many digits, at points that depend on the letters' names only.

Two formulas with letters are equal where they agree at all points at which both are real (complex where one holds i):
``\sqrt{x^2}`` is ``|x|`` and not x, ``\ln x^2`` is ``2\ln x``. Where too few points make both real, whole numbers are
tried, so that ``(-1)^n`` is ``\cos\pi n``. Numbers without letters are compared exactly where they are rational or made
of roots (`exact`), else to 100 digits and more.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

from innerloop.evaluate.verify.values import exact
from innerloop.evaluate.verify.values.tree import (
    SERIES,
    Constant,
    Node,
    Number,
    Operation,
    Symbol,
    TooLarge,
    Unreadable,
    symbols,
    walk,
)

_DIGITS = 100  # computed of any number
_GUARD = 30  # of them that may be lost on the way
_MOST_DIGITS = 6_000
_LARGEST = 10**6  # binary digits of a magnitude
_POINTS = 12
_ENOUGH = 3  # points at which two formulas must be comparable
_PLACES = 9973  # the denominator of a letter's values, a prime

_own = threading.local()


def _context(digits: int) -> Any:
    if not hasattr(_own, "context"):
        import mpmath

        _own.context = mpmath.MPContext()
    _own.context.dps = digits
    return _own.context


Point = Mapping[str, Fraction]


def points(names: Sequence[str], *, integers: bool = False) -> Iterator[Point]:
    """Values of letters: small, larger, of both signs; or whole numbers."""
    for number in range(_POINTS):
        values = {}
        for name in names:
            draw = zlib.crc32(f"{name}/{number}/{integers}".encode("utf-8", "replace"))
            share = Fraction(1 + draw % (_PLACES - 1), _PLACES)
            size = 1 if number % 3 == 0 else 4
            sign = -1 if number >= _POINTS // 2 and draw >> 20 & 1 else 1
            values[name] = Fraction(1 + draw % 11) if integers else sign * size * share
        yield values


def same(one: Node, other: Node) -> bool:
    """Whether two formulas have the same value, whatever their letters are. ``TooLarge`` where nobody can tell."""
    if one == other:
        return True
    names = sorted(symbols(one) | symbols(other))
    return _same_functions(one, other, names) if names else _same_constants(one, other)


def is_zero(node: Node) -> bool:
    """Whether a formula is 0."""
    return same(node, Number(Fraction(0)))


def _same_constants(one: Node, other: Node) -> bool:
    try:
        first, second = exact.rational(one), exact.rational(other)
    except TooLarge:
        pairs = exact.remainders(one), exact.remainders(other)
        if None in pairs:
            raise
        return pairs[0] == pairs[1]
    except ZeroDivisionError:
        return False
    if first is not None and second is not None:
        return first == second
    difference = Operation("+", (one, Operation("neg", (other,))))
    bound = exact.bound(difference)
    if bound is not None and bound.bits < 3 * _MOST_DIGITS:
        digits = int(bound.bits / 3.3) + _GUARD
        value = value_of(difference, {}, digits + int(bound.upper / 3.3) + _GUARD)
        return value is not None and abs(value) < _context(digits).mpf(2) ** -int(bound.bits)
    digits = _needed(one, other)
    left, right = value_of(one, {}, digits), value_of(other, {}, digits)
    return left is not None and right is not None and _close(left, right, digits)


def _same_functions(one: Node, other: Node, names: Sequence[str]) -> bool:
    digits = _needed(one, other)
    complex_ones = any(part == Constant("i") for node in (one, other) for part in walk(node))
    ways = [(False, complex_ones), (True, True), (False, True)]
    for integers, with_complex in ways:
        compared = 0
        for point in points(names, integers=integers):
            pair = [value_of(node, point, digits) for node in (one, other)]
            if any(value is None or not (with_complex or _real(value)) for value in pair):
                continue
            if not _close(pair[0], pair[1], digits):
                return False
            compared += 1
        if compared >= _ENOUGH:
            return True
    return False


def proportional(one: Node, other: Node, *, positive: bool) -> bool:
    """Whether a formula is the other one times a number, which is not 0, and positive where that is asked for."""
    names = sorted(symbols(one) | symbols(other))
    digits = _needed(one, other)
    first: tuple[Any, Any] | None = None
    compared = 0
    for point in points(names):
        left, right = value_of(one, point, digits), value_of(other, point, digits)
        if left is None or right is None or not _real(left) or not _real(right):
            continue
        if first is None:
            if not left or not right:
                return not left and not right and is_zero(one) and is_zero(other)
            first = left, right
            if positive and (left > 0) != (right > 0):
                return False
        if not _close(first[0] * right, first[1] * left, digits):
            return False
        compared += 1
    return compared >= _ENOUGH


def _needed(*nodes: Node) -> int:
    total = _DIGITS + sum(map(exact.weight, nodes))
    if total > _MOST_DIGITS:
        raise TooLarge("too many digits")
    return int(total)


def _close(one: Any, other: Any, digits: int) -> bool:
    context = _context(digits)
    size = max(abs(one), abs(other))
    return bool(
        abs(one - other) <= size * context.mpf(10) ** (_GUARD - digits) or size < context.mpf(10) ** -(digits - _GUARD)
    )


def _real(value: Any) -> bool:
    return bool(abs(value.imag) <= abs(value.real) * 1e-40 or not value.imag)


def real(node: Node) -> Fraction | None:
    """The value of a formula without letters, to a hundred digits; None where it has none, or no real one."""
    value = None if symbols(node) else value_of(node, {}, _needed(node))
    return _fraction(value) if value is not None and _real(value) else None


def value_of(node: Node, point: Point, digits: int) -> Any:
    """The value at a point, real or complex; None where there is none. ``TooLarge`` for what is not computed."""
    context = _context(digits)
    try:
        value = _Evaluation(context, point).value(node)
    except (ZeroDivisionError, ValueError, OverflowError):
        return None
    if not context.isfinite(value):
        return None
    if value.imag and abs(value.imag) <= abs(value) * context.mpf(10) ** (_GUARD - digits):
        value = value.real
    return value


class _Evaluation:
    def __init__(self, context: Any, point: Point) -> None:
        self.context = context
        self.point = point

    def number(self, value: Fraction) -> Any:
        return self.context.mpf(value.numerator) / value.denominator

    def value(self, node: Node) -> Any:
        if isinstance(node, Number):
            return self.number(node.value)
        if isinstance(node, Symbol):
            return self.number(self.point[node.name])
        if isinstance(node, Constant):
            if node.name == "∞":
                raise ValueError("infinity")
            return {"π": self.context.pi, "e": self.context.e, "i": self.context.mpc(0, 1)}[node.name] * 1
        if node.name in SERIES:
            found = exact.rational(node, self.point)
            if found is None:
                raise TooLarge("a sum of no fractions")
            return self.number(found)
        arguments = [self.value(part) for part in node.arguments]
        if node.name.startswith("call:"):
            return self.called(node.name, arguments)
        rule = _RULES.get(node.name)
        if rule is None:
            raise TooLarge(f"no rule for {node.name}")
        return rule(self.context, *arguments)

    def called(self, name: str, arguments: Sequence[Any]) -> Any:
        """A value of an unknown function, the same for the same arguments."""
        text = name + ",".join(_shown(argument, 20) for argument in arguments)
        return self.number(Fraction(1 + zlib.crc32(text.encode("utf-8", "replace")) % _PLACES, _PLACES))


def _size(context: Any, value: Any) -> float:
    """The binary logarithm of a magnitude."""
    return float(context.mag(value)) if value else 0.0


def _power(context: Any, base: Any, exponent: Any) -> Any:
    if not base and exponent.real <= 0:
        raise ZeroDivisionError
    if abs(_size(context, base)) * abs(exponent) > _LARGEST or _size(context, exponent) > 60:
        raise TooLarge("too large a power")
    return base**exponent


def _bounded(function: str, most: float) -> Callable[..., Any]:
    """A function of arguments that are not too large."""

    def rule(context: Any, value: Any) -> Any:
        if abs(value) > most:
            raise TooLarge(f"too large an argument of {function}")
        return getattr(context, function)(value)

    return rule


def _root(context: Any, value: Any, index: Any) -> Any:
    """The real root where there is one: of negative numbers, too, where the index is odd."""
    if value.imag or value.real >= 0 or index.imag or int(index.real) != index or not int(index.real) % 2:
        return _power(context, value, 1 / index)
    return -_power(context, -value, 1 / index)


def _log(context: Any, value: Any, base: Any = None) -> Any:
    if not value:
        raise ZeroDivisionError
    return context.log(value) if base is None else context.log(value) / context.log(base)


def _integers(name: str) -> Callable[..., Any]:
    """A function of whole numbers, from the exact rules."""

    def rule(context: Any, *values: Any) -> Any:
        if any(value.imag for value in values):
            raise ValueError("no order")
        node = Operation(name, tuple(Number(_fraction(value)) for value in values))
        found = exact.rational(node)
        if found is None:
            raise ValueError("no whole numbers")
        return context.mpf(found.numerator) / found.denominator

    return rule


def _fraction(value: Any) -> Fraction:
    sign, mantissa, power, _ = value.real._mpf_
    if abs(power) > _LARGEST:
        raise TooLarge("too large")
    found = Fraction(mantissa) * Fraction(2) ** power
    return -found if sign else found


def _choice(pick: Callable[[Sequence[Any]], Any]) -> Callable[..., Any]:
    def rule(_: Any, *values: Any) -> Any:
        if any(value.imag for value in values):
            raise ValueError("no order")
        return pick([value.real for value in values])

    return rule


_ANGLES = ("sin", "cos", "tan", "cot", "sec", "csc")
_RULES: Mapping[str, Callable[..., Any]] = {
    **{name: _bounded(name, 1e9) for name in _ANGLES},
    **{f"arc{name}": _bounded(f"a{name}", 1e30) for name in _ANGLES},
    **{f"{name}h": _bounded(f"{name}h", 1e5) for name in _ANGLES},
    "+": lambda context, *terms: context.fsum(terms),
    "*": lambda context, *factors: context.fprod(factors),
    "/": lambda _, top, bottom: top / bottom,
    "neg": lambda _, value: -value,
    "^": _power,
    "sqrt": lambda context, value: context.sqrt(value),
    "root": _root,
    "abs": lambda _, value: abs(value),
    "exp": _bounded("exp", 1e5),
    "log": _log,
    "log10": lambda context, value: _log(context, value, context.mpf(10)),
    "deg": lambda context, value: value * context.pi / 180,
    "!": lambda context, value: _bounded("gamma", 3e3)(context, value + 1),
    "!!": _integers("!!"),
    "binom": lambda context, *values: context.binomial(*values) if max(map(abs, values)) < 1e4 else _too_large(),
    "floor": _choice(lambda values: values[0].context.floor(values[0])),
    "ceil": _choice(lambda values: values[0].context.ceil(values[0])),
    "sgn": _choice(lambda values: values[0].context.sign(values[0])),
    "min": _choice(min),
    "max": _choice(max),
    "mod": lambda context, value, modulus: value - modulus * context.floor(value / modulus),
    "gcd": _integers("gcd"),
    "lcm": _integers("lcm"),
}


def _too_large() -> Any:
    raise TooLarge("too large a binomial")


@lru_cache(maxsize=4096)
def fingerprint(node: Node) -> str:
    """What equal formulas share, and others do not: an exact fraction, or digits at the points."""
    names = sorted(symbols(node))
    digits = 2 * _GUARD
    if not names:
        try:
            if (found := exact.rational(node)) is not None:
                return f"{found.numerator:x}/{found.denominator:x}"
        except ZeroDivisionError:
            return "undefined"
        except TooLarge:
            rest = exact.remainders(node)
            if rest is None:
                raise Unreadable("too large") from None
            return f"modulo {rest}"
    texts = []
    for point in points(names) if names else ({},):
        value = value_of(node, point, _needed(node))
        texts.append("~" if value is None or (names and not _real(value)) else _digits(value, digits))
    return " ".join(texts) if len(set(texts)) > 1 else texts[0]


def _digits(value: Any, digits: int) -> str:
    """A fraction where the value is one, else that many of its digits."""
    context = value.context
    if not value.imag:
        near = _fraction(context.mpf(value.real)).limit_denominator(10**12) if abs(value) < 10**12 else None
        if near is not None and abs(near.numerator - value.real * near.denominator) < context.mpf(10) ** -(2 * _GUARD):
            return f"{near.numerator:x}/{near.denominator:x}"
    if abs(value) < context.mpf(10) ** -(2 * _GUARD):
        return "0/1"
    return _shown(value, digits - 10)


def _shown(value: Any, digits: int) -> str:
    """The first digits of a number of any size, as mantissa and power of two."""
    context = value.context
    parts = [context.frexp(part) for part in (value.real, value.imag)]
    return " ".join(f"{context.nstr(mantissa, digits)}p{power}" for mantissa, power in parts if mantissa)


def direction(node: Node, *, signed: bool) -> str:
    """What formulas share that are a number times each other (a positive one, where ``signed``)."""
    names = sorted(symbols(node))
    values = [value_of(node, point, _needed(node)) for point in points(names)]
    first = next((value for value in values if value is not None and value), None)
    if first is None:
        return "nothing"
    scale = abs(first) if signed else first
    return " ".join("~" if value is None else _digits(value / scale, 2 * _GUARD) for value in values)
