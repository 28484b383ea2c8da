"""What goes on beside the steps: records, the time limit, marks of whole checkpoints, a look at held-out questions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from innerloop.outer.checkpoints import mark
from innerloop.outer.processes import any_of, meet
from innerloop.schema import Step

_ALWAYS_LOGGED = ("epoch", "total_flos", "train_runtime", "train_samples_per_second", "train_steps_per_second")


class Clock:
    """Seconds of training, over restarts too."""

    def __init__(self, before: float = 0.0) -> None:
        self._before = before
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """So far."""
        return self._before + time.monotonic() - self._start

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """What happens in the block takes no time of the training."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self._start += time.monotonic() - begun


class Record(TrainerCallback):
    """Hands every step's numbers to ``keep``."""

    def __init__(self, keep: Callable[[Step], None], clock: Clock) -> None:
        self._keep = keep
        self._clock = clock

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:  # noqa: ARG002
        """Called by the trainer after each logged step."""
        numbers = {name: float(value) for name, value in (logs or {}).items() if name not in _ALWAYS_LOGGED}
        if "loss" in numbers:  # the summary at the end has no loss of its own
            self._keep(Step.of("train", state.global_step, self._clock.seconds, numbers))


class Deadline(TrainerCallback):
    """Ends the training after so many minutes of it; without ``minutes`` it does nothing.

    ``reached``: the minutes, where they ended it before its last step.
    """

    def __init__(self, minutes: float | None, clock: Clock) -> None:
        self.reached: float | None = None
        self._minutes = minutes
        self._clock = clock

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Called by the trainer after each step."""
        if self._minutes is None:
            return
        over = self._clock.seconds >= 60 * self._minutes
        if any_of(over):  # clocks differ, and one that stopped would leave others waiting
            control.should_training_stop = control.should_save = True
            self.reached = self._minutes if state.global_step < state.max_steps else None


class Watch(TrainerCallback):
    """Measures held-out questions before the first step, at every ``every``-th one and at the end.

    Without a ``measure`` it does nothing. A loop that is not transformers' calls ``look`` itself.
    """

    def __init__(
        self, measure: Callable[[], Mapping[str, float]] | None, every: int, keep: Callable[[Step], None], clock: Clock
    ) -> None:
        self._measure = measure
        self._every = every
        self._keep = keep
        self._clock = clock
        self._latest = -1

    def look(self, step: int, *, last: bool = False) -> None:
        """Measure, where it is the step's turn and it was not looked at yet; it is always the turn of the ``last``."""
        if self._measure is None or step == self._latest or not (last or step % self._every == 0):
            return
        self._latest = step
        with self._clock.stopped():
            found = {name: value for name, value in self._measure().items() if not math.isnan(value)}
        self._keep(Step.of("watch", step, self._clock.seconds, found))

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Before the first step, unless the run goes on."""
        if state.global_step == 0:
            self.look(0)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Every so many steps, and at the one behind which the training ends."""
        self.look(state.global_step, last=control.should_training_stop)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Where the last step was not looked at: the training ended otherwise."""
        self.look(state.global_step, last=True)


class Flat(TrainerCallback):
    """Ends a training by reward in which every group of rollouts earned the same, ``patience`` steps from the start.

    The start is that of the training: one that goes on from a checkpoint knows of the steps before it.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._moved = False

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:  # noqa: ARG002
        """Called by the trainer after each logged step."""
        if not logs or self._moved:
            return
        self._moved = any(step.get("frac_reward_zero_std", 1.0) < 1 for step in state.log_history)
        if not self._moved and "frac_reward_zero_std" in logs and state.global_step >= self._patience:
            raise FlatRewardError(
                f"in {state.global_step} steps all rollouts of each question earned the same "
                f"({logs.get('reward', math.nan):g} on average), so there is nothing to learn from: train with sft "
                "first, take easier questions, or raise --group, --temperature or --max-tokens"
            )


class FlatRewardError(RuntimeError):
    """No group of rollouts had two different rewards."""


class Whole(TrainerCallback):
    """Marks checkpoints that were written to their end, with the seconds of training until then.

    ``flush`` is called before: what is recorded of the steps up to the checkpoint must be safe by then, because a
    restart does not do these steps again.
    """

    def __init__(self, clock: Clock, flush: Callable[[], None]) -> None:
        self._clock = clock
        self._flush = flush

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Called by the trainer behind each save."""
        meet()  # each process writes a part
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and folder.is_dir():
            self._flush()
            mark(folder, self._clock.seconds)
