"""Finished units reach the disk in time, whatever the main thread waits for; trouble in the writing thread is told."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from innerloop.errors import InputError
from innerloop.schema import Outcome, Question, Source, Trajectory
from innerloop.store import Run
from innerloop.verbs import shards as module
from innerloop.verbs.background import Background
from innerloop.verbs.judging import Judging
from innerloop.verbs.shards import Shards

QUESTION = Question(id="q", question="What is 3 and 4?", answer="7", verifier="math")


def sample(number: int, said: str = "So it is \\boxed{7}.") -> Trajectory:
    return Trajectory(
        id=f"q/sample-{number}", question_id="q", text="So", source=Source.SAMPLE, sample=number, final=said, tokens=3
    )


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with Run.start(tmp_path / "R", "rollout", {}) as run:
        yield run


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD_SECONDS", 0.2)
    monkeypatch.setattr(module, "HOLD_SECONDS", 0.3)


def on_disk(run: Run) -> dict[str, Outcome | None]:
    return {entry.id: entry.outcome for entry in Run.open(run.path).trajectories()}


def wait_for(count: int, run: Run, seconds: float = 20.0) -> float:
    """Until so many are on disk; how long that took."""
    start = time.monotonic()
    while len(on_disk(run)) < count:
        assert time.monotonic() - start < seconds
        time.sleep(0.02)
    return time.monotonic() - start


class Judge:
    """Stands in for a verifier: right, after as many seconds as it is told."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.closed, self.done = threading.Event(), threading.Event()
        self.now = self.most = 0

    def verify(self, attempts):
        from innerloop.schema import Verdict

        self.now += 1
        self.most = max(self.most, self.now)
        self.done.wait(self.seconds)
        closed = self.closed.is_set()
        self.now -= 1
        outcome = Outcome.UNDECIDED if closed else Outcome.RIGHT
        return [Verdict(outcome=outcome, reason="the verifier is closed" if closed else None) for _ in attempts]

    def close(self) -> None:
        self.closed.set()
        self.done.set()


# Written in time


def test_a_unit_is_on_disk_while_the_next_one_takes_long(run: Run, soon: None) -> None:
    with Shards(run, "trajectories", Trajectory) as shards:
        shards.add(sample(0))
        shards.add(sample(1))
        assert on_disk(run) == {}, "several units share a shard"
        assert wait_for(2, run) < 5
        time.sleep(0.5)
        assert len(list((run.path / "trajectories").glob("*.parquet"))) == 1


def test_the_rest_is_written_at_the_end_and_at_an_interrupted_end(run: Run) -> None:
    with Shards(run, "trajectories", Trajectory) as shards:
        shards.add(sample(0))
    assert len(on_disk(run)) == 1
    with pytest.raises(KeyboardInterrupt), Shards(run, "trajectories", Trajectory) as shards:  # noqa: PT012  # the whole block is what fails
        shards.add(sample(1))
        raise KeyboardInterrupt
    assert len(on_disk(run)) == 2


def test_what_is_held_is_written_once_where_more_is_known_in_time(run: Run, soon: None) -> None:
    with Shards(run, "trajectories", Trajectory) as shards:
        shards.hold(sample(0))
        shards.add(replace(sample(0), outcome=Outcome.RIGHT))
        shards.hold(sample(1))
        wait_for(2, run)
        assert on_disk(run) == {"q/sample-0": Outcome.RIGHT, "q/sample-1": None}
        shards.add(replace(sample(1), outcome=Outcome.WRONG))
    assert on_disk(run) == {"q/sample-0": Outcome.RIGHT, "q/sample-1": Outcome.WRONG}
    rows = sum(pq.read_metadata(shard).num_rows for shard in (run.path / "trajectories").glob("*.parquet"))
    assert rows == 3


# Trouble


