"""A run folder as the page sees it: trajectories joined with their question, curve, summary numbers and group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from innerloop.errors import InputError
from innerloop.evaluate.groups import Group, grouped
from innerloop.inner.summary import Summary, summarise
from innerloop.schema import Curve, Landscape, Question, Score, Step, Trajectory, Update
from innerloop.store import Run


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One trajectory with what belongs to it; ``curve`` and ``summary`` are None where it was not probed."""

    trajectory: Trajectory
    question: Question
    group: Group
    curve: Curve | None
    summary: Summary | None

    @property
    def tokens(self) -> int | None:
        """Length of what was probed, in tokens; of what was generated where nothing was probed."""
        return self.curve.position[-1] if self.curve else self.trajectory.tokens


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a training left in its run folder: its steps and looks at held-out questions, steps rising."""

    name: str
    recipe: str | None
    status: str  # as in the manifest: running, complete, interrupted, failed
    steps: tuple[Step, ...]


@dataclass(frozen=True, kw_only=True)
class View:
    """Everything that the sections of the page are made from."""

    path: Path
    manifest: dict[str, Any]
    questions: tuple[Question, ...]
    entries: tuple[Entry, ...]
    groups: tuple[Group, ...]
    updates: tuple[Update, ...] = ()
    landscapes: tuple[Landscape, ...] = ()
    scores: tuple[Score, ...] = ()
    trainings: tuple[Training, ...] = ()  # this run's first, then those of other runs that are drawn beside it

    @property
    def probed(self) -> list[Entry]:
        """The entries that have a curve."""
        return [entry for entry in self.entries if entry.curve is not None]

    @property
    def readable(self) -> bool:
        """Whether there is text to read; samples that were only scored may have none."""
        return any(e.trajectory.text or e.trajectory.final or e.curve is not None for e in self.entries)


def view(path: Path, beside: Sequence[Path] = ()) -> View:
    """Read a run folder, and the trainings of others ``beside`` it. Raises `InputError` where there is none."""
    run = Run.open(path)
    questions = run.questions()
    known = {question.id: question for question in questions}
    trajectories = run.trajectories()
    curves = {curve.trajectory_id: curve for curve in run.curves()}
    group_of = grouped(trajectories)
    entries = [
        Entry(
            trajectory=trajectory,
            # A trajectory whose question sits in a lost shard is still worth reading.
            question=known.get(trajectory.question_id) or Question(id=trajectory.question_id, question="", answer=""),
            group=group_of[trajectory.id],
            curve=(curve := curves.get(trajectory.id)),
            summary=summarise(curve) if curve else None,
        )
        for trajectory in trajectories
    ]
    place = {question.id: i for i, question in enumerate(questions)}
    entries.sort(key=lambda entry: (place.get(entry.question.id, len(place)), entry.group.rank))
    return View(
        path=path,
        manifest=run.manifest,
        questions=tuple(questions),
        entries=tuple(entries),
        groups=tuple(sorted({entry.group for entry in entries}, key=lambda group: group.rank)),
        updates=tuple(run.updates()),
        landscapes=tuple(run.landscapes()),
        scores=tuple(run.scores()),
        trainings=_trainings([path, *beside]),
    )


def _trainings(paths: Sequence[Path]) -> tuple[Training, ...]:
    """By the folders' names, or their paths where two have the same name."""
    names = [path.resolve().name for path in paths]
    found = []
    for path, name in zip(paths, names, strict=True):
        run = Run.open(path)
        trained = [(verb, stage) for verb, stage in run.manifest["stages"].items() if verb.startswith("train ")]
        steps = run.steps()
        if not steps and path != paths[0]:
            raise InputError(f"{path}: holds no training; give folders that innerloop train wrote")
        if steps:
            verb, stage = trained[-1] if trained else (None, {})
            found.append(
                Training(
                    name=name if names.count(name) == 1 else str(path),
                    recipe=verb.removeprefix("train ") if verb else None,
                    status=str(stage.get("status", "complete")),
                    steps=tuple(steps),
                )
            )
    return tuple(found)


def rounded(values: Sequence[float], digits: int) -> list[float | None]:
    """Numbers as the page's JSON holds them: undefined (NaN, infinite) is None."""
    return [round(value, digits) if math.isfinite(value) else None for value in values]


def significant(value: float | None, digits: int = 4) -> float | None:
    """A number of any size to so many significant digits; None where it is undefined."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.{digits}g}")
