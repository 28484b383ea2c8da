r"""Finding what stands inside ``\boxed{}``."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(r"\\(?:boxed|fbox)\s*\{|\\(?:boxed|fbox)\s+(?P<bare>[^\s\\${}]+)|\\[\\{}]|[{}]")


@dataclass(frozen=True)
class Box:
    """One closed box: its place in the text, and what it holds, without space around it."""

    start: int
    end: int
    content: str


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
            found.append(Box(token.start(), token.end(), token["bare"]))
        elif mark == "}":
            start = opened.pop() if opened else None
            if start is not None and start.group() != "{":
                found.append(Box(start.start(), token.end(), text[start.end() : token.start()].strip()))
        elif mark.endswith("{") and mark != r"\{":
            opened.append(token)
    return [box for box in found if box.content]


def last_boxed(text: str) -> str | None:
    r"""What the last closed box holds, unwrapped where that is a box again; None without one."""
    found = boxes(text)
    if not found:
        return None
    content = found[-1].content
    inner = boxes(content)
    whole = inner and inner[-1].start == 0 and inner[-1].end == len(content)
    return last_boxed(content) if whole else content
