"""What an evaluation scores: samples of files and run folders, with recorded verdicts, new ones, or both."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from innerloop.errors import InputError
from innerloop.ids import prefixes
from innerloop.progress import progress
from innerloop.schema import Curve, Outcome, Question, Source, Status, Trajectory, asked_as
from innerloop.store import Run
from innerloop.verbs.shards import Shards
from innerloop.verbs.shared import missing_questions, write_questions
from innerloop.verbs.trajectories import shown, unjudged

if TYPE_CHECKING:
    from innerloop.evaluate.verify import Verifier

log = logging.getLogger("innerloop")

Verdicts = Literal["keep", "redo", "compare"]

_CHUNK = 64  # samples judged at once, so that progress shows and a kill loses little


@dataclass(kw_only=True)
class Known:
    """Questions by id, and which benchmark each belongs to."""

    questions: dict[str, Question] = field(default_factory=dict)
    benchmarks: dict[str, str] = field(default_factory=dict)

    def add(self, questions: Iterable[Question], benchmark: str | None) -> None:
        """Take over questions; `InputError` where another one has the same id."""
        for question in questions:
            before = self.questions.get(question.id, question)
            if asked_as(before, question) != question:  # the prompt is no part of it
                raise InputError(f"question {question.id!r} differs between two sources; give one of them other ids")
            self.questions[question.id] = question
            if benchmark is not None:
                self.benchmarks.setdefault(question.id, benchmark)


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What one source holds. ``in_place``: it is the evaluation's own folder."""

    name: str
    trajectories: list[Trajectory]
    curves: list[Curve]
    in_place: bool = False


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """A sample that was judged otherwise before."""

    series: str
    question_id: str
    trajectory_id: str
    answer: str | None
    reference: str
    recorded: Outcome
    verdict: Outcome
    reason: str | None


def short_name(source: str) -> str:
    """How a source of questions or samples is called in tables."""
    name, _, file = source.partition("@")
    if file and "/" not in name:
        return name
    if source.startswith("gym:"):
        return source.removeprefix("gym:").partition("?")[0]
    if source.startswith("hf:"):
        return source.removeprefix("hf:")
    return Path(source).name if Path(source).is_dir() else Path(source).stem


def read(
    source: str,
    known: Known,
    *,
    limit: int | None,
    draw: int | None = None,
    samples: int | None = None,
    out: Path,
) -> Samples:
    """The samples of a file or run folder; a run's own questions are added to ``known``.

    Without any known questions a file's rows are taken as they are. ``limit`` takes the first N questions, of a run
    folder in its own order, else as they are met, or draws them from the seed ``draw``; ``samples`` the first N samples
    of each.
    """
    from innerloop.questions.choosing import drawn
    from innerloop.rollout.given import from_file

    path = Path(source)
    curves: list[Curve] = []
    order: list[str] = []
    if path.is_dir():
        run = Run.open(path)
        asked = (run.manifest["stages"].get("rollout") or {}).get("configuration", {}).get("questions")
        known.add(run.questions(), short_name(asked) if isinstance(asked, str) else None)
        order = [question.id for question in run.questions()]
        found = [trajectory for trajectory in run.trajectories() if not trajectory.source.is_control]
        found = [trajectory for trajectory in found if trajectory.source not in (Source.SOLUTION, Source.ORACLE)]
        curves = run.curves()
    else:
        found = from_file(path, list(known.questions.values()) or None, text_needed=False)
        doubled = Counter((t.question_id, t.mode, t.model, t.sample) for t in found)
        if more := sum(count - 1 for count in doubled.values()):
            log.warning("%s: %d rows repeat another's question, model and sample number; all are counted", path, more)
    if samples is not None:
        found = [trajectory for trajectory in found if trajectory.sample is None or trajectory.sample < samples]
    if limit is not None:
        met = list(dict.fromkeys(trajectory.question_id for trajectory in found))
        place = {name: number for number, name in enumerate(order or met)}
        first = set(sorted(met, key=lambda name: place.get(name, len(place)))[:limit])
        if draw is not None:
            first = drawn(met, limit, draw)
        found = [trajectory for trajectory in found if trajectory.question_id in first]
    if not found:
        raise InputError(f"{source}: holds no samples to score; sample some with rollout, or give another source")
    in_place = path.is_dir() and path.resolve() == out.resolve()
    return Samples(name=short_name(source), trajectories=found, curves=curves, in_place=in_place)


def split(samples: Samples, *, by_model: bool = False) -> dict[str, Samples]:
    """The series of a source: modes are never pooled; models are, where ``by_model`` is not asked for."""
    modes = {trajectory.mode for trajectory in samples.trajectories}
    models = {trajectory.model for trajectory in samples.trajectories}
    unnamed = next(name for i in itertools.count() if (name := "unnamed model" + "′" * i) not in models)
    found: dict[str, list[Trajectory]] = {}
    for trajectory in samples.trajectories:
        name = (trajectory.model or unnamed) if by_model else samples.name
        found.setdefault(f"{name} {trajectory.mode}" if len(modes) > 1 else name, []).append(trajectory)
    return {name: Samples(name=name, trajectories=own, curves=samples.curves) for name, own in found.items()}


