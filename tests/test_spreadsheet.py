"""CSV files: nothing that a spreadsheet runs, and nothing lost."""

from __future__ import annotations

import csv
import io
import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from innerloop.printable import printable
from innerloop.spreadsheet import read, read_csv, write_csv, written

PLAIN = [
    *("", "x", "gsm8k", "a,b", 'say "x"', "4", "-3.5", "+1e-9", "-12", "50%", "-.5", "nan", "-inf", "q-1", "a=b"),
    *("a;b", r"\frac{1}{2}", r"\xi + \tau", r"\\x", "Zoë 中文 θ", "1;-2", "two\nlines"),
]  # fmt: skip
FORMULAS = [
    *("=1+2", "=cmd|' /C calc'!A0", "+1+1", "-2+3+cmd|' /C calc'!A0", "@SUM(1)", "=HYPERLINK(\"http://evil\")", "-x"),
    *(" =1", "\u00a0=1", '"=1', "'=1", " ' \"=1", "＝1", "＋1", "－1+1", "＠A", "\u3000＝1", "﹦1"),
    *("x;=1", "x\n=1", "x;\"=1", "x\n ;+1+1", "-3.5;=1"),
]  # fmt: skip
HIDDEN = [
    *("\t=1", "\r=1", "\ufeff=1", "\u200b=1", "\x00=1", "\x1b]0;owned\x07", "\u202e", "\x85", "\u2028", "\ud800"),
    *("\x1b1b", "\\\x1b", "\\\\\x1b", "\\x1b", "\\\\x1b", "\\u202e", "\\U000e0041", "\\Uffffffff", "\\x1\x1b", "x1b"),
]  # fmt: skip


def runs(part: str) -> bool:
    """Whether a spreadsheet may take a cell for a formula: another way to ask."""
    rest = "".join(c for c in part if not (unicodedata.category(c) in ("Zs", "Cc", "Cf") or c in "\"'"))
    first = unicodedata.normalize("NFKC", rest[:1])
    try:
        float(part.strip().removesuffix("%"))
    except ValueError:
        return first in ("=", "+", "-", "@") and not part.lstrip().startswith("'")
    return False


def cells(text: str) -> list[str]:
    """The cells of a file for readers that separate by commas, semicolons or tabs."""
    found = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
    return found + [part.strip('"') for line in text.splitlines() for part in line.split(";")[1:]]


@pytest.mark.parametrize("text", PLAIN)
def test_ordinary_cells_stand_as_they_are(text: str) -> None:
    assert written(text) == text
    assert next(iter(read_csv(write_csv(["a", "b"], [[text, 1]])))) == {"a": text, "b": "1"}


@pytest.mark.parametrize("text", FORMULAS + HIDDEN)
def test_no_cell_begins_a_formula_and_what_was_written_is_read(text: str) -> None:
    table = write_csv(["a", "b"], [[text, text], ["x", None]])
    assert [cell for cell in cells(table) if runs(cell)] == []
    assert {letter for letter in table if letter != "\n" and printable(letter) != letter} == set()
    assert list(read_csv(table)) == [{"a": text, "b": text}, {"a": "x", "b": ""}]
    if text in FORMULAS[:18]:
        assert written(text) == f"'{text}"


_LETTERS = st.text(st.sampled_from("=+-@'\"\\;\n\t\r xuU0123456789abcdef\x1b\u202e＝"), max_size=12) | st.text(
    max_size=8
)


@given(_LETTERS)
@example("\\x1b")
@example("'=")
def test_any_text_comes_back_and_is_no_formula(text: str) -> None:
    assert read(written(text)) == text
    table = write_csv(["a"], [[text], ["end"]])
    assert [cell for cell in cells(table) if runs(cell)] == []
    # The csv module skips lines without a cell, and quotes the empty cell of a line of one.
    assert [row["a"] for row in read_csv(table)] == [text, "end"]


@given(_LETTERS, _LETTERS)
def test_two_texts_are_two_cells(one: str, other: str) -> None:
    assert (written(one) == written(other)) == (one == other)


def test_long_cells_are_written_and_read_in_time() -> None:
    began = time.process_time()
    for text in ("\\" * 100_000, "\\" * 100_000 + "\x1b", "'" * 100_000, " " * 100_000, ";" * 100_000, "=" * 200_000):
        assert next(iter(read_csv(write_csv(["a"], [[text]]))))["a"] == text
    assert time.process_time() - began < 5


def test_numbers_of_ours_stay_numbers() -> None:
    table = write_csv(["a", "b", "c"], [[-3.5, "-3.5", None]])
    assert table == "a,b,c\n-3.5,-3.5,\n"
