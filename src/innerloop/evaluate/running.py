"""The score of an evaluation that is still running."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Hashable, Iterable

from innerloop.schema import Outcome, Question, Trajectory

_RESAMPLES = 999  # a progress line wants no third digit
_SHARE = 0.05  # of the time at most goes into looking


class RunningScore:
    """Share of right samples so far (Pass@1), with the 95 % interval over questions or their templates.

    Samples are averaged within a question first. Undecided ones are left out, failed ones too. May be called from any
    thread.
    """

    def __init__(self, questions: Iterable[Question]) -> None:
        from innerloop.evaluate.tally import cluster

        self._clusters: dict[str, Hashable] = {
            question.id: question.id if (name := cluster(question)) is None else (name,) for question in questions
        }
        self._counts: dict[str, dict[str, list[int]]] = {}  # mode → question → right, decided
        self._lock = threading.Lock()
        self._changed = False
        self._said = ""
        self._free_at = 0.0

    def add(self, trajectory: Trajectory) -> None:
        """Count a judged sample."""
        if trajectory.outcome not in (Outcome.RIGHT, Outcome.WRONG):
            return
        with self._lock:
            counts = self._counts.setdefault(trajectory.mode.value, {}).setdefault(trajectory.question_id, [0, 0])
            counts[0] += trajectory.outcome is Outcome.RIGHT
            counts[1] += 1
            self._changed = True

    def text(self) -> str:
        """``38 % [29, 48] right``, mode by mode where there are several; empty before the first verdict."""
        started = time.monotonic()
        if not self._changed or started < self._free_at:
            return self._said
        with self._lock:
            self._changed = False
            means = {
                mode: {name: right / decided for name, (right, decided) in own.items()}
                for mode, own in self._counts.items()
            }
        parts = [f"{mode} {self._one(own)}" if len(means) > 1 else self._one(own) for mode, own in means.items()]
        self._said = f"{', '.join(parts)} right"
        now = time.monotonic()
        self._free_at = now + (now - started) / _SHARE
        return self._said

    def settle(self) -> None:
        """All is counted: the next text is the last and may cost what it costs."""
        self._free_at = 0.0

    def _one(self, means: dict[str, float]) -> str:
        import numpy as np

        from innerloop.evaluate.resample import intervals

        clusters = [self._clusters.get(name, name) for name in means]
        (span,) = intervals(np.array([[mean] for mean in means.values()]), clusters, resamples=_RESAMPLES)
        if math.isnan(span.low):
            return f"{100 * span.mean:.0f} %"
        return f"{100 * span.mean:.0f} % [{100 * span.low:.0f}, {100 * span.high:.0f}]"
