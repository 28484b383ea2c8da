r"""Finding what stands inside ``\boxed{}``."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(r"\\(?:boxed|fbox)\s*+\{|\\(?:boxed|fbox)\s++(?P<bare>[^\s\\${}]++)|\\[\\{}]|[{}]")
_SPACE = re.compile(r"\s*+")


@dataclass(frozen=True)
class Box:
    """One closed box: its place in the text, and the place of what it holds."""

    text: str
    start: int
    end: int
    inner_start: int
    inner_end: int

    @property
    def content(self) -> str:
        """What it holds, without space around it."""
        return self.text[self.inner_start : self.inner_end].strip()


def boxes(text: str) -> list[Box]:
    r"""The closed boxes that hold something, by where they end.

    Braces are matched in one pass, escaped ones do not count; a box that is never closed is no box, and the empty
    ``\boxed{}`` of a repeated instruction is none either. ``\boxed 5`` holds the next word.
    """
    found = []
    opened: list[re.Match[str]] = []
    for token in _TOKEN.finditer(text):
        mark = token.group()
        if token["bare"] is not None:
            found.append(Box(text, token.start(), token.end(), *token.span("bare")))
        elif mark == "}":
            start = opened.pop() if opened else None
            if start is not None and start.group() != "{" and _after_space(text, start.end()) < token.start():
                found.append(Box(text, start.start(), token.end(), start.end(), token.start()))
        elif mark.endswith("{") and mark != r"\{":
            opened.append(token)
    return found


def last_boxed(text: str) -> str | None:
    r"""What the last closed box holds, unwrapped where that is a box again; None without one."""
    box: Box | None = None
    for outer in reversed(boxes(text)):  # a box that fills the one around it ends just before that one
        if box is not None and not _fills(outer, box):
            break
        box = outer
    return box.content if box is not None else None


def _fills(inner: Box, outer: Box) -> bool:
    begins = _after_space(outer.text, outer.inner_start) == inner.start
    return begins and _after_space(outer.text, inner.end) >= outer.inner_end


def _after_space(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    assert match is not None
    return match.end()
