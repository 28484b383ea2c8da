"""What a worker tells, without a cluster around it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from innerloop.cluster.work import Unit
from innerloop.cluster.worker import Worker

COUNT = 200


class Noisy:
    """Warns from a thread of its own all the time."""

    def open(self, threads: int) -> tuple[Noisy, dict[str, Any]]:
        return self, {"threads": threads}

    def run(self, units: Sequence[Unit[None]]) -> Iterator[tuple[str, int]]:
        def warn() -> None:
            for number in range(COUNT):
                logging.getLogger("innerloop.noisy").warning("warning %d", number)
                time.sleep(1e-4)

        thread = threading.Thread(target=warn)
        thread.start()
        for unit in units:
            yield unit.id, 1
        thread.join()


class Slow(list[str]):
    """Takes its time to be emptied, so that others have theirs."""

    def clear(self) -> None:
        time.sleep(0.005)
        super().clear()


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """One that is open; its handler and settings go away again."""
    logger = logging.getLogger("innerloop")
    before = list(logger.handlers)
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made = Worker(Noisy(), threads=1)
    made._warnings = Slow()
    yield made
    logger.handlers[:] = before


def test_no_warning_is_lost_while_others_are_taken(worker: Worker) -> None:
    assert worker.open() == {"threads": 1}
    turn = worker.turn([(0, [Unit(id="u", work=None)])], patience=10)
    told = list(turn.warnings)
    while 0 not in turn.finished:
        turn = worker.turn([], patience=10)
        told += turn.warnings
    assert told == [f"warning {number}" for number in range(COUNT)]
