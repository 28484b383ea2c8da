"""LaTeX and Markdown tables of names that are not meant well."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop import markup
from innerloop.evaluate import tables
from innerloop.printable import printable

HOSTILE = [
    "\n\n\\end{tabular}\\input{/etc/passwd}",
    "\r\\input{x}",
    "a\u2028\\input{x}",
    "50 % & more # of_it $x$ ~ ^^M ^^5cinput{x}",
    "\\write18{touch x}",
    "{\\catcode`\\%=12",
    "[1cm] x",
    "*x",
    "a | b | c",
    "<img src=x onerror=alert(1)><script>alert(1)</script>",
    "[here](javascript:alert(1)) ![i](http://evil.example/x.png)",
    "[x]: http://evil.example",
    "[x][y]",
    "`code` **bold** __bold__ ~~gone~~ $\\href{x}{y}$ &lt;b&gt;",
    "# heading\n---\n- item",
    "\x1b[31mred\x07 \u202e",
]
#: The commands that `latex` itself writes.
_OURS = re.compile(
    r"\\textasciitilde\{\}|\\textasciicircum\{\}|\\textbackslash\{\}|\\textbar\{\}|\$\\tau\$|\$[-<>]\$|\{\[\}|\{\*\}|\\[&%$#_{}]"
)


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_latex_sets_the_text_and_obeys_none_of_it(text: str) -> None:
    line = markup.latex(text)
    assert len(line.splitlines()) == 1
    rest = _OURS.sub("", line)
    assert not re.search(r"[\\{}$&#_^~%<>|\[*]", rest), rest
    assert printable(line) == line
    assert len(markup.latex_comment(text).splitlines()) == 1


@given(st.text())
def test_latex_leaves_no_letter_that_tex_obeys(text: str) -> None:
    rest = _OURS.sub("", markup.latex(text))
    assert not re.search(r"[\\{}$&#_^~%<>|\[*\n\r]", rest)
    assert printable(rest) == rest


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_markdown_shows_the_text_and_obeys_none_of_it(text: str) -> None:
    line = markup.markdown(text)
    assert len(line.splitlines()) == 1
    assert "<" not in line
    assert not re.search(r"&(?!lt;|gt;|amp;)", line)
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*|~$]", line)
    assert not re.search(r"(?<!\\)\](?=[(\[])", line)
    assert not line.startswith("[")
    assert printable(line) == line


def test_ordinary_text_stays_readable() -> None:
    assert markup.markdown("14.4 [8.1, 21.0]") == "14.4 [8.1, 21.0]"
    assert markup.markdown("smol_lm2-1.7B, avg@8") == "smol_lm2-1.7B, avg@8"
    assert markup.latex("avg@8 Zoë 中文") == "avg@8 Zoë 中文"


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_tables_have_the_lines_and_cells_that_they_should(text: str) -> None:
    table = (text, [text, text], [[text, "1"], ["x", text]])
    lines = tables.latex([table], [text]).splitlines()
    assert [line for line in lines if line.startswith("\\")][:1] == ["\\begin{tabular}{lr}"]
    assert sum(line.endswith(r" \\") for line in lines) == 3
    assert all(line.count(" & ") >= 1 for line in lines if line.endswith(r" \\"))
    assert sum("\\input" in line and not line.startswith("%") for line in lines) == 0
    text_lines = tables.markdown([table], [text]).splitlines()
    rows = [line for line in text_lines if line.startswith("| ")]
    assert len(rows) == 4
    assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) for row in rows} == {3}
