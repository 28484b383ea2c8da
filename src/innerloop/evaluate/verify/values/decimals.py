"""What decimals show, and how near they have to be.

- Two exact values (fractions, roots, whole numbers, decimals without rounding) are equal or not.
- A decimal of six significant digits or more is taken for a rounded value, or one that was cut off after its last
  digit, so that 0.333333 is 1/3 and 0.333 is not. Of two decimals the one with fewer digits decides, by rounding.
- Digits that end in dots (``3.141592…``) are cut off: the value begins with them.
"""

from __future__ import annotations

from fractions import Fraction

from innerloop.evaluate.verify.values import exact, numeric
from innerloop.evaluate.verify.values.tree import Node, Number, Operation, TooLarge, negative, symbols

ROUNDED = 6  # significant digits that a decimal needs to be taken for a rounded value


def decimal(node: Node) -> Number | None:
    r"""A number with a decimal point or a power of ten as one; None for any other formula."""
    if isinstance(node, Number):
        return node if node.decimals else None
    if not isinstance(node, Operation):
        return None
    if node.name == "neg":
        return _with_other_sign(decimal(node.arguments[0]))
    if node.name == "*" and len(node.arguments) == 2:
        mantissa, power = node.arguments
        scale = _power_of_ten(power)
        if isinstance(mantissa, Number) and scale is not None and mantissa.digits:
            return Number(mantissa.value * Fraction(10) ** scale, mantissa.decimals - scale, mantissa.digits)
    return None


def _with_other_sign(number: Number | None) -> Number | None:
    found = None if number is None else negative(number)
    return found if isinstance(found, Number) else None


def _power_of_ten(node: Node) -> int | None:
    if isinstance(node, Operation) and node.name == "^" and node.arguments[0] == Number(Fraction(10), 0, 2):
        exponent = node.arguments[1]
        if isinstance(exponent, Number) and exponent.value.denominator == 1 and abs(exponent.value) < 4000:
            return int(exponent.value)
    return None


def near(one: Node, other: Node) -> bool:
    """Whether two different values are the same as far as a decimal among them shows, by the rules above."""
    shown = [own for own in (decimal(one), decimal(other)) if own is not None]
    if not shown:
        return False
    value, reference = _value(one), _value(other)
    if value is None or reference is None:
        return False
    dotted = [own for own in shown if own.cut]
    if dotted:
        return dotted[0].digits >= ROUNDED and 0 <= _beyond(dotted[0], value, reference) < _unit(dotted[0])
    if len(shown) == 1 and shown[0].digits >= ROUNDED and 0 <= _beyond(shown[0], value, reference) < _unit(shown[0]):
        return True  # cut off after its last digit
    coarse = min(shown, key=lambda own: own.decimals)
    if coarse.digits < ROUNDED:
        return False
    return bool(abs(value - reference) <= _unit(coarse) / 2)


def _beyond(shown: Number, one: Fraction, other: Fraction) -> Fraction:
    """By how much the other of two values goes beyond a decimal, which is one of them."""
    exact_one = other if one == shown.value else one
    if (exact_one < 0) != (shown.value < 0):
        return Fraction(-1)
    return abs(exact_one) - abs(shown.value)


def agree(one: Node, other: Node, *, rounded: bool) -> bool:
    """Whether two forms of one value in an answer fit each other.

    Decimals may be rounded or cut off in their last digit, whole numbers be rounded where that is said (``rounded``).
    """
    value, reference = _value(one), _value(other)
    if value is None or reference is None:
        return False
    allowed = max(_last_digit(node, rounded=rounded) for node in (one, other))
    return bool(abs(value - reference) <= allowed)


def _last_digit(node: Node, *, rounded: bool) -> Fraction:
    shown = decimal(node)
    if shown is not None:
        return _unit(shown)
    whole = isinstance(node, Number) and node.value.denominator == 1
    return Fraction(1, 2) if rounded and whole else Fraction(0)


def _unit(number: Number) -> Fraction:
    return Fraction(10) ** -number.decimals


def _value(node: Node) -> Fraction | None:
    """The value of a formula without letters, to very many digits."""
    if symbols(node):
        return None
    try:
        found = exact.rational(node)
        return numeric.real(node) if found is None else found
    except (TooLarge, ZeroDivisionError):
        return None


def plain_number(node: Node) -> Number | None:
    r"""A number or a fraction as it is written, with its sign; None for a formula."""
    if isinstance(node, Number):
        return None if node.base else node
    if not isinstance(node, Operation):
        return None
    if node.name == "neg":
        return _with_other_sign(plain_number(node.arguments[0]))
    if node.name == "/" and all(isinstance(part, Number) for part in node.arguments):
        value = _value(node)
        return None if value is None else Number(value)
    return decimal(node)
