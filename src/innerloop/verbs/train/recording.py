"""The steps of a training on their way to the run folder, to the page and to the screen."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from innerloop.processes import is_main
from innerloop.progress import Progress, progress
from innerloop.schema import Step
from innerloop.store import Run
from innerloop.verbs.shards import Shards
from innerloop.verbs.train.live import LivePage

log = logging.getLogger("innerloop")


class Recording:
    """Takes the steps of a training and its looks at held-out questions."""

    def __init__(self, shards: Shards[Step], shown: Progress, page: LivePage) -> None:
        self.flush = shards.flush
        self._shards = shards
        self._shown = shown
        self._page = page

    def add(self, step: Step) -> None:
        """Keep a step, and show where the training is."""
        self._shards.add(step)
        numbers = dict(step.metrics)
        if step.kind == "train":
            self._shown.advance(step.step - self._shown.done, f"loss {numbers['loss']:.3g}")
        else:
            said = (f"{name.removeprefix('watch_')} {value:.3g}" for name, value in numbers.items())
            log.info("step %d: %s", step.step, ", ".join(said))
        if is_main() and self._page.due:
            self.flush()
            self._page.write()


@contextmanager
def recording(run: Run, steps: int, description: str = "training") -> Iterator[Recording]:
    """Write what is added while the block runs, and show it against the number of ``steps``."""
    with progress(description, steps, "steps") as shown, Shards(run, "steps", Step) as shards:
        yield Recording(shards, shown, LivePage(run.path))