def fill_up(patch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    patch.setattr(os, "fsync", full)


def test_a_full_disk_interrupts_a_main_thread_that_waits(run: Run, soon: None, monkeypatch: pytest.MonkeyPatch) -> None:
    start = time.monotonic()
    with monkeypatch.context() as patch:
        fill_up(patch)
        with (  # noqa: PT012  # the whole block is what fails
            pytest.raises(InputError, match=r"No space left on device; free some space and run the same command"),
            Shards(run, "trajectories", Trajectory) as shards,
        ):
            shards.add(sample(0))
            threading.Event().wait(60)
    assert time.monotonic() - start < 20
    time.sleep(0.1)  # no interrupt comes late


def test_a_full_disk_is_told_at_the_next_unit_where_signals_are_taken(
    run: Run, soon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("innerloop.verbs.background._wakeable", lambda: False)
    with monkeypatch.context() as patch:
        fill_up(patch)
        with (  # noqa: PT012  # the whole block is what fails
            pytest.raises(InputError, match="No space left on device"),
            Shards(run, "trajectories", Trajectory) as shards,
        ):
            for number in range(1000):
                shards.add(sample(number))
                time.sleep(0.02)
    assert number < 999


def test_space_freed_meanwhile_is_used_at_the_end(run: Run, soon: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="No space left"), monkeypatch.context() as patch:  # noqa: PT012  # the whole block is what fails
        fill_up(patch)
        with Shards(run, "trajectories", Trajectory) as shards:
            shards.add(sample(0))
            try:
                threading.Event().wait(60)
            finally:
                patch.undo()
    assert len(on_disk(run)) == 1


def test_an_interrupt_of_the_user_stays_one(run: Run) -> None:
    with pytest.raises(KeyboardInterrupt), Background("test", lambda: None, lambda: None, wake=True):
        raise KeyboardInterrupt


def test_a_failure_is_raised_where_the_block_ends_well() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), Background("test", fail, lambda: None) as thread:  # noqa: PT012  # the whole block is what fails
        while thread.error is None:
            time.sleep(0.01)
    with pytest.raises(ZeroDivisionError):
        thread.check()


# Judged meanwhile


def judging(run: Run, judge: Judge, seen: list[str], count: int, *, wait: float = 0.0) -> None:
    with (
        Shards(run, "trajectories", Trajectory) as shards,
        Judging([QUESTION], judge, shards, lambda entry: seen.append(entry.id)) as judged,
    ):
        for number in range(count):
            judged.add(sample(number))
        time.sleep(wait)


def test_all_are_judged_in_order_and_one_batch_at_a_time(run: Run) -> None:
    judge, seen = Judge(0.01), []
    judging(run, judge, seen, 50)
    assert seen == [f"q/sample-{number}" for number in range(50)]
    assert on_disk(run) == dict.fromkeys(seen, Outcome.RIGHT)
    assert judge.most == 1
    rows = sum(pq.read_metadata(shard).num_rows for shard in (run.path / "trajectories").glob("*.parquet"))
    assert rows == 50


def test_a_sample_is_safe_before_its_verdict(run: Run, soon: None) -> None:
    judge, seen = Judge(60), []
    with (
        Shards(run, "trajectories", Trajectory) as shards,
        Judging([QUESTION], judge, shards, lambda entry: seen.append(entry.id)) as judged,
    ):
        judged.add(sample(0))
        assert wait_for(1, run) < 10
        assert on_disk(run) == {"q/sample-0": None}
        judge.done.set()
    assert on_disk(run) == {"q/sample-0": Outcome.RIGHT}


def test_an_interrupt_calls_judging_off_and_keeps_the_samples_without_verdicts(run: Run) -> None:
    judge, seen = Judge(60), []
    start = time.monotonic()

    def interrupted() -> None:
        with (
            Shards(run, "trajectories", Trajectory) as shards,
            Judging([QUESTION], judge, shards, lambda entry: seen.append(entry.id)) as judged,
        ):
            for number in range(20):
                judged.add(sample(number))
            time.sleep(0.2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - start < 20
    assert seen == []
    assert list(on_disk(run).values()) == [None] * 20


def test_a_judge_that_breaks_is_told(run: Run) -> None:
    class Broken(Judge):
        def verify(self, attempts):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        judging(run, Broken(), [], 1)
    assert list(on_disk(run).values()) == [None]
