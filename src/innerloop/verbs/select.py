"""``select``: choose the trajectories to train on, so many of each question (the support sets of RaML eq. 8)."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from innerloop.chat import DELIMITERS
from innerloop.errors import InputError
from innerloop.schema import Curve, Outcome, Question, Trajectory
from innerloop.store import Run
from innerloop.verbs.day import of_the_day
from innerloop.verbs.shared import (
    QUESTION_SOURCES,
    InputSettings,
    OutputSettings,
    about,
    at_least,
    configuration,
    free_fields,
    missing_questions,
    out_folder,
    write_questions,
)

if TYPE_CHECKING:
    from innerloop.outer.support import Choice

log = logging.getLogger("innerloop")

_KINDS = {"right": "right ", "all": ""}
_ENDS = 1 << 30  # a distance of positions that no trajectory reaches: only its start and its end are measured
_DECISIVE = (
    "model",
    "dtype",
    "suffix",
    "prompt",
    "instruction",
    "system",
    "think_start",
    "think_end",
    "no_thinking",
    "scored",
)  # of what a curve is


@dataclass(frozen=True, kw_only=True)
class SelectSettings(OutputSettings, InputSettings):
    """How many trajectories of each question to choose, from where, and by what."""

    questions: str | None = field(default=None, metadata=about(f"{QUESTION_SOURCES}; by default those of a RUN."))
    trajectories: tuple[str, ...] = field(
        default=("solutions",), metadata=about("solutions, oracle, a FILE or a RUN folder, several at once.")
    )
    support: int = field(metadata=about("Trajectories to choose of each question (K, the size of its support set)."))
    by: Literal["random", "shortest", "diverse", "gain", "gain-per-token", "max-variance"] = field(
        default="random",
        metadata=about(
            "gain: what brings --model closest to the answer, measured by the probe, or read from a RUN that holds its "
            "curves; diverse: what differs most; max-variance: right and wrong ones, as even as can be (PODS)."
        ),
    )
    keep: Literal["right", "all"] | None = field(
        default=None,
        metadata=about("Choose among right trajectories only, or all; by default right, with max-variance all."),
    )
    skip_short: bool = field(
        default=False, metadata=about("Leave out questions with fewer than --support trajectories instead of stopping.")
    )
    suffix: str | None = field(
        default=None, metadata=about("Text between trajectory and answer; by default **Final Answer** \\boxed{.")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("support", self.support, 1)
        if not self.trajectories:
            raise InputError("--trajectories: nothing given; name solutions, oracle, a FILE or a RUN folder")
        if self.by == "max-variance" and self.keep == "right":
            raise InputError("--keep right: with --by max-variance right and wrong ones are needed; leave it out")


@dataclass(frozen=True, kw_only=True)
class SelectResult:
    """What was chosen of how many ``candidates``; ``left_out`` others were not right, or had no verdict.

    ``short`` questions had too few. ``gain`` and ``gain_before`` are the means over the chosen ones and over all
    candidates, in nats per answer token, where the choice is by gain; ``new_curves`` were measured for it now.
    """

    run: Path
    by: str
    questions: int
    trajectories: int
    candidates: int
    left_out: int
    short: int
    new_curves: int
    gain: float | None
    gain_before: float | None


def select(settings: SelectSettings, *, command: Sequence[str] | None = None) -> SelectResult:
    """Choose trajectories into a run folder, which every ``--trajectories`` takes; goes on where an earlier run ended.

    Raises `InputError` for unusable input; ``command`` is what the manifest records as the command line.
    """
    from innerloop.outer.support import by_question, enough, require, support_sets
    from innerloop.verbs.trajectories import gather

    out = out_folder("select", settings)
    questions, given = gather(settings.questions, settings.trajectories, **settings.which())
    questions = settings.worded(questions)
    candidates, left_out = _candidates(settings, questions, given)
    short = 0
    if settings.skip_short:
        questions, short = enough(questions, candidates, settings.support)
    found = by_question(questions, candidates)
    require(found, settings.support, "judged " if settings.by == "max-variance" else _KINDS[settings.keep or "right"])
    candidates = [trajectory for own in found.values() for trajectory in own]
    with Run.start(out, "select", configuration(settings), command=command, free=free_fields(settings)) as run:
        _refuse_a_shared_folder(run)
        curves: dict[str, Curve] = {}
        new = 0
        if settings.by in ("gain", "gain-per-token"):
            curves, new = _curves(run, settings, questions, candidates)
        choice = _choice(settings, curves)
        sets = support_sets(questions, candidates, settings.support, choice)
        chosen = [trajectory for own in sets.values() for trajectory in own]
        write_questions(run, missing_questions(run, questions))
        if run.trajectories() != chosen:
            run.replace("trajectories", Trajectory.to_table(chosen))
    return SelectResult(
        run=out,
        by=settings.by,
        questions=len(questions),
        trajectories=len(chosen),
        candidates=len(candidates),
        left_out=left_out,
        short=short,
        new_curves=new,
        gain=_mean_gain(curves, chosen),
        gain_before=_mean_gain(curves, candidates),
    )


def _candidates(
    settings: SelectSettings, questions: Sequence[Question], given: Sequence[Trajectory]
) -> tuple[list[Trajectory], int]:
    """What may be chosen, with verdicts, and how many others there are."""
    from innerloop.verbs.trajectories import judged, right_ones

    if settings.by == "max-variance":
        verdicts = judged(given, questions)
        kept = [trajectory for trajectory in verdicts if trajectory.outcome in (Outcome.RIGHT, Outcome.WRONG)]
    elif settings.keep == "all":
        kept = judged(given, questions)
    else:
        kept, _ = right_ones(given, questions)
    return kept, len(given) - len(kept)


def _refuse_a_shared_folder(run: Run) -> None:
    """The chosen trajectories take the place of all that a folder holds, so it must be the selection's own."""
    others = [verb for verb in run.manifest["stages"] if verb != "select"]
    if others:
        raise InputError(
            f"{run.path}: holds a {others[0]} run, and a selection needs a folder of its own; choose another --out"
        )


