"""``rollout``: sample trajectories from a model, and judge their answers."""

from __future__ import annotations

import logging
import math
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from innerloop.errors import InputError
from innerloop.progress import Speed, progress
from innerloop.rollout.engine import Sampling, closed_after
from innerloop.schema import Mode, Outcome, Question, Status, Trajectory
from innerloop.store import Run
from innerloop.verbs.day import as_dated, dated, of_the_day
from innerloop.verbs.engine_settings import EngineSettings
from innerloop.verbs.judging import Judging, VerdictSettings, sandbox_for
from innerloop.verbs.shards import Shards
from innerloop.verbs.shared import (
    QUESTION_SOURCES,
    OutputSettings,
    about,
    configuration,
    extent_fields,
    free_fields,
    missing_questions,
    out_folder,
    write_questions,
)
from innerloop.verbs.trajectories import unjudged

if TYPE_CHECKING:
    from innerloop.evaluate.statistics import Interval
    from innerloop.rollout.engine import Engine
    from innerloop.rollout.sample import Speaker

log = logging.getLogger("innerloop")

_DEFAULTS = Sampling()


@dataclass(frozen=True, kw_only=True)
class RolloutSettings(VerdictSettings, OutputSettings, EngineSettings):
    """Which questions to put to which model, and how to sample."""

    questions: str = field(metadata=about(QUESTION_SOURCES))
    limit: int | None = field(default=None, metadata=about("Take only the first N questions.", extent=True))
    samples: int = field(default=_DEFAULTS.samples, metadata=about("Trajectories per question and mode.", extent=True))
    mode: tuple[Literal["plain", "thinking", "no-thinking"], ...] = field(
        default=("plain",), metadata=about("How the model is asked to answer; several are possible.")
    )
    temperature: float = field(default=_DEFAULTS.temperature, metadata=about("0 takes the likeliest token."))
    top_p: float = field(default=_DEFAULTS.top_p, metadata=about("Sample from the likeliest tokens with this mass."))
    top_k: int = field(default=_DEFAULTS.top_k, metadata=about("Sample from the K likeliest tokens; 0: from all."))
    max_tokens: int = field(default=_DEFAULTS.max_tokens, metadata=about("Length at which a trajectory is cut off."))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.mode:
            raise InputError("--mode: nothing given; name plain, thinking or no-thinking")
        self.sampling()

    def sampling(self) -> Sampling:
        """How completions are drawn; `InputError` for values that make no sense."""
        return Sampling(
            samples=self.samples,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            max_tokens=self.max_tokens,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True)
class ModeCounts:
    """What came out in one mode. ``accuracy`` is over questions, undecided trajectories left out."""

    mode: Mode
    trajectories: int
    right: int
    wrong: int
    undecided: int
    truncated: int
    failed: int
    tokens: int
    accuracy: Interval


@dataclass(frozen=True, kw_only=True)
class RolloutResult:
    """What was sampled; ``new_trajectories`` of the ``trajectories`` now, the others before.

    ``sandbox`` says what code ran in, where there was code to judge; ``cached_verdicts`` were known from equal answers.
    """

    run: Path
    model: str
    questions: int
    trajectories: int
    new_trajectories: int
    sandbox: str | None
    cached_verdicts: int
    modes: tuple[ModeCounts, ...]


def rollout(settings: RolloutSettings, *, command: Sequence[str] | None = None) -> RolloutResult:
    """Sample trajectories into a run folder and judge them; goes on where an earlier run ended.

    Without missing trajectories the model is not even loaded. Trajectories that failed before are tried again.
    Raises `InputError` for unusable input; ``command`` is what the manifest records as the command line.
    """
    from innerloop.questions import load
    from innerloop.rollout.sample import trajectory_id

    out = out_folder("rollout", settings)
    questions = settings.worded(load(settings.questions, **settings.which()))
    modes = [Mode(mode) for mode in dict.fromkeys(settings.mode)]
    wanted = [
        trajectory_id(question.id, number, mode)
        for question in questions
        for mode in modes
        for number in range(settings.samples)
    ]
    free, extent = free_fields(settings), extent_fields(settings)
    with Run.start(out, "rollout", configuration(settings), command=command, free=free, extent=extent) as run:
        work = _Work(run, settings, questions, modes, wanted)
        work.do()
        held = {trajectory.id: trajectory for trajectory in run.trajectories()}
    found = [held[name] for name in wanted]
    return RolloutResult(
        run=out,
        model=settings.model,
        questions=len(questions),
        trajectories=len(found),
        new_trajectories=work.missing,
        sandbox=work.sandbox,
        cached_verdicts=work.cached,
        modes=tuple(_counts(mode, [entry for entry in found if entry.mode is mode]) for mode in modes),
    )


