r"""LaTeX answers as plain text: ``\text{north west}`` → ``north west``, ``\frac{1}{2}`` → ``1/2``."""

from __future__ import annotations

import re

_MATHS = re.compile(  # what opens again before it closes is no pair: a million \( must not take a million scans
    r"\\\(((?:(?!\\\().)*?)\\\)|\\\[((?:(?!\\\[).)*?)\\\]|(?<!\\)\$((?:[^$\\]|\\.)*)\$", re.DOTALL
)
_WRAPPERS = re.compile(r"\\(?:text(?:bf|it|rm|tt|sf)?|math(?:rm|bf|it|sf)|operatorname|mbox)\s*+\{([^{}]*)\}")
_FRACTION = re.compile(r"\\[dtc]?frac\s*+(?:\{([^{}]*+)\}|(\d))\s*+(?:\{([^{}]*+)\}|(\d))")
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
    text = _MATHS.sub(lambda match: next(filter(None, match.groups()), ""), text)
    text = _LAYOUT.sub("", text)
    for old, new in _REPLACED:
        text = text.replace(old, new)
    for _ in range(3):  # wrappers hold wrappers, but not many
        text = _WRAPPERS.sub(r"\1", text)
    text = _FRACTION.sub(lambda m: f"{m[1] or m[2]}/{m[3] or m[4]}", text)
    return text.strip()


def folded(text: str) -> str:
    """For comparison: plain, one space for any space, no matter the case."""
    return " ".join(plain(text).split()).casefold()
