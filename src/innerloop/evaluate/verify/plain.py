r"""LaTeX answers as plain text: ``\text{north west}`` → ``north west``, ``\frac{1}{2}`` → ``1/2``."""

from __future__ import annotations

import re

from innerloop.text_forms import nfc

_MATHS = re.compile(  # what opens again before it closes is no pair: a million \( must not take a million scans
    r"\\\(((?:(?!\\\().)*?)\\\)|\\\[((?:(?!\\\[).)*?)\\\]|(?<!\\)\$((?:[^$\\]|\\.)*)\$", re.DOTALL
)
_WRAPPERS = re.compile(r"\\(?:text(?:bf|it|rm|tt|sf)?|math(?:rm|bf|it|sf)|operatorname|mbox)\s*+\{([^{}]*)\}")
_FRACTION = re.compile(r"\\[dtc]?frac\s*+(?:\{(?P<a>[^{}]*+)\}|(?P<b>\d))\s*+(?:\{(?P<c>[^{}]*+)\}|(?P<d>\d))")
_ONE = re.compile(r"-?(?:\d++(?:\.\d++)?|[^\W\d]\w*+|)")
_LAYOUT = re.compile(r"\\(?:left|right|displaystyle)(?!(?:right)?arrow)")
_REPLACED = (
    ("{,}", ","),
    ("^{\\circ}", "°"),
    ("^\\circ", "°"),
    ("\\times", "×"),
    ("\\cdot", "·"),
    ("\\approx", "≈"),
    ("\\%", "%"),
    ("\\$", "$"),
    ("\\#", "#"),
    ("\\&", "&"),
    ("\\_", "_"),
    ("\\{", "{"),
    ("\\}", "}"),
    ("\\,", ""),
    ("\\!", ""),
    ("\\;", " "),
    ("\\:", " "),
    ("\\ ", " "),
    ("~", " "),
    ("−", "-"),
)


def plain(text: str) -> str:
    """The text without LaTeX wrappers and spacing; what is no such wrapper stays as it is."""
    text = nfc(text)
    text = _MATHS.sub(lambda match: next(filter(None, match.groups()), ""), text)
    text = _LAYOUT.sub("", text)
    for old, new in _REPLACED:
        text = text.replace(old, new)
    for _ in range(3):  # wrappers hold wrappers, but not many
        text = _WRAPPERS.sub(r"\1", text)
    return _FRACTION.sub(_divided, text).strip()


def _divided(found: re.Match[str]) -> str:
    """``a/b``; in brackets what is more than a number or a name, and apart from the whole part of a mixed number."""
    parts = [(one or other).strip() for one, other in (found.group("a", "b"), found.group("c", "d"))]
    top, bottom = (part if _ONE.fullmatch(part) else f"({part})" for part in parts)
    before, after = (found.string[place : place + 1] for place in (max(found.start() - 1, 0), found.end()))
    space = " " if found.start() and before.isdigit() else ""
    return f"{space}{top}/{bottom}{' ' if after.isalnum() else ''}"


def folded(text: str) -> str:
    """For comparison: plain, one space for any space, no matter the case."""
    return " ".join(plain(text).split()).casefold()
