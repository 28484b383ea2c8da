"""The page of a training while it goes on: written anew every now and then, and loaded again by who looks at it."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from innerloop.errors import InputError
from innerloop.store import Run

log = logging.getLogger("innerloop")

EVERY = 30.0  # seconds from page to page
_SHARE = 50  # times the time that a page took pass before the next one: at most 2 % of the training's


class LivePage:
    """``report.html`` of a run folder as it grows; a page that cannot be written is a warning, once."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._due = 0.0
        self._failed = False

    @property
    def due(self) -> bool:
        """Whether it is time for another page."""
        return time.monotonic() >= self._due

    def write(self) -> None:
        """Write the page of what is in the folder now."""
        from innerloop.report.page import write

        began = time.monotonic()
        try:
            write(self._run, reload=EVERY)
        except Exception as error:  # noqa: BLE001  # a page must not stop a training, whatever is wrong with it
            if not self._failed:
                log.warning("the page is not kept up to date: %s", said(error))
            self._failed = True
        now = time.monotonic()
        self._due = now + max(EVERY, _SHARE * (now - began))


def last_page(run: Path) -> None:
    """The page of a training that has ended, in whatever way; none where nothing was kept of it."""
    from innerloop.report.page import write

    try:
        if (run / "run.json").is_file() and Run.open(run).steps():
            write(run)
    except Exception as error:  # noqa: BLE001  # the training's own exception may be on its way
        log.warning("the page could not be written: %s", said(error))


def said(error: Exception) -> str:
    """An error in a line; one that is not the user's with its kind."""
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
