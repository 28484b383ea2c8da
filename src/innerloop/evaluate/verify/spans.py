r"""Parts of a line that belong together: maths, quoted texts and brackets. And which ``$`` is maths, which an amount.

A pair of dollar signs is maths (``$x$ and $y$``), unless it begins like an amount and ends like the beginning of
another one: ``$40, because 8 hours at $5``, ``$1,200 ($100``, ``$15.00+$9.00``. An escaped ``\$`` is always an amount.
Everything here takes time in proportion to the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_CLOSING = {"\\(": "\\)", "\\[": "\\]", "$$": "$$"}
_AMOUNT = re.compile(r"\s*+[-+−]?\s*+\.?\d")
_TEXT = re.compile(r"\\(?:text|mbox|mathrm|operatorname)[a-z]*+\s*+\{[^{}]*+\}|\\[A-Za-z]++")
_WORD = re.compile(r"[^\W\d_]{2,}+")
_TOKEN = re.compile(r"\\[^\n]|[$\"“‘`'()\[\]{}]")
_QUOTES = {'"': '"', "“": "”", "‘": "’", "`": "`", "'": "'"}
_OPENING = frozenset({"(", "[", "{", "\\{"})
_ENDING = frozenset({")", "]", "}", "\\}"})


@dataclass(frozen=True)
class Maths:
    """Maths between delimiters: what it holds, and where it ends."""

    content: str
    end: int


def maths_at(text: str, start: int = 0) -> Maths | None:
    """The maths whose opening delimiter is at ``start``; None where none is, and where the ``$`` is of an amount."""
    opening = text[start : start + 2]
    if opening in _CLOSING:
        closing = _CLOSING[opening]
        end = text.find(closing, start + 2)
        return Maths(text[start + 2 : end].strip(), end + 2) if end > start + 1 else None
    if not opening.startswith("$"):
        return None
    end = _unescaped(text, "$", start + 1)
    content = text[start + 1 : end]
    if end < 0 or "\n\n" in content or _is_amount(content, text[end + 1 : end + 2]):
        return None
    return Maths(content.strip(), end + 1)


def together(line: str) -> list[tuple[int, int]]:
    """The outermost spans that are maths, quoted or in brackets, in order; what is never closed is no span."""
    found: list[tuple[int, int]] = []
    opened: list[int] = []
    never: set[str] = set()  # delimiters known not to close from here on
    place = 0
    while (token := _TOKEN.search(line, place)) is not None:
        place = token.end()
        mark = token.group()
        if mark in _OPENING:
            opened.append(token.start())
            continue
        closes = mark in _ENDING
        start = token.start() if not closes else opened.pop() if opened else None
        end = place if closes else _end(line, token, never)
        if start is None or end is None:
            continue
        while found and found[-1][0] > start:
            found.pop()
        found.append((start, end))
        place = end
    return found


def outside(spans: list[tuple[int, int]], breaks: Iterator[re.Match[str]]) -> Iterator[re.Match[str]]:
    """The matches, which come in order, that begin in none of the spans."""
    left = iter(spans)
    start, end = next(left, (0, 0))
    for match in breaks:
        while end and match.start() >= end:
            start, end = next(left, (0, 0))
        if not (end and start <= match.start() < end):
            yield match


def _end(line: str, token: re.Match[str], never: set[str]) -> int | None:
    mark, start = token.group(), token.start()
    if mark in never:
        return None
    if mark in ("$", "\\(", "\\["):
        maths = maths_at(line, start)
        if maths is None and mark != "$":
            never.add(mark)
        return maths.end if maths is not None else None
    if mark not in _QUOTES or _follows(line, start, mark):
        return None
    end = _unescaped(line, _QUOTES[mark], start + 1)
    while mark == "'" and end > 0 and line[end + 1 : end + 2].isalnum():  # an apostrophe
        end = _unescaped(line, "'", end + 1)
    if end < 0:
        never.add(mark)
        return None
    return end + 1


def _follows(line: str, place: int, mark: str) -> bool:
    """Whether a quotation mark is an apostrophe (``dogs'``) or inches (``6"``) because of what it follows."""
    before = line[max(0, place - 1) : place]
    return before.isdigit() if mark == '"' else mark == "'" and before.isalnum()


def _unescaped(text: str, mark: str, start: int) -> int:
    place = text.find(mark, start)
    while place > 0 and text[place - 1] == "\\":
        place = text.find(mark, place + 1)
    return place


def _is_amount(content: str, after: str) -> bool:
    """Whether what stands between two dollar signs begins with an amount and runs up to the next one."""
    if _AMOUNT.match(content) is None:
        return False
    if after.isdigit() or (content[-1].isspace() and not content[0].isspace()):
        return True
    words = _WORD.findall(_TEXT.sub(" ", content))
    return content.rstrip()[-1] in "([{=+-−*/×÷<>≈,;:–—" or len(words) > 1
