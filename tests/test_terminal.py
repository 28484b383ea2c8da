"""What reaches a terminal: our own colours and bars, and no control character of a model, a file or a server."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from innerloop import progress as progress_module
from innerloop.errors import InputError
from innerloop.printable import one_line, printable, shell_words
from innerloop.progress import progress
from innerloop.terminal import Console, Guarded, guarded, raw

Cli = Callable[..., Any]

TITLE = "\x1b]0;owned\x07"
HOSTILE = [
    TITLE,
    "\x1b[2J\x1b[31mred\x1b[0m",
    "\x1b]8;;http://evil.example\x1b\\a link\x1b]8;;\x1b\\",
    "\x1bPq#0;2;0;0;0\x1b\\",
    "\x9b31m\x9d0;owned\x9c",
    "gone\r\x08\x7f",
    "a\tb\vc\fd",
    "a\nnext: rm -rf /",
    "\u202egnp.exe\u2066\u2069\u200e",
    "zero\u200bwidth\u2060\ufeff\u00ad",
    "lines\u2028and\u2029\x85paragraphs",
    "tags\U000e0041\U000e007f",
    "fillers\u3164\u115f\u2800",
    "half \ud83d of a pair",
    "[bold red]markup[/] [link=http://evil.example]here[/link] [/nothing]",
    ":skull: :smile:",
]
#: What rich writes for colours, the cursor and bars.
_RICH = re.compile(r"\x1b\[[0-9;]*[mAGKJ]|\x1b\[\?25[lh]|\r")


def unprintable(text: str, ours: re.Pattern[str] | None = None) -> set[str]:
    """The characters of a text that a terminal should never see."""
    rest = ours.sub("", text) if ours else text
    return {letter for letter in rest if letter != "\n" and printable(letter) != letter}


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


# Text


def test_of_all_characters_only_those_stay_that_can_be_seen() -> None:
    for code in (*range(0x11000), *range(0x1F000, 0x20000), *range(0xE0000, 0xE0200), sys.maxunicode):
        letter = chr(code)
        shown = printable(letter)
        if shown == letter:
            assert letter.isprintable() or letter.isspace(), hex(code)
            assert code >= 0x20, hex(code)
            assert not 0x7F <= code < 0xA0, hex(code)
        else:
            assert shown.isascii(), hex(code)
            assert shown.encode().decode("unicode_escape") == letter
    for code in (0x1B, 0x7, 0x9B, 0x202E, 0x2066, 0x200B, 0x2028, 0xFEFF, 0xAD, 0xE0041, 0x3164, 0xD83D):
        assert printable(chr(code)) != chr(code)
    for letter in ("é", "中", "🙂", "θ", "\u2009", "\u00a0", "e\u0301", "❤️"):
        assert printable(letter) == letter


@given(st.text())
def test_what_is_printable_stays_as_it_is(text: str) -> None:
    shown = printable(text)
    assert printable(shown) == shown
    assert unprintable(shown) == set()
    assert "\n" not in shown


def test_one_line_is_made_of_several() -> None:
    assert one_line("a: \r\n\n  b\x1bc\nd") == "a: b\\x1bc d"
    assert one_line("a \t b") == "a \\t b"
    assert one_line("q: " + "x" * 10**6 + "; do this", 100) == "q: " + "x" * 45 + " … " + "x" * 39 + "; do this"
    began = time.process_time()
    one_line(" " * 300_000 + "x")
    assert time.process_time() - began < 2


WORDS = [
    *("plain", "", "two words", "a'b", '$(touch "x")', "`id`", "back\\slash", "*?[a]", "!history", "--x=~"),
    *("\x1b]0;owned\x07", "a\nb", "tab\there", "\u202eabc", "it's\x1b\\", "\x011", "\udcff\x80", "é θ"),
]


def test_a_shell_reads_the_words_back() -> None:
    line = shell_words(WORDS)
    assert unprintable(line) == set()
    assert "\n" not in line
    ran = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True)
    assert ran.stdout == b"".join(word.encode("utf-8", "surrogateescape") + b"\0" for word in WORDS)
    assert ran.stderr == b""


# Streams and consoles


@given(st.lists(st.text(max_size=20)))
def test_a_guarded_stream_gives_printable_text_and_line_feeds(texts: list[str]) -> None:
    held = io.StringIO()
    stream = Guarded(held)
    for text in texts:
        assert stream.write(text) == len(text)
    assert unprintable(held.getvalue()) == set()


def test_both_streams_are_guarded_and_left_as_they_were(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with guarded(), guarded():
        sys.stdout.write(f"{TITLE}\n")
        sys.stderr.writelines([TITLE, "\r", "\r\n"])
        assert isinstance(sys.stdout, Guarded)
        assert raw(sys.stdout) is before[0]
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr() == ("\\x1b]0;owned\\x07\n", "\\x1b]0;owned\\x07\n\n")


@pytest.mark.slow
def test_a_stream_that_lacks_a_letter_gets_its_escape() -> None:
    code = "from innerloop.cli import main; import sys; sys.exit(main(['report', 'no \\u03b8\\udcff']))"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env={"PYTHONIOENCODING": "ascii"}, check=False
    )
    assert ran.returncode == 2
    assert b"\\u03b8\\udcff" in ran.stderr


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
@pytest.mark.parametrize("terminal", [True, False])
def test_a_console_shows_text_as_text(text: str, terminal: bool) -> None:
    stream = Tty() if terminal else io.StringIO()
    console = Console(stream, width=200)
    table = Table(text)
    table.add_column(text)
    table.add_row(text, text)
    console.print(table)
    console.print(text, soft_wrap=True)
    assert not re.search("^ *next:", stream.getvalue(), re.MULTILINE), "a text begins no line of its own"
    console.print(Text(text, style="link http://evil.example"))
    console.print(Text.from_ansi(text))
    shown = stream.getvalue()
    assert unprintable(shown, _RICH) == set()
    assert "\x1b]" not in shown
    if "[" in text and "\x1b" not in text:
        assert text in shown  # brackets and colons stand for themselves


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_progress_shows_text_as_text(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "DELAY", 0.0)
    monkeypatch.setenv("COLUMNS", "300")
    for stream in (Tty(), io.StringIO()):
        with progress(text, 2, text, stream=stream) as shown:
            time.sleep(0.02)
            shown.advance(2, note=text)
        said = stream.getvalue()
        assert unprintable(said, _RICH if stream.isatty() else None) == set()
        assert "\x1b]" not in said
        assert said


def test_what_is_written_while_a_bar_is_shown_stands_above_it_and_is_printable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "DELAY", 0.0)
    monkeypatch.setenv("COLUMNS", "120")
    stream = Tty()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress("probing", 2) as shown:
        time.sleep(0.05)
        for text in HOSTILE:
            sys.stderr.write(f"{text}\n")
        sys.stderr.write("unfinished")
        shown.advance(2)
    assert sys.stderr is stream
    said = stream.getvalue()
    assert unprintable(said, _RICH) == set()
    assert "\\x1b[2J\\x1b[31mred\\x1b[0m" in said
    assert "[bold red]markup[/]" in said
    assert said.endswith("unfinished")


# The command line


@dataclass(frozen=True)
class Result:
    """Stands for a verb's result."""

    text: str


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Puts something else in the place of what ``report`` does."""

    def put(function: Callable[[], Any]) -> None:
        monkeypatch.setattr("innerloop.verbs.report.report", lambda settings, command: function())

    return put


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_nothing_that_a_command_says_is_obeyed(cli: Cli, report: Any, text: str) -> None:
    def work() -> None:
        logging.getLogger("innerloop.any").warning("a file says %s", text)
        logging.getLogger("somebody.else").error(text)
        warnings.warn(text, UserWarning, stacklevel=1)
        sys.stderr.write(text)
        sys.stdout.write(text)
        raise InputError(f"q.jsonl, line 3: {text}")

    report(work)
    for options in ([], ["--debug"]):
        ran = cli("report", "R", *options)
        assert ran.status == 2
        assert unprintable(ran.out) == unprintable(ran.err) == set()

    def fail() -> None:
        raise ValueError(text)

    report(fail)
    assert unprintable(cli("report", "R", "--debug").err) == set()

    def interrupt() -> None:
        raise KeyboardInterrupt

    report(interrupt)
    ran = cli("report", text.replace("\0", ""))
    assert unprintable(ran.err) == set()
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_json_holds_the_text_and_no_control_character(cli: Cli, report: Any, text: str) -> None:
    report(lambda: Result(text + "\x7f"))
    ran = cli("report", "R", "--json")
    assert json.loads(ran.out) == {"text": text + "\x7f"}
    assert unprintable(ran.out) == set()
    assert ran.out.count("\n") == 1


@pytest.mark.slow
def test_an_evaluation_of_hostile_names_shows_them_as_text(cli: Cli, tmp_path: Path) -> None:
    """Ids, domains, levels, models and answers of files, in every table and line that ``eval`` prints."""
    questions = [
        {"id": f"q{i}{text}", "question": "1+1?", "answer": "2", "domain": text, "level": text}
        for i, text in enumerate(HOSTILE)
        if "\ud83d" not in text
    ]
    rows = [
        {"question_id": question["id"], "model": model, "text": TITLE, "answer": TITLE, "correct": True}
        for question in questions
        for model in (TITLE, "a\nnext: sh", "[red]x[/red]")
    ]
    for name, content in (("q.jsonl", questions), ("t.jsonl", rows)):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in content))
    out = tmp_path / f"E{TITLE}"
    common = ["--questions", tmp_path / "q.jsonl", "--k", "1", "--verdicts", "compare"]
    ran = cli("eval", *common, "--compare", tmp_path / "t.jsonl", "--out", out)
    assert ran.status == 0, ran.err
    assert unprintable(ran.out) == unprintable(ran.err) == set()
    assert "\\x1b]0;owned\\x07" in ran.out
    assert [line for line in ran.out.splitlines() if line.startswith("next: sh")] == []
    assert [line for line in ran.out.splitlines() if line.startswith("next: ")] == [
        f"next: {shell_words(['innerloop', 'report', str(out)])}"
    ]
    assert "[red]x[/red]" in ran.out
