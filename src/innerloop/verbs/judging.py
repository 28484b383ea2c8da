"""Judging samples while more are drawn, and the options of it."""

from __future__ import annotations

import logging
import os
import queue
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from innerloop.schema import Question, Status, Trajectory
from innerloop.store import Run
from innerloop.verbs.background import Background
from innerloop.verbs.shards import Shards
from innerloop.verbs.shared import about
from innerloop.verbs.trajectories import judged

if TYPE_CHECKING:
    from innerloop.evaluate.verify import Verifier

log = logging.getLogger("innerloop")

_CHUNK = 8  # judged at once: few, so that one that takes long keeps few others from their verdicts
_WORKERS = 8
_MANY = 32  # left to judge at the end: worth a word


@dataclass(frozen=True, kw_only=True)
class VerdictSettings:
    """How verdicts are made."""

    weaker_sandbox: bool = field(
        default=False,
        metadata=about(
            "Where bubblewrap cannot be used, run the model's code in a weaker sandbox, which is reported with its "
            "gaps; without this such code stays undecided.",
            free=True,
        ),
    )
    verdict_cache: Path | None = field(
        default=None,
        metadata=about("Keep verdicts by content in this file, which many runs may share.", free=True),
    )

    def verifier(self, delimiters: Iterable[tuple[str, str]] = ()) -> Verifier:
        """What judges; ``delimiters`` are the model's own around thinking."""
        from innerloop.evaluate.verify import DELIMITERS, Verifier

        return Verifier(
            delimiters=tuple(dict.fromkeys((*DELIMITERS, *delimiters))),
            workers=max(1, min(_WORKERS, (os.cpu_count() or 1) // 4)),
            weaker_sandbox=self.weaker_sandbox,
            cache_file=self.verdict_cache,
        )


def sandbox_for(run: Run, questions: Iterable[Question], verifier: Verifier) -> str | None:
    """What the model's code runs in, noted in the manifest; None where nothing needs a sandbox to be judged."""
    from innerloop.evaluate.verify import gym

    names = {question.verifier or "" for question in questions}
    scored = sorted(name for name in names if name.startswith(gym.PREFIX) and gym.evaluates(name))
    if "code" not in names and not scored:
        return None
    choice = verifier.sandbox()
    run.note("sandbox", choice.describe())
    if choice.kind is None:
        what = ", ".join((*(("code",) if "code" in names else ()), *scored))
        log.warning("%s is not judged: %s", what, choice.describe())
    return choice.describe()


class Judging:
    """Judges samples in a thread, in their order, and passes them on to ``shards``.

    A sample whose judging takes longer than ``innerloop.verbs.shards.HOLD_SECONDS`` is written without a verdict
    first: it is safe however long that takes. An interrupt, or any other error in the block, calls the judging off;
    what has no verdict by then gets one at the next start. ``seen`` is called with every judged sample, in the thread.
    """

    def __init__(
        self,
        questions: Iterable[Question],
        verifier: Verifier,
        shards: Shards[Trajectory],
        seen: Callable[[Trajectory], None],
    ) -> None:
        self._questions = list(questions)
        self._verifier = verifier
        self._shards = shards
        self._seen = seen
        self._coming: queue.SimpleQueue[Trajectory | None] = queue.SimpleQueue()
        self._called_off = False
        self._thread = Background("judging", self._judge, lambda: self._coming.put(None))

    def add(self, trajectory: Trajectory) -> None:
        """Take over a sample."""
        self._thread.check()
        if trajectory.status is Status.ERROR:
            self._shards.add(trajectory)
            return
        self._shards.hold(trajectory)
        self._coming.put(trajectory)

    def __enter__(self) -> Self:
        self._thread.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._call_off()
        elif (left := self._coming.qsize()) > _MANY:
            log.info("judging the last %d answers", left)
        try:
            self._thread.__exit__(kind, error, trace)
        except BaseException:  # interrupted while the last ones were judged
            self._call_off()
            raise

    def _call_off(self) -> None:
        self._called_off = True
        self._verifier.close()  # ends what is being judged

    def _judge(self) -> None:
        more = True
        while more:
            batch = [self._coming.get()]
            while len(batch) < _CHUNK and not self._coming.empty():
                batch.append(self._coming.get())
            more = None not in batch
            for trajectory in judged([entry for entry in batch if entry], self._questions, self._verifier):
                if self._called_off:
                    return
                self._shards.add(trajectory)
                self._seen(trajectory)
