"""Numbers as answers write them.

- Read as a number: ``1,234.50``, ``$18``, ``18 dollars``, ``2 1/2``, ``3/4``, ``1.5e3``, ``1.5 × 10^3``, ``x = 5``
  (what follows the last equals sign). A unit is letters after the number; words that change the value
  (million, dozen, pi, …) are no units, and an answer with several numbers is none. Of a sentence that was given as
  the answer (``Tom could buy 11 more CDs``) its only number is read.
- Percent: where just one side has a percent sign, 25 % is right for 25 as well as for 0.25.
- Equal means within 1e-6 of the reference, relatively. A reference with a decimal point and at least two decimals or
  three significant digits is taken for a rounded one: half a unit of its last digit is allowed too, so 0.333 is right
  for 0.33 and 20.39 for 20.4, while 2.54 is wrong for 2.5 and 18.4 for 18.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from innerloop.evaluate.verify.plain import plain

_RELATIVE = Fraction(1, 10**6)
_LONGEST = 200  # characters; and the largest power of ten that is read
_LARGEST_EXPONENT = 400

_READ = re.compile(
    r"""(?:about|approximately|approx\.?|around|roughly|≈|~)?\s*+
    (?P<sign>[-+])?\s*+(?:[$€£¥₹]|us\$|usd|eur|gbp)?\s*+(?P<sign2>[-+])?
    (?:(?P<whole>\d++)\s++(?P<part>\d++)\s*+/\s*+(?P<parts>\d++)   # 2 1/2
      |(?P<top>\d++)\s*+/\s*+(?P<bottom>\d++)                       # 3/4
      |(?P<decimal>\d++\.?\d*+|\.\d++)
       (?:e(?P<power>[-+]?\d++)|\s*+[×x*·]\s*+10\s*+(?:\^|\*\*)\s*+[({]?(?P<power2>[-+]?\d++)[)}]?)?)
    \s*+(?P<percent>%|percent\b|per\s*+cent\b)?(?P<unit>.*)""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_WORD = r"[a-zµΩ€£$]{2,}+(?:\^?\{?[23]\}?)?"
_UNIT = re.compile(rf"\s*+°?\s*+(?:{_WORD}(?:[\s/*·.-]++{_WORD}){{0,5}})?\s*+\.?", re.IGNORECASE)
_SHORT_UNIT = re.compile(
    r"\s*+[mgshlnjwvakcf](?:\^?\{?[23]\}?)?(?:\s*+/\s*+[mgsh](?:\^?\{?[23]\}?)?)?\.?", re.IGNORECASE
)
_NO_UNITS = re.compile(
    r"\b(?:hundred|thousand|million|billion|trillion|dozen|half|halves|quarter|third|pi|tau|sqrt|log|ln|exp|sin|cos|tan|mod"
    r"|and|or|to|plus|minus|times|over|squared|cubed|factorial|choose|infinity)s?\b",
    re.IGNORECASE,
)


_SOLE = re.compile(r"((?<![\w.,])-?[$€£]?(?:\d[\d,]*+(?:\.\d++)?|\.\d++)(?:\s*+/\s*+\d++)?\s*+%?)\s*+([^\W\d]*+)")
THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_WORDS = re.compile(r"[A-Za-z]{2,}")
_MATHS = re.compile(r"[=^\\+*<>]")


@dataclass(frozen=True)
class Number:
    """A number that was read: its exact value, how it was written, and whether with a percent sign.

    ``decimals`` and ``digits`` (significant ones) are 0 for fractions; ``power`` is that of ten it is multiplied by.
    """

    value: Fraction
    decimals: int
    digits: int
    percent: bool
    power: int = 0


def read(text: str, *, short_units: bool = False) -> Number | None:
    """The one number of an answer, or None; ``short_units`` takes a single letter (``5 m``) for a unit too."""
    found = split(text)
    return found[0] if found is not None and is_unit(found[1], short_units) else None


