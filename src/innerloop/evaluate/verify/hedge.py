r"""Answers that state two values where one was asked for: ``3 \approx 8``, ``3 \to 8``, ``3 or 8``, ``x = 3, x = 8``.

An answer is cut where it goes from one value to another: at relations, arrows, commas outside of brackets, and words
such as ``or``. A part that is a number (``8 dollars``) or a formula without letters (``2\sqrt{3}``) states a value;
names (``x``, ``\angle ABC``) state none. The values must be the same one, as far as their digits show it:
``2/3 ≈ 0.667`` states one value, ``5 + 3 = 8`` too. An equation that something follows from (``2x = 6 ⟹ x = 3``)
states no value of its own. Numbers with different units (``1.5 hours = 90 minutes``) are not compared; the last counts.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from innerloop.evaluate.verify.plain import folded, plain
from innerloop.evaluate.verify.reading import THOUSANDS, Number, agree, is_unit, split_side

_MOST = 8  # parts at the beginning of an answer that are compared, and as many at its end
REASON = "the final answer states two values"

_NEARLY = re.compile(r"\\(?:approx|approxeq|thickapprox|sim|simeq|cong|doteq|asymp)(?![A-Za-z])|[≃≅∼≐]|(?<=\s)~(?=\s)")
_SAME = re.compile(r"\\(?:equiv|propto|n?eq?|[lg]eq?q?|[lg]t)(?![A-Za-z])|[≡≠≤≥<>∝]")
_APART = re.compile(
    r"\\(?:begin|end|stackrel|overset|underset|hspace|x[a-z]*arrow)\s*+\{[^{}]*+\}"
    r"|\\(?:to|gets|iff|implies|impliedby|l?or|l?and|vee|wedge|cup|cap|mid|parallel|therefore|because|q?quad|[lc]?dots|newline"
    r"|(?:long)?mapsto|boxed|fbox|substack|[A-Za-z]*arrow)(?![A-Za-z])"
    r"|\\(?:text|math|mbox|operatorname)[a-z]*+\s*+\{(?=[^{}\d]*+\d)"  # a number in words is one of its own
    r"|\\\\|[→⇒⟶⟹↦⟼←⇐↔⇔⟺∨∧∪∩∴∵；，、…&\n]|[=-]>|\.{2,}|\.(?=\s)"
)
_WORDS = re.compile(
    r"(?<![A-Za-z])(?:or|and|but|not|to|vs|versus|i\.?e|aka|resp|rather|than|alternatively|maybe|perhaps|possibly|otherwise"
    r"|either|then|else)(?![A-Za-z])",
    re.IGNORECASE,
)
_SEVERAL = re.compile(r"[,;\[\]±∪∞]|\\(?:pm|mp|cup|infty|begin|\\|\{)|\b(?:or|and)\b")
_MARK = re.compile(r"[;,()\[\]{}]")
_DEPTH = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}
_EQUALS = re.compile(r":?=+|≈")
_DIGIT = re.compile(r"\d|\\pi(?![A-Za-z])|π")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_LETTER = re.compile(r"(?!π)[^\W\d_]")


@dataclass(frozen=True, kw_only=True)
class Value:
    """A value that an answer states: its text, and the number with its unit where it is a plain one."""

    text: str
    number: Number | None = None
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class Stated:
    """The values of an answer in order. ``rounded``: some of it is said to be so nearly."""

    values: tuple[Value, ...]
    rounded: bool

    @property
    def formulas(self) -> bool:
        """Whether it takes algebra to compare them."""
        return len(self.values) > 1 and any(value.number is None for value in self.values)

    @property
    def converted(self) -> bool:
        """Whether the numbers have different units: then only the last one is the answer."""
        return len({value.unit for value in self.values if value.unit}) > 1

    @property
    def differ(self) -> bool:
        """Whether two of the plain numbers are different values."""
        plain_ones = [value for value in self.values if value.number is not None]
        return any(
            _differ(value, other, rounded=self.rounded) for other, value in itertools.combinations(plain_ones, 2)
        )


def single(reference: str) -> bool:
    """Whether a reference is one value, so that an answer may state one only."""
    text = THOUSANDS.sub("", plain(reference))
    return _SEVERAL.search(text) is None and len(stated(reference).values) <= 1


def stated(answer: str) -> Stated:
    """The values that an answer states."""
    text = plain(_SAME.sub("=", _APART.sub(";", _NEARLY.sub("≈", answer))))
    statements = _statements(THOUSANDS.sub("", _WORDS.sub(";", text)))
    values: list[Value] = []
    for statement in _ends(statements):
        sides = [_trimmed(side) for side in _ends(_EQUALS.split(statement))]
        own = [value for side in sides if (value := _value(side)) is not None]
        equation = (
            len(own) == 1 and len(sides) > 1 and any(_DIGIT.search(side) for side in sides if side != own[0].text)
        )
        values += [] if equation and len(statements) > 1 else own
    return Stated(values=tuple(values), rounded="≈" in text)


def _statements(text: str) -> list[str]:
    """The parts between semicolons, and between commas outside of brackets."""
    found, start, depth = [], 0, 0
    for mark in _MARK.finditer(text):
        if mark.group() == ";" or (mark.group() == "," and not depth):
            found.append(text[start : mark.start()])
            start, depth = mark.end(), 0
        else:
            depth = max(depth + _DEPTH.get(mark.group(), 0), 0)
    return [*found, text[start:]]


def _ends(parts: list[str]) -> list[str]:
    """The first and the last ones, which are all that anybody could take for the answer."""
    return [*parts[:_MOST], *parts[_MOST:][-_MOST:]]


def _trimmed(side: str) -> str:
    """Without the brackets that belong to what was cut off."""
    side = side.strip().rstrip("{([ \t\n").lstrip("}]) \t\n").rstrip("*_. ").lstrip("*_ ")
    return side.rstrip("}]) ") if not set("{[(").intersection(side) else side


def _value(side: str) -> Value | None:
    found = split_side(side)
    if found is not None and is_unit(found[1], short_units=True):
        return Value(text=side, number=found[0], unit=folded(found[1]).rstrip("s."))
    formula = _DIGIT.search(side) and not _LETTER.search(_COMMAND.sub(" ", side))
    return Value(text=side) if formula and _balanced(side) else None


def _balanced(side: str) -> bool:
    depth = 0
    for mark in _MARK.finditer(side):
        depth += _DEPTH.get(mark.group(), 0)
        if depth < 0:
            return False
    return depth == 0


def _differ(one: Value, other: Value, *, rounded: bool) -> bool:
    assert one.number is not None
    assert other.number is not None
    comparable = not (one.unit and other.unit) or one.unit == other.unit
    return comparable and not agree(one.number, other.number, rounded=rounded)
