"""Text of models and files inside LaTeX and Markdown, where it stays text."""

from __future__ import annotations

import re

from innerloop.printable import printable

_LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "|": r"\textbar{}",
    "τ": r"$\tau$",
    "−": "$-$",
    "–": "--",
    "<": "$<$",
    ">": "$>$",
    "[": "{[}",  # a row that begins with a bracket would be an argument of the line break before it,
    "*": "{*}",  # and one that begins with a star a part of it
}
_MARKDOWN = {c: f"\\{c}" for c in "\\`*|~$"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
_LINK = re.compile(r"](?=[(\[])")
_EMPHASIS = re.compile(r"(?<![^\W_])_|_(?![^\W_])")


def latex(text: str) -> str:
    """One line of LaTeX that sets ``text``. Letters that a font or pdfLaTeX may lack stay as they are."""
    return "".join(_LATEX.get(letter, letter) for letter in flat(text))


def latex_comment(text: str) -> str:
    """A comment of one line."""
    return f"% {flat(text)}"


def markdown(text: str) -> str:
    """One line of Markdown that shows ``text``: no HTML, no link, no image, no end of a table's cell."""
    safe = "".join(_MARKDOWN.get(letter, letter) for letter in flat(text))
    safe = _LINK.sub(r"\\]", safe)  # of a link; other brackets are brackets
    safe = f"\\{safe}" if safe.startswith("[") else safe  # what a link leads to stands at the start of a line
    return _EMPHASIS.sub(r"\\_", safe)


def flat(text: str) -> str:
    """One line of printable characters."""
    return printable(" ".join(text.split()))