def split(text: str) -> tuple[Number, str] | None:
    """The number that an answer begins with, and whatever follows it."""
    text = plain(text).strip().strip("*_")
    return split_side(THOUSANDS.sub("", text[max(text.rfind("="), text.rfind("≈")) + 1 :]))


def split_side(text: str) -> tuple[Number, str] | None:
    """As `split`, for plain text without an equals sign and without the commas of thousands."""
    text = text.strip()
    if len(text) > _LONGEST:
        return None
    match = _READ.fullmatch(text)
    value = _value(match) if match is not None else None
    if match is None or value is None:
        return None
    negative = "-" in ((match["sign"] or "") + (match["sign2"] or ""))
    written = match["decimal"] or ""
    number = Number(
        value=-value if negative else value,
        decimals=len(written.partition(".")[2]),
        digits=len(written.replace(".", "").lstrip("0")),
        percent=match["percent"] is not None,
        power=int(match["power"] or match["power2"] or 0),
    )
    return number, match["unit"]


def sole(text: str) -> Number | None:
    """The only number of a sentence with two words or more; None where there are several, or it is a part of maths."""
    text = plain(text).replace("**", "")
    found = _SOLE.findall(text)
    if len(found) != 1 or len(_WORDS.findall(text)) < 2 or _MATHS.search(text):
        return None
    return read(found[0][0]) if _NO_UNITS.match(found[0][1]) is None else None


def is_unit(unit: str, short_units: bool) -> bool:
    """Whether what follows a number is a unit, which leaves its value as it is."""
    fits = _UNIT.fullmatch(unit) or (short_units and _SHORT_UNIT.fullmatch(unit))
    return bool(fits) and not changes_value(unit)


def changes_value(unit: str) -> bool:
    """Whether words behind a number (million, dozen, pi, …) make another number of it."""
    return _NO_UNITS.search(unit) is not None


def _value(match: re.Match[str]) -> Fraction | None:
    """The exact value without its sign; None for a division by zero and for powers beyond any use."""
    if match["whole"]:
        part, parts = int(match["part"]), int(match["parts"])
        return int(match["whole"]) + Fraction(part, parts) if parts else None
    if match["top"]:
        top, bottom = int(match["top"]), int(match["bottom"])
        return Fraction(top, bottom) if bottom else None
    power = int(match["power"] or match["power2"] or 0)
    if abs(power) > _LARGEST_EXPONENT:  # an exact value of that size would fill the memory
        return None
    return Fraction(Decimal(match["decimal"])) * Fraction(10) ** power


def equal(given: Number, reference: Number) -> bool:
    """Whether ``given`` counts as ``reference`` by the module's rules."""
    allowed = _RELATIVE * abs(reference.value)
    if reference.decimals >= 2 or (reference.decimals and reference.digits >= 3):
        allowed = max(allowed, Fraction(1, 2 * 10**reference.decimals))
    pairs = ((a, b) for a in _readings(given, reference) for b in _readings(reference, given))
    return any(abs(a - b) <= allowed for a, b in pairs)


def _readings(number: Number, other: Number) -> tuple[Fraction, ...]:
    """25 % against a number without a percent sign: 25 and 0.25."""
    return (number.value, number.value / 100) if number.percent and not other.percent else (number.value,)


def agree(one: Number, other: Number, *, rounded: bool) -> bool:
    """Whether two numbers are the same value as far as their digits show it.

    Decimals may be rounded or cut off in their last digit (``2/3`` and ``0.66``), whole numbers only be rounded, and
    only where that is said (``rounded``).
    """
    allowed = max(_last_digit(one, rounded=rounded), _last_digit(other, rounded=rounded))
    pairs = ((a, b) for a in _readings(one, other) for b in _readings(other, one))
    return any(abs(a - b) <= max(allowed, _RELATIVE * max(abs(a), abs(b))) for a, b in pairs)


def _last_digit(number: Number, *, rounded: bool) -> Fraction:
    """What may be missing from a number after its last digit; nothing from a fraction."""
    share = Fraction(1) if number.decimals else Fraction(1, 2) if rounded and number.digits else Fraction(0)
    return share * Fraction(10) ** (number.power - number.decimals)
