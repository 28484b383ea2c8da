r"""Whether a regular expression of a tokenizer takes reasonable time on every text.

tokenizers matches with Oniguruma, which goes back and tries again: ``(a+)+b`` or ``a*a*a*b`` take longer than anyone
waits on a line of a's, and nothing can end them. So expressions are read here, and those are let through that

- repeat without bound only what has one length and no choices (a character, a class, ``\p{N}{3}``);
- have at most two such loops, or one and something behind it that can fail, that the same character passes through,
  so that time is at worst quadratic in the length of the text;
- have few optional parts and alternatives behind each other, whose combinations are all tried.

The expressions of the models in use keep to that. What is not understood (back references, calls, conditions, code) is
refused. Characters are told apart by samples: all of ASCII, some of each category, and those that the expression names.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

import regex

_LONGEST = 20_000  # characters of an expression
_DEEPEST = 30
_MOST_LOOPS, _MOST_CHOICES = 2, 10
_BOUND = 16  # {0,N} with a larger N counts as unbounded
_LAST = 0x2FFFF

# Lazy and possessive ones read as the others: they differ in what is tried first.
_QUANTIFIER = regex.compile(r"([*+?])[?+]?|\{(\d{0,6})(?:(,)(\d{0,6}))?\}\??")
_ESCAPE = regex.compile(r"\\(?:[pP]\{\^?[\w =&:-]+\}|x\{[0-9a-fA-F]+\}|x[0-9a-fA-F]{1,2}|u[0-9a-fA-F]{4}|[a-zA-Z\W_])")


class SlowError(ValueError):
    """An expression that is refused; the message says why."""


@dataclass(frozen=True)
class _Part:
    """A part of an expression, as far as time goes.

    ``loops``: for each sample, how many loops can pass over it, on the worst way through; ``open``: samples that a loop
    can pass over which something that can fail comes behind. ``chars``: samples that can be in a match.
    """

    chars: frozenset[str] = frozenset()
    loops: dict[str, int] = field(default_factory=dict)
    open: frozenset[str] = frozenset()
    choices: int = 0
    fails: bool = True  # it can fail to match

    @property
    def fixed(self) -> bool:
        """It matches in one way only."""
        return not self.loops and not self.choices

    def then(self, other: _Part) -> _Part:
        """This, and the other one behind it."""
        both = self.loops.keys() | other.loops.keys()
        opened = self.open | (self.loops.keys() if other.fails else frozenset())
        return _Part(
            self.chars | other.chars,
            {char: self.loops.get(char, 0) + other.loops.get(char, 0) for char in both},
            frozenset(char for char in opened if char not in other.loops) | other.open,
            self.choices + other.choices,
            self.fails or other.fails,
        )

    def otherwise(self, other: _Part) -> _Part:
        """This or the other one."""
        both = self.loops.keys() | other.loops.keys()
        return _Part(
            self.chars | other.chars,
            {char: max(self.loops.get(char, 0), other.loops.get(char, 0)) for char in both},
            self.open | other.open,
            max(self.choices, other.choices),
            self.fails and other.fails,
        )


_NOTHING = _Part(fails=False)


def check(pattern: str) -> None:
    """Raises `SlowError` for an expression that may take unreasonable time, or that is not understood."""
    if len(pattern) > _LONGEST:
        raise SlowError(f"has {len(pattern):,} characters")
    reader = _Reader(pattern)
    for part in reader.branches(0):
        _weigh(part)
    if reader.at < len(pattern):
        raise SlowError(f"has an unmatched ) at {reader.at}")


def _weigh(part: _Part) -> None:
    for char, loops in part.loops.items():
        if loops + (char in part.open) > _MOST_LOOPS:
            raise SlowError(f"has loops behind each other that all pass over {char!r}")
    if part.choices > _MOST_CHOICES:
        raise SlowError(f"has {part.choices} optional parts or choices behind each other")


class _Reader:
    """Reads an expression from its begin to its end."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._samples = _samples() | set(pattern)
        self._known: dict[str, frozenset[str]] = {}
        self.at = 0

    def branches(self, depth: int) -> list[_Part]:
        """The alternatives up to the closing bracket or the end."""
        if depth > _DEEPEST:
            raise SlowError("has too many brackets within each other")
        found = [self._sequence(depth)]
        while self._next("|"):
            found.append(self._sequence(depth))
        return found

    def _next(self, expected: str) -> bool:
        """Steps over ``expected`` where that comes next."""
        if self._pattern.startswith(expected, self.at):
            self.at += len(expected)
            return True
        return False

    def _sequence(self, depth: int) -> _Part:
        found = _NOTHING
        while self.at < len(self._pattern) and self._pattern[self.at] not in "|)":
            found = found.then(self._repeated(self._atom(depth)))
        return found

    def _repeated(self, part: _Part) -> _Part:
        """The part with the quantifiers behind it."""
        while (bounds := self._quantifier()) is not None:
            least, most = bounds
            if most is None or most > _BOUND:
                if not part.fixed:
                    raise SlowError(f"repeats what has several ways to match, up to {self.at}")
                part = _Part(part.chars, dict.fromkeys(part.chars, 1), frozenset(), 0, least > 0)
            elif (least, most) != (1, 1):
                part = self._times(part, least, most)
        return part

    def _times(self, part: _Part, least: int, most: int) -> _Part:
        if part.loops and most > 1:
            raise SlowError(f"repeats what holds a loop, up to {self.at}")
        return _Part(part.chars, part.loops, part.open, part.choices * most + (most - least), least > 0 and part.fails)

    def _quantifier(self) -> tuple[int, int | None] | None:
        match = _QUANTIFIER.match(self._pattern, self.at)
        if match is None or match[0] in ("{}", "{,}"):  # which stand for themselves
            return None
        self.at = match.end()
        if match[1]:
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[match[1]]
        least = int(match[2] or 0)
        if match[3] is None:
            return least, least
        return least, int(match[4]) if match[4] else None

    def _atom(self, depth: int) -> _Part:
        char = self._pattern[self.at]
        if char == "(":
            return self._group(depth)
        if char == "[":
            return self._characters(self._class())
        if char == "\\":
            return self._escape()
        self.at += 1
        if char in "^$":
            return _Part()
        if char in "*+?":
            raise SlowError(f"has nothing to repeat at {self.at}")
        return self._characters("." if char == "." else regex.escape(char))

    def _group(self, depth: int) -> _Part:
        self.at += 1
        if self._next("?"):
            begin = regex.compile(r"[imsa-]*[:)]|[=!>]|<[=!]|P?<\w+>").match(self._pattern, self.at)
            if begin is None:
                raise SlowError(f"has a kind of group that is not read at {self.at}")
            self.at = begin.end()
            if begin[0].endswith(")"):
                return _NOTHING
        branches = self.branches(depth + 1)
        if not self._next(")"):
            raise SlowError("has an unmatched (")
        found = branches[0]
        for other in branches[1:]:
            found = found.otherwise(other)
        if len(branches) == 1:
            return found
        return _Part(found.chars, found.loops, found.open, found.choices + 1, found.fails)

    def _escape(self) -> _Part:
        match = _ESCAPE.match(self._pattern, self.at)
        if match is None or regex.fullmatch(r"\\[kgKcCM]", match[0]):
            raise SlowError(f"has an escape that is not read at {self.at}")
        self.at = match.end()
        if regex.fullmatch(r"\\[bBAzZG]", match[0]):
            return _Part()
        if regex.fullmatch(r"\\[RXNO]", match[0]):
            return _Part(frozenset(self._samples), choices=1)
        return self._characters(match[0])

    def _class(self) -> str:
        """The text of a class in brackets, with those inside it."""
        begin, depth = self.at, 0
        while self.at < len(self._pattern):
            char = self._pattern[self.at]
            self.at += 2 if char == "\\" else 1
            if char == "[":
                depth += 1
                self._next("^")
                self._next("]")  # stands for itself at the begin
            elif char == "]":
                depth -= 1
                if depth == 0:
                    return self._pattern[begin : self.at]
        raise SlowError("has an unmatched [")

    def _characters(self, atom: str) -> _Part:
        """A part of one character; all samples where it is not understood."""
        if atom not in self._known:
            try:
                one = regex.compile(f"(?s:{atom})", regex.V1 | regex.IGNORECASE)
                self._known[atom] = frozenset(char for char in self._samples if one.fullmatch(char))
            except regex.error:
                self._known[atom] = frozenset(self._samples)
        return _Part(self._known[atom])


@cache
def _samples() -> frozenset[str]:
    """ASCII, and some characters of each category, near the begin and the end of Unicode."""
    found: dict[str, list[str]] = {}
    for point in _points():
        char = chr(point)
        kind = unicodedata.category(char)
        if kind != "Cs" and len(found.setdefault(kind, [])) < 8:
            found[kind].append(char)
    return frozenset(map(chr, range(128))) | frozenset(char for chars in found.values() for char in chars)


def _points() -> Iterable[int]:
    yield from range(128, _LAST, 97)
    yield from (0x3B1, 0x416, 0x5D0, 0x627, 0x905, 0xE01, 0x3042, 0x30A2, 0x4E2D, 0xAC00, 0x1F600, 0xA0, 0x2028, 0x300)
    yield from range(128, 0x3000)
