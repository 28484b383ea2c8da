"""What lives in the cluster: a process that holds a model and works through the groups that it is given.

One thread works; another answers calls. So results leave as they come, however long the rest of their group takes, and
work goes on while whoever gave it is busy with something else.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import Any

from innerloop.cluster.work import Held, Job, Unit
from innerloop.errors import InputError

# Libraries are as quiet in a worker as they are under our own command line.
_QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a worker runs, and with what."""

    host: str
    pid: int
    version: str


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a worker stopped. ``kind``: ``input`` (unusable input), ``gone`` (this worker is of no use any more), or
    ``error`` (anything else); the first and last would meet any other worker, too."""

    kind: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What has happened since the last turn: results by unit id, groups that are finished, warnings, a failure."""

    results: tuple[tuple[str, Any], ...] = ()
    finished: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()
    failure: Failure | None = None


class Worker:
    """The actor. Made in an instant, so that it tells where it is before it opens its job, which takes long."""

    def __init__(self, job: Job[Any, Any], threads: int) -> None:
        self._job = job
        self._threads = threads
        self._held: Held[Any, Any] | None = None
        self._groups: deque[tuple[int, Sequence[Unit[Any]]]] = deque()
        self._news = threading.Condition()
        self._results: list[tuple[str, Any]] = []
        self._finished: list[int] = []
        self._warnings: list[str] = []
        self._failure: Failure | None = None

    def hello(self) -> Place:
        """Where this is."""
        return Place(host=platform.node(), pid=os.getpid(), version=metadata.version("innerloop"))

    def open(self) -> dict[str, Any] | Failure:
        """Loads what the job needs, and describes it."""
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        os.environ["OMP_NUM_THREADS"] = str(self._threads)
        logging.getLogger("innerloop").addHandler(_Kept(partial(self._tell, self._warnings)))
        try:
            self._held, description = self._job.open(self._threads)
        except Exception as error:  # noqa: BLE001  # told to whoever asked, as one line and not as a remote traceback
            return _failure(error)
        threading.Thread(target=self._work, name="innerloop-work", daemon=True).start()
        return description

    def turn(self, groups: Sequence[tuple[int, Sequence[Unit[Any]]]], patience: float) -> Turn:
        """Takes over more groups, and gives what is new; waits ``patience`` seconds at most for something to be so."""
        with self._news:
            self._groups.extend(groups)
            self._news.notify_all()
            self._news.wait_for(
                lambda: self._results or self._finished or self._warnings or self._failure, timeout=patience
            )
            turn = Turn(
                results=tuple(self._results),
                finished=tuple(self._finished),
                warnings=tuple(self._warnings),
                failure=self._failure,
            )
            for kept in (self._results, self._finished, self._warnings):
                kept.clear()
        return turn

    def _work(self) -> None:
        assert self._held is not None
        try:
            while True:
                with self._news:
                    self._news.wait_for(lambda: self._groups)
                    number, units = self._groups.popleft()
                for id_, result in self._held.run(units):
                    self._tell(self._results, (id_, result))
                self._tell(self._finished, number)
        except Exception as error:  # noqa: BLE001  # as above
            with self._news:
                self._failure = _failure(error)
                self._news.notify_all()

    def _tell(self, kept: list[Any], news: Any) -> None:
        with self._news:
            kept.append(news)
            self._news.notify_all()


class _Kept(logging.Handler):
    """Keeps warnings for the next turn; they come from any thread, while another takes what is kept."""

    def __init__(self, keep: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._keep = keep

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self._keep(record.getMessage())


def _failure(error: Exception) -> Failure:
    if isinstance(error, InputError):
        return Failure(kind="input", message=str(error))
    if isinstance(error, ConnectionError):
        return Failure(kind="gone", message=str(error))
    return Failure(kind="error", message=f"{type(error).__name__}: {error}")