def together(sources: Mapping[str, Samples]) -> Samples:
    """Several sources as one. Where two have samples of the same id, their source is put before it."""
    everything = [trajectory for samples in sources.values() for trajectory in samples.trajectories]
    if len({trajectory.id for trajectory in everything}) == len(everything):
        curves = [curve for samples in sources.values() for curve in samples.curves]
        name = next(iter(sources.values())).name if len(sources) == 1 else "all"
        return Samples(name=name, trajectories=everything, curves=curves)
    if len(sources) == 1:
        raise AssertionError("a source holds every id once")
    begins = prefixes(sources)
    named = [
        replace(trajectory, id=f"{begins[source]}{trajectory.id}")
        for source, samples in sources.items()
        for trajectory in samples.trajectories
    ]
    curves = [
        replace(curve, trajectory_id=f"{begins[source]}{curve.trajectory_id}")
        for source, samples in sources.items()
        for curve in samples.curves
    ]
    return Samples(name="all", trajectories=named, curves=curves)


def judge(
    run: Run,
    series: str,
    trajectories: Sequence[Trajectory],
    known: Known,
    verifier: Verifier,
    *,
    verdicts: Verdicts,
    prefix: str,
) -> list[Trajectory]:
    """The samples with our verdicts: those that have none are judged, and all of them unless ``verdicts`` is keep.

    Only samples whose question is known can be judged. They are written to the run folder as they come, under ids that
    begin with ``prefix``, and are taken from there by the next start; an empty prefix says that the samples are the
    folder's own. With ``compare`` the recorded verdict goes on counting in the folder, with ``redo`` ours does; the
    other one stands beside it.
    """
    redo, in_place = verdicts != "keep", not prefix
    stored = {} if in_place and redo else {trajectory.id: trajectory for trajectory in run.trajectories()}
    named = {t.id: f"{prefix}{t.id}" for t in trajectories}
    result: dict[str, Trajectory] = {}
    missing = []
    for trajectory in trajectories:
        needed = (redo or unjudged(trajectory)) and trajectory.status is not Status.ERROR
        before = stored.get(named[trajectory.id]) if needed else None
        same = before is not None and (before.text, before.final) == (trajectory.text, trajectory.final)
        if before is not None and same and not unjudged(ours(before)) and not (redo and before.judged is None):
            result[trajectory.id] = replace(ours(before), id=trajectory.id)
        elif needed and trajectory.question_id in known.questions:
            missing.append(trajectory)
        else:
            reason = trajectory.outcome_reason or (None if trajectory.outcome else "no verdict is recorded")
            result[trajectory.id] = replace(
                trajectory, outcome=trajectory.outcome or Outcome.UNDECIDED, outcome_reason=reason
            )
    new_ids = {t.question_id for t in trajectories} & known.questions.keys()
    write_questions(run, missing_questions(run, [known.questions[name] for name in sorted(new_ids)]))
    kept = [trajectory for trajectory in result.values() if named[trajectory.id] not in stored]
    with (
        progress(f"judging {series}", len(missing), "answers") as shown_progress,
        Shards(run, "trajectories", Trajectory) as shards,
    ):
        if not in_place:
            shards.add(*(replace(trajectory, id=named[trajectory.id]) for trajectory in kept))
        for start in range(0, len(missing), _CHUNK):
            chunk = _judged(missing[start : start + _CHUNK], known.questions, verifier)
            result |= {trajectory.id: trajectory for trajectory in chunk}
            counting = map(as_recorded, chunk) if verdicts == "compare" else chunk
            shards.add(*(replace(trajectory, id=named[trajectory.id]) for trajectory in counting))
            shown_progress.advance(len(chunk))
    return [result[trajectory.id] for trajectory in trajectories]


def as_recorded(trajectory: Trajectory) -> Trajectory:
    """The trajectory with the verdict that it came with, where it came with one."""
    if trajectory.recorded is None:
        return trajectory
    return replace(trajectory, outcome=trajectory.recorded, outcome_reason=trajectory.recorded_reason)


def ours(trajectory: Trajectory) -> Trajectory:
    """The trajectory with our own verdict, where it was judged again."""
    if trajectory.judged is None:
        return trajectory
    return replace(trajectory, outcome=trajectory.judged, outcome_reason=trajectory.judged_reason)


def _judged(
    trajectories: Sequence[Trajectory], questions: Mapping[str, Question], verifier: Verifier
) -> list[Trajectory]:
    """Every sample with a new verdict. One without a final answer is wrong here: it was asked for one."""
    from innerloop.evaluate.verify import Attempt

    attempts = [Attempt(question=questions[t.question_id], text=shown(t), status=t.status) for t in trajectories]
    return [
        ours(
            replace(
                _remembering(trajectory),
                judged=verdict.outcome,
                judged_reason=verdict.reason,
                answer=trajectory.answer or verdict.answer,
            )
        )
        for trajectory, verdict in zip(trajectories, verifier.verify(attempts), strict=True)
    ]


def _remembering(trajectory: Trajectory) -> Trajectory:
    """The trajectory with its verdict as the recorded one, unless it has none or an earlier one is kept already."""
    if trajectory.recorded is not None or unjudged(trajectory):
        return trajectory
    return replace(trajectory, recorded=trajectory.outcome, recorded_reason=trajectory.outcome_reason)


def disagreements(
    series: str, recorded: Sequence[Trajectory], judged: Sequence[Trajectory], known: Known
) -> tuple[int, list[Disagreement]]:
    """How many samples have a recorded verdict, and those where ours is another."""
    came = map(as_recorded, recorded)
    pairs = [(old, new) for old, new in zip(came, judged, strict=True) if old.outcome is not None]
    return len(pairs), [
        Disagreement(
            series=series,
            question_id=new.question_id,
            trajectory_id=new.id,
            answer=new.answer,
            reference=known.questions[new.question_id].answer,
            recorded=old.outcome,
            verdict=new.outcome or Outcome.UNDECIDED,
            reason=new.outcome_reason,
        )
        for old, new in pairs
        if old.outcome is not None and old.outcome is not new.outcome
    ]