class _Work:
    """What one call samples and judges."""

    def __init__(
        self,
        run: Run,
        settings: RolloutSettings,
        questions: Sequence[Question],
        modes: Sequence[Mode],
        wanted: Sequence[str],
    ) -> None:
        self._run = run
        self._settings = settings
        known = run.questions()
        self._questions = questions = as_dated(known, questions)
        self._modes = modes
        self._wanted = len(wanted)
        self._new_questions = missing_questions(run, questions, known)
        stored = {t.id: t for t in run.trajectories() if t.status is not Status.ERROR}
        self._done = set(stored)
        self._held = [stored[name] for name in wanted if name in stored]
        self.missing = len(wanted) - len(self._held)
        self.sandbox: str | None = None
        self.cached = 0

    def do(self) -> None:
        """Sample what is missing, judge it and what has no verdict yet, and write it as it comes."""
        if not self.missing:
            write_questions(self._run, self._new_questions)
            if any(map(unjudged, self._held)):
                self._sample(None)
            else:
                log.info("nothing to do: %s holds all %d trajectories of this command", self._run.path, self._wanted)
            return
        engine, speaker = self._settings.open_engine(self._run, self._settings.sampling(), count=self.missing)
        speaker = of_the_day(self._run, speaker)
        self._questions, self._new_questions = (
            dated(questions, speaker) for questions in (self._questions, self._new_questions)
        )
        opened = engine, speaker
        with closed_after(engine):
            write_questions(self._run, self._new_questions)  # behind the model: a misspelt name leaves no folder
            self._sample(opened)

    def _sample(self, opened: tuple[Engine, Speaker] | None) -> None:
        from innerloop.evaluate.running import RunningScore

        score, speed = RunningScore(self._questions), Speed("tokens")
        with (
            self._settings.verifier([(opened[1].think_start, opened[1].think_end)] if opened else []) as verifier,
            progress("sampling" if opened else "judging", self.missing, "trajectories") as shown,
            Shards(self._run, "trajectories", Trajectory) as shards,
        ):
            self.sandbox = sandbox_for(self._run, self._questions, verifier)
            with Judging(self._questions, verifier, shards, score.add) as judging:
                for trajectory in self._held:
                    if unjudged(trajectory):
                        judging.add(trajectory)
                    else:
                        score.add(trajectory)
                with closing(self._draw(opened)) as drawn:  # an interrupt calls the engine off at once
                    for trajectory in drawn:
                        judging.add(trajectory)
                        speed.add(trajectory.tokens or 0)
                        shown.advance(1, lambda: ", ".join(filter(None, (speed.text(), score.text()))))
            score.settle()
        self.cached = verifier.cached

    def _draw(self, opened: tuple[Engine, Speaker] | None) -> Generator[Trajectory]:
        from innerloop.prompts import used
        from innerloop.rollout.sample import plan, sample

        if opened is not None:
            engine, speaker = opened
            self._run.note("prompts", used(self._questions, speaker.instruction, speaker.system))
            sampling = self._settings.sampling()
            planned = plan(self._questions, speaker, sampling, modes=self._modes, done=self._done)
            yield from sample(engine, speaker, planned, sampling)


def _counts(mode: Mode, trajectories: Sequence[Trajectory]) -> ModeCounts:
    from innerloop.evaluate.statistics import mean_interval

    scores: dict[str, list[float]] = {}
    values = {Outcome.RIGHT: 1.0, Outcome.WRONG: 0.0}
    for trajectory in trajectories:
        score = values.get(trajectory.outcome, math.nan) if trajectory.outcome else math.nan
        scores.setdefault(trajectory.question_id, []).append(score)
    outcomes = [trajectory.outcome for trajectory in trajectories]
    return ModeCounts(
        mode=mode,
        trajectories=len(trajectories),
        right=outcomes.count(Outcome.RIGHT),
        wrong=outcomes.count(Outcome.WRONG),
        undecided=len(outcomes) - outcomes.count(Outcome.RIGHT) - outcomes.count(Outcome.WRONG),
        truncated=sum(trajectory.status is Status.TRUNCATED for trajectory in trajectories),
        failed=sum(trajectory.status is Status.ERROR for trajectory in trajectories),
        tokens=sum(trajectory.tokens or 0 for trajectory in trajectories),
        accuracy=mean_interval(scores),
    )
