"""How every recipe's run begins and ends: the run folder, the model, what is kept of the data, the result."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from innerloop.processes import is_main, world
from innerloop.schema import Question
from innerloop.store import Follower, Run
from innerloop.verbs.day import of_the_day
from innerloop.verbs.shared import configuration, free_fields, missing_questions, out_folder, write_questions
from innerloop.verbs.train.live import last_page
from innerloop.verbs.train.result import TrainResult, result_of
from innerloop.verbs.train.saved import finished
from innerloop.verbs.train.settings import OuterSettings, TrainSettings

if TYPE_CHECKING:
    from innerloop.models import LoadedModel

log = logging.getLogger("innerloop")


class Opening:
    """One start of a recipe in its run folder: ``load``, make the rows, ``keep`` the data, train, ``result``.

    Nothing of the data is written before ``keep``, so that unusable input leaves no folder behind.
    """

    def __init__(self, run: Run, recipe: str, settings: OuterSettings, questions: Sequence[Question]) -> None:
        self.run = run
        self.finished = finished(run, settings.minutes if isinstance(settings, TrainSettings) else None)
        self._recipe = recipe
        self._settings = settings
        self._questions = questions
        self._before = max((step.step for step in run.steps() if step.kind == "train"), default=0)

    def load(self) -> LoadedModel:
        """The model to train. `InputError` where the folder's training began with another one."""
        loaded = of_the_day(self.run, self._settings.load_to_train())
        self.run.record_model(loaded.describe())
        return loaded

    def keep(self, *, rows: int, dropped: int = 0) -> None:
        """Write the questions, and note of how many rows the training is; ``dropped`` others were too long."""
        if dropped:
            log.warning("%d of %d rows are left out: they are longer than --max-length", dropped, rows + dropped)
        write_questions(self.run, missing_questions(self.run, self._questions))
        self.run.note("rows", rows)
        self.run.note("dropped", dropped)

    def result(self) -> TrainResult:
        """Where the trained model is, and how it got there."""
        return result_of(
            self.run,
            self._recipe,
            questions=len(self._questions),
            rows=self.run.noted("rows"),
            dropped=self.run.noted("dropped"),
            before=self._before,
        )


@contextmanager
def opening(
    recipe: str, settings: OuterSettings, questions: Sequence[Question], command: Sequence[str] | None
) -> Iterator[Opening]:
    """Hold the run folder of ``train RECIPE`` while the block runs; goes on where there is an earlier start.

    Of several processes the first one holds it, and all others see what it has written.
    """
    out = out_folder(f"train-{recipe}", settings)
    done = False
    try:
        with _together(settings) as meet, ExitStack() as stack:
            if is_main():
                start = Run.start(
                    out, f"train {recipe}", configuration(settings), command=command, free=free_fields(settings)
                )
                run = stack.enter_context(start)
                meet()
            else:
                meet()
                run = Follower.follow(out, f"train {recipe}")
            opened = Opening(run, recipe, settings, questions)
            done = opened.finished
            if done:
                log.info("nothing to do: %s holds the trained model", out)
            yield opened
    finally:
        if is_main() and not done:
            last_page(out)


@contextmanager
def _together(settings: OuterSettings) -> Iterator[Callable[[], None]]:
    """Bring the processes together that a launcher started; gives what waits for all of them."""
    if world() == 1:
        yield lambda: None
        return
    import torch
    from accelerate import PartialState

    from innerloop.outer.processes import meet

    # It takes a GPU for each process, where there are any.
    state = PartialState(cpu=settings.device == "cpu" or not torch.cuda.is_available())
    try:
        yield meet
    finally:
        state.destroy_process_group()
