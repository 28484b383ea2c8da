"""Progress of long work on standard error: a bar with rate and time left, or plain lines where there is no terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from typing import TYPE_CHECKING, TextIO, cast

from innerloop.printable import printable
from innerloop.processes import is_main

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from innerloop.terminal import Guarded

DELAY = 2.0  # seconds of work before anything is shown
INTERVAL = 10.0  # seconds between plain lines


Note = str | Callable[[], str]


@contextmanager
def progress(
    description: str, total: int | None = None, unit: str = "items", *, stream: TextIO | None = None
) -> Iterator[Progress]:
    """Show progress on standard error while the block runs; call ``advance`` for every finished unit.

    ``total`` and ``unit`` (a plural) say what is counted. Nothing appears in the first two seconds. On a terminal a
    bar shows count, rate and time left; elsewhere there is one plain line every ten seconds and one at the end.
    Standard output is never written to.
    """
    stream = stream or (sys.stderr if is_main() else StringIO())  # of several processes the first one speaks
    shown = Bar(description, total, unit, stream) if stream.isatty() else Lines(description, total, unit, stream)
    try:
        yield shown
    finally:
        shown.close()


class Progress:
    """Counts finished units; made by ``progress``."""

    def __init__(
        self,
        description: str,
        total: int | None,
        unit: str,
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.done = 0
        self._description = description
        self._total = total
        self._unit = unit
        self._stream = stream
        self._clock = clock
        self._started = clock()
        self._note: Note = ""

    def advance(self, n: int = 1, note: Note = "") -> None:
        """Count ``n`` more units as done; ``note`` is a short remark beside the numbers, or makes one when shown."""
        self.done += n
        self._note = note
        self._show()

    def close(self) -> None:
        """Say the last word, where the work was long enough to say any."""
        raise NotImplementedError

    def _show(self) -> None:
        raise NotImplementedError

    def _remark(self) -> str:
        return self._note if isinstance(self._note, str) else self._note()

    def _elapsed(self) -> float:
        return max(self._clock() - self._started, 1e-9)

    def _rate(self) -> str:
        rate = self.done / self._elapsed()
        if 0 < rate < 0.5:
            return f"{1 / rate:.3g} s each"
        return f"{rate:.0f}/s" if rate >= 100 else f"{rate:.3g}/s"


class Lines(Progress):
    """Plain lines, for logs and pipes."""

    _next = DELAY  # seconds after the start
    _written: tuple[int, str] | None = None  # what the latest line said

    def close(self) -> None:
        """Write the last line."""
        if self._elapsed() >= DELAY and self._written != (self.done, self._remark()):
            self._write()

    def _show(self) -> None:
        elapsed = self._elapsed()
        if elapsed >= self._next:
            self._next = elapsed + INTERVAL
            self._write()

    def _write(self) -> None:
        elapsed, remark = self._elapsed(), self._remark()
        count = f"{self.done}" if self._total is None else f"{self.done}/{self._total}"
        parts = [f"{self._description}: {count} {self._unit}", self._rate()]
        if self._total is not None and 0 < self.done < self._total:
            parts.append(f"{_duration(elapsed / self.done * (self._total - self.done))} left")
        else:
            parts.append(f"{_duration(elapsed)} in all")
        self._stream.write(printable(", ".join(filter(None, (*parts, remark)))) + "\n")
        self._stream.flush()
        self._written = self.done, remark


class Bar(Progress):
    """A bar, for terminals; it appears after two seconds even if no unit is finished by then."""

    def __init__(
        self,
        description: str,
        total: int | None,
        unit: str,
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(description, total, unit, stream, clock)
        self._bar = _rich_bar(stream, unit)
        self._task = self._bar.add_task(description, total=total, note="", rate="")
        self._above: tuple[TextIO, Guarded] | None = None
        self._timer = threading.Timer(DELAY, self._begin)
        self._timer.daemon = True
        self._timer.start()

    def _begin(self) -> None:
        """Draw the bar; what others write to the same terminal goes above it. rich's own way there reads ANSI codes."""
        from innerloop.terminal import Guarded, raw

        self._bar.start()
        if raw(sys.stderr) is raw(self._stream):
            self._above = sys.stderr, Guarded(raw(sys.stderr), self._bar.console)
            sys.stderr = cast("TextIO", self._above[1])

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._timer.cancel()
        self._timer.join()
        self._show()
        self._bar.stop()
        if self._above is not None:
            before, ours = self._above
            ours.release()
            if sys.stderr is cast("TextIO", ours):
                sys.stderr = before

    def _show(self) -> None:
        self._bar.update(self._task, completed=self.done, note=self._remark(), rate=self._rate())


class Speed:
    """How many of something come in a second, from the first moment to the latest of them."""

    def __init__(self, unit: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._unit = unit
        self._clock = clock
        self._started = self._latest = clock()
        self._count = 0

    def add(self, n: int) -> None:
        """Count ``n`` more."""
        self._count += n
        self._latest = self._clock()

    def text(self) -> str:
        """``412 tokens/s``; empty where nothing came."""
        return f"{self._count / max(self._latest - self._started, 1e-9):.0f} {self._unit}/s" if self._count else ""


def _rich_bar(stream: TextIO, unit: str) -> RichProgress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from innerloop.terminal import Console

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit, markup=False),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(stream),
        redirect_stdout=False,  # what others print stays where they print it
        redirect_stderr=False,  # see Bar
    )


def _duration(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
