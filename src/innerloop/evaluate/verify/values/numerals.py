"""Numbers as digits write them: decimals, powers of ten, periods, bases."""

from __future__ import annotations

import re
from fractions import Fraction

from innerloop.evaluate.verify.values.tree import Number, TooLarge, Unreadable

_MOST_DIGITS = 20_000
_AT_ONCE = 4_000  # digits; Python reads no more
_LARGEST_POWER = 4_000  # of ten
_PERIODIC = re.compile(r"(\d*+)\.(\d*+)\((\d++)\)")


def read(text: str) -> Number:
    """A token's number."""
    if (match := _PERIODIC.fullmatch(text)) is not None:
        return periodic(f"{match[1]}.{match[2]}", match[3])
    mantissa, _, power = text.partition("e")
    if len(text) > _MOST_DIGITS or (power and abs(int(power)) > _LARGEST_POWER):
        raise TooLarge(f"{len(text)} digits")
    whole, _, part = mantissa.partition(".")
    value = Fraction(_integer(whole + part or "0"), 10 ** len(part)) * Fraction(10) ** int(power or 0)
    digits = len((whole + part).lstrip("0"))
    return Number(value, decimals=len(part) - int(power or 0) if part or power else 0, digits=digits)


def _integer(digits: str) -> int:
    value = 0
    for start in range(0, len(digits), _AT_ONCE):
        chunk = digits[start : start + _AT_ONCE]
        value = value * 10 ** len(chunk) + int(chunk)
    return value


def periodic(before: str, period: str) -> Number:
    """``0.1`` and ``6`` for 0.1666…"""
    if not period.isdecimal() or len(before) + len(period) > _MOST_DIGITS:
        raise Unreadable("a period that is no digits")
    whole, _, part = before.partition(".")
    start = Fraction(_integer(whole + part or "0"), 10 ** len(part))
    return Number(start + Fraction(_integer(period), (10 ** len(period) - 1) * 10 ** len(part)))


def continued(text: str) -> Number:
    """Digits that dots follow: periodic where they show it (``0.1666…``), else cut off (``3.1415…``)."""
    whole, point, part = text.partition(".")
    if not point or not part.isdecimal():
        raise Unreadable("dots after a whole number")
    for length in range(1, min(len(part) // 2, 20) + 1):
        period = part[-length:]
        times = 3 if length == 1 else 2
        if part.endswith(period * times):
            return periodic(f"{whole}.{part[: -length * times]}", period)
    number = read(text)
    return Number(number.value, number.decimals, number.digits, cut=True)


def in_base(number: Number, subscript: str) -> Number:
    """The number whose digits are those of another base."""
    if not subscript.isdecimal() or len(subscript) > 2 or not 2 <= int(subscript) <= 36:
        raise Unreadable("no base")
    return rebased(number, int(subscript))


def rebased(number: Number, base: int) -> Number:
    """The same digits in a base. ``Unreadable`` where the base lacks one of them."""
    if number.value.denominator != 1 or number.decimals or number.base:
        raise Unreadable("no whole number")
    value = 0
    if number.digits > _AT_ONCE:
        raise TooLarge("too many digits")
    for digit in str(abs(number.value.numerator)):
        if int(digit) >= base:
            raise Unreadable(f"no digit of base {base}")
        value = value * base + int(digit)
    return Number(Fraction(-value if number.value < 0 else value), base=base)
