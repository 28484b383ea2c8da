"""Finished units on their way to disk: a shard every few seconds, whatever the main thread is doing meanwhile."""

from __future__ import annotations

import math
import threading
import time
from types import TracebackType
from typing import Generic, Self, TypeVar

from innerloop.errors import InputError
from innerloop.schema import Curve, Landscape, Question, Score, Step, Trajectory, Update
from innerloop.store import Run
from innerloop.verbs.background import Background

SHARD_SECONDS = 5.0  # how much finished work a killed process may lose
HOLD_SECONDS = 5.0  # how long a unit may wait for what is still to be found out about it

RecordT = TypeVar("RecordT", Question, Trajectory, Curve, Update, Landscape, Score, Step)


class Shards(Generic[RecordT]):
    """Writes finished units to a stage: a shard every few seconds and one at the end, an interrupted end included.

    A thread writes, so a unit is on disk ``SHARD_SECONDS`` after it was added, also where the next one takes hours. A
    full disk interrupts the block; what could not be written is tried once more at its end.
    """

    def __init__(self, run: Run, stage: str, kind: type[RecordT]) -> None:
        self._run = run
        self._stage = stage
        self._kind: type[RecordT] = kind
        self._ready: list[tuple[float, RecordT]] = []  # with the time of its coming
        self._held: dict[str, tuple[float, RecordT]] = {}
        self._changed = threading.Condition()
        self._turn = threading.Lock()  # one batch at a time, in their order
        self._closing = False
        self._alarm = math.inf  # when the writer looks next
        self._writer = Background("shards", self._write_in_time, self._close, wake=True)

    def add(self, *records: RecordT) -> None:
        """Take over the records of one finished unit; they stay together. They replace those held with their ids."""
        self._writer.check()
        with self._changed:
            for record in records:
                held = self._held.pop(getattr(record, "id", ""), None)
                arrival = time.monotonic() if held is None else held[0]  # a unit that was held has waited already
                self._ready.append((arrival, record))
                self._mind(arrival + SHARD_SECONDS)

    def hold(self, record: RecordT) -> None:
        """Take over a record that ``add`` will bring again, with more to it.

        If that does not happen within ``HOLD_SECONDS``, this one is written, and the later one after it: it counts.
        """
        self._writer.check()
        with self._changed:
            now = time.monotonic()
            self._held[str(getattr(record, "id", ""))] = (now, record)
            self._mind(now + HOLD_SECONDS)

    def flush(self) -> None:
        """Write what was taken over since the last shard now."""
        self._writer.check()
        self._write_next(everything=False)

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._writer.__exit__(kind, error, trace)
        finally:
            try:
                self._write_next(everything=True)  # there is something where the writer failed
            except InputError:
                self._writer.check()
                raise

    def _close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()

    def _mind(self, due: float) -> None:
        """Wake the writer where it would sleep for too long."""
        if due < self._alarm:
            self._changed.notify()

    def _write_in_time(self) -> None:
        closing = False
        while not closing:
            with self._changed:
                while not self._closing and (left := self._due() - time.monotonic()) > 0:
                    self._changed.wait(min(left, threading.TIMEOUT_MAX))
                closing = self._closing
            self._write_next(everything=closing)

    def _write_next(self, *, everything: bool) -> None:
        with self._turn:
            with self._changed:
                batch = self._take(everything=everything)
            try:
                if batch:
                    self._run.write(self._stage, self._kind.to_table(batch))
            except Exception:
                with self._changed:
                    self._ready[:0] = [(0.0, record) for record in batch]
                raise

    def _due(self) -> float:
        """When something has to be written."""
        due = [arrival + SHARD_SECONDS for arrival, _ in self._ready]
        due += [arrival + HOLD_SECONDS for arrival, _ in self._held.values()]
        self._alarm = min(due, default=math.inf)
        return self._alarm

    def _take(self, *, everything: bool) -> list[RecordT]:
        """What is ready, and what has been held for long enough (or all of it)."""
        now = time.monotonic()
        late = [name for name, (since, _) in self._held.items() if everything or since + HOLD_SECONDS <= now]
        batch = [record for _, record in self._ready]
        batch += [self._held.pop(name)[1] for name in late]
        self._ready = []
        return batch
