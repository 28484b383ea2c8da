r"""CSV files that a spreadsheet shows and does not run, and that a terminal may be shown.

A cell that begins like a formula (``=``, ``+``, ``-`` or ``@``, in any width, also after spaces and quotation marks)
gets an apostrophe before it, which spreadsheets take for "this is text". The same holds for what follows a line break
or a semicolon, since half the world's spreadsheets separate cells by semicolons. Plain numbers stay numbers. Characters
that are not printable are written as ``\x1b``, ``\u202e`` or ``\U000e0041``; line breaks stay. `read_csv` takes all of
that back, so that what was written is what is read.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterable, Iterator, Sequence

from innerloop.printable import printable

# A spreadsheet takes full-width and small signs for the ordinary ones.
_FORMULA = re.compile("[\\s'\"`´“”„‘’«»]*[=+\\-@＝＋－＠﹢﹣﹦﹫]")
_NUMBER = re.compile(r"[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++|inf|nan)(?:[eE][+-]?[0-9]++)?%?")
_CELLS = re.compile("([;\n])")  # where a cell may begin for who separates by other signs than a comma
_CODE = "x[0-9a-f]{2}|u[0-9a-f]{4}|U00(?:0[0-9a-f]|10)[0-9a-f]{4}"
_WRITTEN = re.compile(rf"(?<!\\)(\\*+)(?:([^ -~\n])|(?={_CODE}))")
_READ = re.compile(rf"(?<!\\)(\\++)({_CODE})")


def write_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([written(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return text.getvalue()


def read_csv(text: str) -> Iterator[dict[str, str]]:
    """The rows of a file that `write_csv` wrote, by column; ``csv.Error`` for what is no CSV."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), restval=""))
    finally:
        csv.field_size_limit(before)
    for row in rows:
        yield {name: read(cell) for name, cell in row.items() if isinstance(name, str)}


def written(text: str) -> str:
    """A cell as it stands in the file."""
    if _NUMBER.fullmatch(text):
        return text
    first, *others = _CELLS.split(_escaped(text))
    formulas = [_FORMULA.match(first), *(_NUMBER.fullmatch(part) is None and _FORMULA.match(part) for part in others)]
    return "".join(f"'{part}" if formula else part for part, formula in zip((first, *others), formulas, strict=True))


def read(cell: str) -> str:
    """What was written as this cell."""
    parts = _CELLS.split(cell)
    return _unescaped("".join(part[1:] if part[:1] == "'" and _FORMULA.match(part) else part for part in parts))


def _escaped(text: str) -> str:
    """Backslashes are doubled only before what would be read as an escape, so LaTeX stays as it is."""

    def code(match: re.Match[str]) -> str:
        backslashes, letter = match[1], match[2]
        if letter is None:
            return 2 * backslashes
        if printable(letter) == letter:
            return match[0]
        return f"{2 * backslashes}\\{_code(ord(letter))}"

    return _WRITTEN.sub(code, text)


def _code(number: int) -> str:
    return f"x{number:02x}" if number < 0x100 else f"u{number:04x}" if number < 0x10000 else f"U{number:08x}"


def _unescaped(text: str) -> str:
    def letter(match: re.Match[str]) -> str:
        count, code = len(match[1]), match[2]
        return "\\" * (count // 2) + (chr(int(code[1:], 16)) if count % 2 else code)

    return _READ.sub(letter, text)