def _choice(settings: SelectSettings, curves: Mapping[str, Curve]) -> Choice:
    from innerloop.outer.select import CHOICES, by_value, max_variance

    if settings.by == "max-variance":
        return max_variance(settings.seed)
    if settings.by == "gain":
        return by_value({name: _gain(curve) for name, curve in curves.items()})
    if settings.by == "gain-per-token":  # a trajectory without tokens gains nothing
        return by_value({name: _gain(curve) / max(1, curve.position[-1]) for name, curve in curves.items()})
    return CHOICES[settings.by](settings.seed)


def _curves(
    run: Run, settings: SelectSettings, questions: Sequence[Question], candidates: Sequence[Trajectory]
) -> tuple[dict[str, Curve], int]:
    """A curve for each candidate, from start to end at least, and how many of them were measured now."""
    from innerloop.progress import progress
    from innerloop.verbs.shards import Shards

    texts = {trajectory.id: trajectory.text for trajectory in candidates}
    ends = {end for _, end in DELIMITERS} | ({settings.think_end} if settings.think_end else set())
    held = {curve.trajectory_id: curve for curve in _held(settings, run) if _is_of(curve, texts, ends)}
    missing = [trajectory for trajectory in candidates if trajectory.id not in held]
    if missing:
        loaded = of_the_day(run, settings.load(suffix=settings.suffix))
        run.record_model(loaded.describe())
        from innerloop.inner.probe import probe
        from innerloop.verbs.work import probe_item

        by_id = {question.id: question for question in questions}
        items = [probe_item(loaded, by_id[trajectory.question_id], trajectory) for trajectory in missing]
        with progress("probing", len(missing), "trajectories") as shown, Shards(run, "curves", Curve) as shards:
            for curve in probe(loaded, items, every=_ENDS):
                shards.add(curve)
                held[curve.trajectory_id] = curve
                shown.advance()
    return held, len(missing)


def _held(settings: SelectSettings, run: Run) -> Iterable[Curve]:
    """Curves of this model that are there already: those of the given runs, and of an earlier start."""
    from innerloop.verbs.trajectories import is_run

    own = configuration(settings)
    for source in filter(is_run, settings.trajectories):
        other = Run.open(source)
        measured = other.manifest["stages"].get("probe", {}).get("configuration")
        if measured is None:
            continue
        differing = [name for name in _DECISIVE if measured.get(name) != own.get(name)]
        if differing:
            name = differing[0]
            log.info("%s: its curves are not used: %s %s → %s", source, name, measured.get(name), own.get(name))
        else:
            yield from other.curves()
    yield from run.curves()


def _is_of(curve: Curve, texts: Mapping[str, str], ends: Collection[str]) -> bool:
    """Whether a curve runs from the start to the end of this very text, in numbers."""
    read = "".join(piece for piece in curve.token if piece is not None).strip()
    text = texts.get(curve.trajectory_id)
    if text is None or curve.position[0] != 0 or not read.startswith(text.strip()):
        return False
    rest = read[len(text.strip()) :].strip()  # a thinking one ends with its delimiter
    return (not rest or rest in ends) and all(map(math.isfinite, curve.loss))


def _gain(curve: Curve) -> float:
    """L̂₀ − L̂ₙ in nats per answer token."""
    from innerloop.inner.summary import summarise

    return summarise(curve).gain


def _mean_gain(curves: Mapping[str, Curve], trajectories: Sequence[Trajectory]) -> float | None:
    """The mean over the trajectories, where they were measured."""
    if not curves:
        return None
    return sum(_gain(curves[trajectory.id]) for trajectory in trajectories) / len(trajectories)
