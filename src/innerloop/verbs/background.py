"""A thread beside the main one whose failure is the main one's too."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

_DELIVERY = 1.0  # seconds that a signal to our own thread may take


class Background:
    """Runs ``work`` in a thread while the block runs; ``stop`` tells it that the block is at its end.

    Where ``work`` fails, ``check`` raises its error, and so does the end of the block. ``wake``: a main thread that
    waits for something else meanwhile (a model, a server) is interrupted, so that the error is told at once.
    """

    def __init__(self, name: str, work: Callable[[], None], stop: Callable[[], None], *, wake: bool = False) -> None:
        self.error: Exception | None = None
        self._work = work
        self._stop = stop
        self._wake = wake
        self._inside = self._woken = False
        self._owner = 0  # the thread that the block runs in
        self._lock = threading.Lock()
        # Not a daemon: what is being written while the program ends is written whole.
        self._thread = threading.Thread(target=self._run, name=f"innerloop-{name}")

    def check(self) -> None:
        """Raise what ``work`` failed with, if it did."""
        if self.error is not None:
            raise self.error

    def __enter__(self) -> Self:
        self._owner = threading.get_ident()
        self._inside = True
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        interrupt: KeyboardInterrupt | None = None
        try:
            with self._lock:
                self._inside = False
            if self._woken and not isinstance(error, KeyboardInterrupt):
                time.sleep(_DELIVERY)  # the interrupt that we sent is still on its way
        except KeyboardInterrupt as caught:
            interrupt = caught
        self._inside = False
        self._stop()
        self._thread.join()
        if self.error is not None and error is not self.error:
            raise self.error from None
        if interrupt is not None:
            raise interrupt

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:  # noqa: BLE001  # raised again in the thread that waits for it
            with self._lock:
                self.error = error
                if self._wake and self._inside and self._owner == threading.main_thread().ident and _wakeable():
                    self._woken = True
                    signal.pthread_kill(self._owner, signal.SIGINT)


def _wakeable() -> bool:
    """Whether an interrupt reaches the main thread as an exception, as it does unless somebody took the signal over."""
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler
