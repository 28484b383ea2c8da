"""``rollout``: sample trajectories from a model, and judge their answers."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from innerloop.errors import InputError
from innerloop.progress import progress
from innerloop.rollout.engine import Sampling, closed_after
from innerloop.schema import Mode, Outcome, Question, Status, Trajectory
from innerloop.store import Run
from innerloop.verbs.engine_settings import EngineSettings
from innerloop.verbs.shared import (
    QUESTION_SOURCES,
    OutputSettings,
    Shards,
    about,
    configuration,
    free_fields,
    missing_questions,
    out_folder,
    write_questions,
)
from innerloop.verbs.trajectories import judged

if TYPE_CHECKING:
    from innerloop.evaluate.statistics import Interval
    from innerloop.rollout.engine import Engine
    from innerloop.rollout.sample import Speaker

log = logging.getLogger("innerloop")

_DEFAULTS = Sampling()


@dataclass(frozen=True, kw_only=True)
class RolloutSettings(OutputSettings, EngineSettings):
    """Which questions to put to which model, and how to sample."""

    questions: str = field(metadata=about(QUESTION_SOURCES))
    samples: int = field(default=_DEFAULTS.samples, metadata=about("Trajectories per question and mode."))
    mode: tuple[Literal["plain", "thinking", "no-thinking"], ...] = field(
        default=("plain",), metadata=about("How the model is asked to answer; repeat it for several.")
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
    """What was sampled; ``new_trajectories`` of the ``trajectories`` now, the others before."""

    run: Path
    model: str
    questions: int
    trajectories: int
    new_trajectories: int
    modes: tuple[ModeCounts, ...]


def rollout(settings: RolloutSettings, *, command: Sequence[str] | None = None) -> RolloutResult:
    """Sample trajectories into a run folder and judge them; goes on where an earlier run ended.

    Without missing trajectories the model is not even loaded. Trajectories that failed before are tried again.
    Raises `InputError` for unusable input; ``command`` is what the manifest records as the command line.
    """
    from innerloop.questions import load
    from innerloop.rollout.sample import trajectory_id

    out = out_folder("rollout", settings)
    questions = settings.worded(load(settings.questions, limit=settings.limit, seed=settings.seed))
    modes = [Mode(mode) for mode in dict.fromkeys(settings.mode)]
    wanted = [
        trajectory_id(question.id, number, mode)
        for question in questions
        for mode in modes
        for number in range(settings.samples)
    ]
    with Run.start(out, "rollout", configuration(settings), command=command, free=free_fields(settings)) as run:
        new_questions = missing_questions(run, questions)
        done = {trajectory.id for trajectory in run.trajectories() if trajectory.status is not Status.ERROR}
        missing = len([name for name in wanted if name not in done])
        if missing:
            opened = settings.open_engine(run, settings.sampling(), count=missing)
            with closed_after(opened[0]):
                write_questions(run, new_questions)  # not before the model is there: a misspelt name leaves no folder
                _sample(run, opened, questions, settings.sampling(), modes=modes, done=done)
        else:
            write_questions(run, new_questions)
            log.info("nothing to do: %s holds all %d trajectories of this command", out, len(wanted))
        held = {trajectory.id: trajectory for trajectory in run.trajectories()}
    found = [held[name] for name in wanted]
    return RolloutResult(
        run=out,
        model=settings.model,
        questions=len(questions),
        trajectories=len(found),
        new_trajectories=missing,
        modes=tuple(_counts(mode, [entry for entry in found if entry.mode is mode]) for mode in modes),
    )


def _sample(
    run: Run,
    opened: tuple[Engine, Speaker],
    questions: Sequence[Question],
    sampling: Sampling,
    *,
    modes: Sequence[Mode],
    done: set[str],
) -> None:
    """Sample what is missing, and write it judged, as it comes."""
    from innerloop.evaluate.verify import DELIMITERS, Verifier
    from innerloop.prompts import used
    from innerloop.rollout.sample import plan, sample

    engine, speaker = opened
    run.note("prompts", used(questions, speaker.instruction))
    planned = plan(questions, speaker, sampling, modes=modes, done=done)
    tokens = 0
    with (
        Verifier(delimiters=(*DELIMITERS, (speaker.think_start, speaker.think_end))) as verifier,
        progress("sampling", len(planned), "trajectories") as shown,
        Shards(run, "trajectories", Trajectory, finish=lambda batch: judged(batch, questions, verifier)) as shards,
    ):
        for trajectory in sample(engine, speaker, planned, sampling):
            shards.add(trajectory)
            tokens += trajectory.tokens or 0
            shown.advance(1, f"{tokens} tokens")


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
