"""Progress of long work on standard error: a bar with rate and time left, or plain lines where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

DELAY = 2.0  # seconds of work before anything is shown
INTERVAL = 10.0  # seconds between plain lines


class Progress:
    """Counts finished units and shows them; made by ``progress``."""

    def __init__(
        self,
        description: str,
        total: int | None,
        unit: str,
        *,
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._description = description
        self._total = total
        self._unit = unit
        self._stream = stream
        self._clock = clock
        self._started = clock()
        self._next_line = self._started + DELAY
        self._shown = False
        self._bar: RichProgress | None = None
        self.done = 0

    def advance(self, n: int = 1, note: str = "") -> None:
        """Count ``n`` more units as done; ``note`` is a short remark shown beside the numbers."""
        self.done += n
        now = self._clock()
        if self._stream.isatty():
            self._draw(now, note)
        elif now >= self._next_line:
            self._line(now, note)
            self._next_line = now + INTERVAL

    def close(self) -> None:
        """Say the last word, where anything was said before."""
        if self._bar is not None:
            self._bar.stop()
        elif self._shown:
            self._line(self._clock(), "")

    def _draw(self, now: float, note: str) -> None:
        if self._bar is None:
            if now - self._started < DELAY:
                return
            self._bar = _bar(self._stream, self._unit)
            self._bar.add_task(self._description, total=self._total, completed=0, note="", rate="")
            self._bar.start()
        self._shown = True
        rate = f"{_number(self.done / max(now - self._started, 1e-9))} {self._unit}/s"
        self._bar.update(self._bar.task_ids[0], completed=self.done, note=note, rate=rate)

    def _line(self, now: float, note: str) -> None:
        self._shown = True
        elapsed = max(now - self._started, 1e-9)
        rate = self.done / elapsed
        parts = [f"{self._description}: {self.done}{'' if self._total is None else f'/{self._total}'} {self._unit}"]
        parts.append(f"{_number(rate)} {self._unit}/s")
        if self._total is not None and self.done < self._total and rate > 0:
            parts.append(f"{_duration((self._total - self.done) / rate)} left")
        else:
            parts.append(f"{_duration(elapsed)}")
        self._stream.write(", ".join([*parts, *([note] if note else [])]) + "\n")
        self._stream.flush()


@contextmanager
def progress(
    description: str, total: int | None = None, unit: str = "items", *, stream: TextIO | None = None
) -> Iterator[Progress]:
    """Show progress on standard error while the block runs.

    Nothing appears in the first two seconds. On a terminal a bar shows count, rate and time left; elsewhere one plain
    line every ten seconds and one at the end. Standard output is never written to.
    """
    shown = Progress(description, total, unit, stream=stream or sys.stderr)
    try:
        yield shown
    finally:
        shown.close()


def _bar(stream: TextIO, unit: str) -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit, markup=False),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(file=stream),
    )


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
