"""The kinds of values that an answer can be."""

from __future__ import annotations

from dataclasses import dataclass

from innerloop.evaluate.verify.values.tokens import Token
from innerloop.evaluate.verify.values.tree import Node, Number
from innerloop.evaluate.verify.values.units import Unit


@dataclass(frozen=True)
class Quantity:
    """A number or formula with its unit.

    ``rounded`` is the decimal that an answer gives beside an exact value (``2/3 ≈ 0.667``); ``mixed``: the unit is one
    of several (``5 hours 30 minutes``), so that there is no number without it.
    """

    node: Node
    unit: Unit | None = None
    percent: bool = False
    rounded: Number | None = None
    mixed: bool = False


@dataclass(frozen=True)
class Text:
    """Words, folded."""

    words: str


@dataclass(frozen=True)
class Option:
    """The letter of a choice, and what is said of it."""

    letter: str
    rest: Value | None


@dataclass(frozen=True)
class Ratio:
    """``2:1``, or a time of day; ``half`` is am or pm. ``written`` are the parts as digits, where they are digits."""

    parts: tuple[Node, ...]
    half: str = ""
    written: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tuple:
    """Values in order between brackets: a tuple, a list, an interval, an endless series (opening ``…``)."""

    items: tuple[Value, ...]
    opening: str
    closing: str


@dataclass(frozen=True)
class Collection:
    """Values in any order. Braces make a set, where repeats do not count."""

    items: tuple[Value, ...]
    braces: bool = False


@dataclass(frozen=True)
class Interval:
    """Real numbers from ``low`` to ``high``; an end that is infinite is open."""

    low: Node
    high: Node
    low_closed: bool
    high_closed: bool


@dataclass(frozen=True)
class Region:
    """A union of intervals; of real numbers, or of values of ``letter``."""

    intervals: tuple[Interval, ...]
    letter: str = ""


@dataclass(frozen=True)
class Matrix:
    """Rows of formulas; ``fence`` is what stands around them, where it means something (a determinant)."""

    rows: tuple[tuple[Value, ...], ...]
    fence: str = ""


@dataclass(frozen=True)
class Relation:
    """Two sides and the sign between them: ``=``, ``<``, ``≤``, ``≠``, ``∈``, …; the larger side is the right one."""

    left: Value
    sign: str
    right: Value


@dataclass(frozen=True)
class System:
    """Relations, and values where they are mixed with such, that hold together (or in turn: ``either``)."""

    parts: tuple[Value, ...]
    either: bool = False


@dataclass(frozen=True)
class Several:
    """Values that contradict each other: none is the answer."""

    items: tuple[Value, ...]


@dataclass(frozen=True)
class Unread:
    """What the reader does not know; equal only to the same signs."""

    tokens: tuple[Token, ...]
    reason: str


Value = Quantity | Text | Option | Ratio | Tuple | Collection | Region | Matrix | Relation | System | Several | Unread
