"""Progress: quiet at first, on standard error only, honest about rate and time left."""

from __future__ import annotations

import io
import re
import sys
import time

import pytest

from innerloop import progress as module
from innerloop.progress import Lines, Speed, progress


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def stream():
    return io.StringIO()


def lines(stream, clock, total=100):
    return Lines("probing", total, "trajectories", stream, clock)


def test_short_work_says_nothing(stream, clock):
    shown = lines(stream, clock)
    for _ in range(100):
        clock.now += 0.019
        shown.advance()
    shown.close()
    assert stream.getvalue() == ""


def test_a_line_every_ten_seconds_and_a_last_one(stream, clock):
    shown = lines(stream, clock)
    for _ in range(100):
        clock.now += 0.5
        shown.advance()
    shown.close()
    counts = [int(n) for n in re.findall(r"probing: (\d+)/100 trajectories", stream.getvalue())]
    assert counts == [4, 24, 44, 64, 84, 100]


def test_rate_and_time_left(stream, clock):
    shown = lines(stream, clock)
    clock.now += 4
    shown.advance(20, note="last: q-7")
    assert stream.getvalue() == "probing: 20/100 trajectories, 5/s, 0:16 left, last: q-7\n"


def test_a_remark_is_made_when_it_is_shown_and_said_again_at_the_end(stream, clock):
    shown, made = lines(stream, clock), []

    def remark():
        made.append(shown.done)
        return f"at {shown.done}"

    for _ in range(40):
        clock.now += 0.5
        shown.advance(note=remark)
    shown.close()
    assert re.findall("at [0-9]+", stream.getvalue()) == ["at 4", "at 24", "at 40"]
    assert len(made) <= 4


def test_a_remark_that_changed_behind_the_last_unit_is_said(stream, clock):
    shown, words = lines(stream, clock, total=1), ["soon"]
    clock.now += 3
    shown.advance(note=lambda: words[-1])
    words.append("now")
    shown.close()
    assert stream.getvalue().count("1/1") == 2
    assert stream.getvalue().endswith(", now\n")


def test_speed_counts_up_to_the_latest(clock):
    speed = Speed("tokens", clock)
    assert speed.text() == ""
    for _ in range(4):
        clock.now += 0.5
        speed.add(100)
    clock.now += 100  # waiting for verdicts is no sampling
    assert speed.text() == "200 tokens/s"


def test_slow_units_are_timed_one_by_one(stream, clock):
    shown = lines(stream, clock, total=None)
    clock.now += 4000
    shown.advance()
    assert stream.getvalue() == "probing: 1 trajectories, 4e+03 s each, 1:06:40 in all\n"


def test_last_line_is_not_said_twice(stream, clock):
    shown = lines(stream, clock, total=1)
    clock.now += 3
    shown.advance()
    shown.close()
    assert stream.getvalue().count("\n") == 1


def test_last_line_without_any_finished_unit(stream, clock):
    shown = lines(stream, clock)
    clock.now += 3
    shown.close()
    assert stream.getvalue() == "probing: 0/100 trajectories, 0/s, 0:03 in all\n"


def test_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(module, "DELAY", 0.05)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    with progress("probing [x]", 3, "trajectories", stream=stream) as shown:
        time.sleep(0.3)  # no unit is finished, and the bar is there
        assert "0/3" in stream.getvalue()
        for i in range(3):
            shown.advance(note=f"[q-{i}]")
        sys.stdout.write("result\n")
    text = stream.getvalue()
    assert "probing [x]" in text  # brackets are no markup
    assert "3/3" in text
    assert "[q-2]" in text
    assert capsys.readouterr().out == "result\n"


def test_bar_stays_away_from_short_work():
    stream = Terminal()
    with progress("probing", 3, stream=stream) as shown:
        shown.advance(3)
    assert stream.getvalue() == ""


def test_standard_error_is_the_default(capsys, monkeypatch):
    monkeypatch.setattr(module, "DELAY", 0.0)
    with progress("probing", 2, "trajectories") as shown:
        shown.advance(2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("probing: 2/2 trajectories")


def test_a_failure_inside_passes_through(stream):
    with pytest.raises(KeyboardInterrupt), progress("probing", 2, stream=stream):
        raise KeyboardInterrupt
