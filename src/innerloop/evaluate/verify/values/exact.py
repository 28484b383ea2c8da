r"""Formulas without letters, computed exactly.

- Rational ones as fractions, powers and factorials included (``1/1501!``, ``(3^700+1)/(5·3^701)``).
- Rational ones that are too long to be written out (``9^{9^9}+1``) by their remainders modulo three primes of 62 bits.
- Roots by a separation bound: how near to 0 a number made of roots can be without being 0. The rule is that of
  Burnikel, Fleischer, Mehlhorn and Schirra (Algorithmica 27, 2000, and ESA 2001, for expressions with divisions).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from innerloop.evaluate.verify.values.tree import Constant, Node, Number, Operation, Symbol, TooLarge, Unreadable, walk

_MOST_BITS = 100_000  # of a number that is written out
_MOST_TERMS = 2_000  # of a sum, and the largest factorial
_PRIMES = (4371257431375131707, 4014066235267966291, 2827956119220495997)

Values = Mapping[str, Fraction]


def rational(node: Node, values: Values | None = None) -> Fraction | None:
    """The exact value; None where it is no rational number, or nobody can tell without computing roots.

    ``ZeroDivisionError`` where there is none, ``TooLarge`` where it is too long. ``values`` are those of letters.
    """
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Symbol):
        return (values or {}).get(node.name)
    if isinstance(node, Constant):
        return None
    if node.name in ("sum", "prod"):
        return _series(node, values or {})
    arguments: list[Fraction] = []
    for part in node.arguments:
        value = rational(part, values)
        if value is None:
            return None
        arguments.append(value)
    rule = _RULES.get(node.name)
    found = rule(*arguments) if rule is not None else None
    if found is not None and found.numerator.bit_length() + found.denominator.bit_length() > _MOST_BITS:
        raise TooLarge("too many digits")
    return found


def _series(node: Operation, values: Values) -> Fraction | None:
    name, first, last, body = node.arguments
    start, end = rational(first, values), rational(last, values)
    if start is None or end is None or start.denominator != 1 or end.denominator != 1:
        return None
    if end - start > _MOST_TERMS:
        raise TooLarge("too many terms")
    assert isinstance(name, Symbol)
    total = Fraction(node.name == "prod")
    for count in range(int(start), int(end) + 1):
        term = rational(body, {**values, name.name: Fraction(count)})
        if term is None:
            return None
        total = total * term if node.name == "prod" else total + term
        if total.denominator.bit_length() > _MOST_BITS:
            raise TooLarge("too many digits")
    return total


def _product(*factors: Fraction) -> Fraction:
    return math.prod(factors, start=Fraction(1))


def _power(base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent.denominator != 1:
        root = _root(base, Fraction(exponent.denominator)) if base >= 0 else None
        return None if root is None else _power(root, Fraction(exponent.numerator))
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(base) != 1 and base and bits * abs(exponent.numerator) > 2 * _MOST_BITS:
        raise TooLarge("too many digits")
    if base in (1, -1):
        return base if exponent.numerator % 2 else Fraction(1)
    return base**exponent.numerator


def _root(base: Fraction, index: Fraction) -> Fraction | None:
    """A rational root; of a negative number too where the index is odd."""
    if index.denominator != 1 or not 0 < index.numerator <= 1000:
        return None
    if base < 0:
        root = _root(-base, index) if index.numerator % 2 else None
        return None if root is None else -root
    top, bottom = (_whole_root(part, index.numerator) for part in (base.numerator, base.denominator))
    return None if top is None or bottom is None else Fraction(top, bottom)


def _whole_root(value: int, index: int) -> int | None:
    if index == 2:
        root = math.isqrt(value)
    else:
        low, high = 0, 1 << (value.bit_length() // index + 1)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if middle**index <= value else (low, middle - 1)
        root = low
    return root if root**index == value else None


def _factorial(value: Fraction) -> Fraction | None:
    if value.denominator != 1 or value < 0:
        return None
    if value > _MOST_TERMS:
        raise TooLarge("too large a factorial")
    return Fraction(math.factorial(int(value)))


def _double_factorial(value: Fraction) -> Fraction | None:
    if value.denominator != 1 or not -1 <= value <= _MOST_TERMS:
        return None
    return Fraction(math.prod(range(int(value), 0, -2)))


def _choose(top: Fraction, bottom: Fraction) -> Fraction | None:
    if top.denominator != 1 or bottom.denominator != 1 or top < 0 or bottom < 0:
        return None
    if min(bottom, top - bottom) > _MOST_TERMS or top > 1 << 64:
        raise TooLarge("too large a binomial")
    return Fraction(math.comb(int(top), int(bottom)))


def _of_integers(combine: Callable[..., int]) -> Callable[..., Fraction | None]:
    def rule(*values: Fraction) -> Fraction | None:
        return None if any(v.denominator != 1 for v in values) else Fraction(combine(*map(int, values)))

    return rule


_RULES: Mapping[str, Callable[..., Fraction | None]] = {
    "+": lambda *terms: sum(terms, Fraction(0)),
    "*": _product,
    "/": lambda top, bottom: top / bottom,
    "neg": lambda value: -value,
    "^": _power,
    "sqrt": lambda value: _root(value, Fraction(2)),
    "root": _root,
    "abs": abs,
    "!": _factorial,
    "!!": _double_factorial,
    "binom": _choose,
    "floor": lambda value: Fraction(math.floor(value)),
    "ceil": lambda value: Fraction(math.ceil(value)),
    "gcd": _of_integers(math.gcd),
    "lcm": _of_integers(math.lcm),
    "mod": lambda value, modulus: value % modulus,
    "min": lambda *values: min(values),
    "max": lambda *values: max(values),
    "sgn": lambda value: Fraction((value > 0) - (value < 0)),
}


# Remainders


def remainders(node: Node) -> tuple[int, ...] | None:
    """A rational number modulo three primes; None where the formula is none. Equal numbers have equal ones."""
    try:
        return tuple(_remainder(node, prime) for prime in _PRIMES)
    except (Unreadable, ZeroDivisionError):
        return None


def _remainder(node: Node, modulus: int) -> int:
    if isinstance(node, Number):
        return node.value.numerator * _inverse(node.value.denominator, modulus) % modulus
    if not isinstance(node, Operation):
        raise Unreadable("no rational number")
    if node.name == "^":
        return _remainder_of_power(node, modulus)
    if node.name == "!":
        value = rational(node.arguments[0])
        if value is None or value.denominator != 1 or not 0 <= value <= 10 * _MOST_TERMS:
            raise Unreadable("no factorial")
        return math.factorial(int(value)) % modulus
    parts = [_remainder(part, modulus) for part in node.arguments]
    match node.name:
        case "+":
            return sum(parts) % modulus
        case "neg":
            return -parts[0] % modulus
        case "*":
            return math.prod(parts) % modulus
        case "/":
            return parts[0] * _inverse(parts[1], modulus) % modulus
    raise Unreadable("no rational number")


def _remainder_of_power(node: Operation, modulus: int) -> int:
    base, exponent = node.arguments
    value = _remainder(base, modulus)
    try:
        power = rational(exponent)
    except TooLarge:  # a tower of powers: its exponent counts modulo the order of the group
        if modulus not in _PRIMES or not value:
            raise Unreadable("a tower of powers") from None
        return pow(value, _tower(exponent, modulus - 1), modulus)
    if power is None or power.denominator != 1:
        raise Unreadable("no whole exponent")
    if power < 0:
        return pow(_inverse(value, modulus), -power.numerator, modulus)
    return pow(value, power.numerator, modulus)


def _tower(node: Node, modulus: int) -> int:
    """A whole number modulo another, which need be no prime: sums, products and powers with short exponents."""
    if isinstance(node, Number) and node.value.denominator == 1:
        return node.value.numerator % modulus
    if isinstance(node, Operation) and node.name in ("+", "*", "neg"):
        parts = [_tower(part, modulus) for part in node.arguments]
        return (sum(parts) if node.name == "+" else math.prod(parts) if node.name == "*" else -parts[0]) % modulus
    if isinstance(node, Operation) and node.name == "^":
        power = rational(node.arguments[1])
        if power is not None and power.denominator == 1 and power >= 0:
            return pow(_tower(node.arguments[0], modulus), power.numerator, modulus)
    raise Unreadable("a tower of powers")


def _inverse(value: int, modulus: int) -> int:
    if math.gcd(value, modulus) != 1:
        raise ZeroDivisionError
    return pow(value, -1, modulus)


# Roots


@dataclass(frozen=True)
class Bound:
    """Of an algebraic number: binary logarithms of the bounds u and l of its two parts, and the roots in it."""

    upper: float
    lower: float
    roots: frozenset[tuple[Node, int]]

    @property
    def bits(self) -> float:
        """A number other than 0 is larger than 2 to the power of minus this many."""
        degree = math.prod(index for _, index in self.roots)
        return self.lower + (degree - 1) * self.upper + 4


def bound(node: Node) -> Bound | None:
    """The bound of a formula of numbers and roots; None for any other."""
    if isinstance(node, Number):
        return Bound(_log(node.value.numerator), _log(node.value.denominator), frozenset())
    if isinstance(node, Constant):
        return Bound(0.0, 0.0, frozenset({(node, 2)})) if node.name == "i" else None
    if isinstance(node, Symbol):
        return None
    if node.name == "^" and isinstance(exponent := _exponent(node.arguments[1]), Fraction):
        base = bound(node.arguments[0])
        return None if base is None else _powered(node, base, exponent)
    if node.name in ("sqrt", "root"):
        index = Fraction(2) if node.name == "sqrt" else _exponent(node.arguments[1])
        base = bound(node.arguments[0])
        good = base is not None and index is not None and index.denominator == 1 and 0 < index <= 100
        return _rooted(node, base, int(index)) if good and base is not None and index is not None else None
    parts = [bound(part) for part in node.arguments]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or node.name not in ("+", "*", "/", "neg", "abs"):
        return None
    roots = frozenset().union(*(part.roots for part in known))
    if node.name == "/":
        top, bottom = known
        return Bound(top.upper + bottom.lower, top.lower + bottom.upper, roots)
    lower = sum(part.lower for part in known)
    if node.name == "+":
        upper = max(part.upper - part.lower + lower for part in known) + math.log2(len(known))
    else:
        upper = sum(part.upper for part in known)
    return Bound(upper, lower, roots)


def _exponent(node: Node) -> Fraction | None:
    try:
        return rational(node)
    except (TooLarge, ZeroDivisionError):
        return None


def _powered(node: Operation, base: Bound, exponent: Fraction) -> Bound | None:
    if abs(exponent) > _MOST_BITS or exponent.denominator > 100:
        return None
    if exponent.denominator > 1:
        base = _rooted(Operation("root", (node.arguments[0],)), base, exponent.denominator)
    times = abs(exponent.numerator)
    upper, lower = base.upper * times, base.lower * times
    return Bound(lower, upper, base.roots) if exponent < 0 else Bound(upper, lower, base.roots)


def _rooted(node: Node, base: Bound, index: int) -> Bound:
    upper, lower = base.upper, base.lower
    if upper >= lower:
        upper = (upper + (index - 1) * lower) / index
    else:
        lower = (lower + (index - 1) * upper) / index
    return Bound(upper, lower, base.roots | {(node, index)})


def _log(value: int) -> float:
    return float(max(abs(value).bit_length(), 1))


def weight(node: Node) -> float:
    """About how many digits computing a formula takes."""
    total = 0.0
    for part in walk(node):
        if isinstance(part, Number):
            total += _digits(part.value)
        elif isinstance(part, Operation) and part.name in ("^", "!") and isinstance(part.arguments[-1], Number):
            last = abs(part.arguments[-1].value)
            times = float(last) if last.numerator.bit_length() < 64 else 1e19
            base = part.arguments[0]
            total += times * (4.0 if part.name == "!" else _digits(base.value) if isinstance(base, Number) else 2.0)
    return total


def _digits(value: Fraction) -> float:
    return (value.numerator.bit_length() + value.denominator.bit_length()) / 3.3
