"""A run folder as the page sees it: trajectories joined with their question, curve, summary numbers and group."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from innerloop.inner.summary import Summary, summarise
from innerloop.schema import Curve, Mode, Outcome, Question, Source, Trajectory
from innerloop.store import Run


@dataclass(frozen=True)
class Group:
    """Trajectories that are averaged together: one source, and for answers that were judged one outcome.

    ``mode`` is None where the source has only one mode in this run.
    """

    source: Source
    outcome: Outcome | None
    mode: Mode | None

    @property
    def rank(self) -> tuple[int, int]:
        """Groups stand on the page by rising rank."""
        return _ORDER.index((self.source, self.outcome)), list(Mode).index(self.mode) if self.mode else -1

    @property
    def key(self) -> str:
        """Unique in a page; safe in an HTML id."""
        return "-".join(part or "any" for part in (self.source, self.mode, self.outcome))

    @property
    def label(self) -> str:
        """E.g. ``Samples, thinking, right``."""
        return ", ".join(filter(None, (self.short_label, self._outcome_label)))

    @property
    def kind(self) -> str:
        """What decides colour and dash: the outcome, or for solutions and controls the source."""
        return str(self.source) if self.source not in _JUDGED else str(self.outcome or "unjudged")

    @property
    def short_label(self) -> str:
        """The label without the outcome."""
        return ", ".join(filter(None, (_NAMES[self.source], self.mode)))

    @property
    def _outcome_label(self) -> str:
        return (self.outcome or "not judged") if self.source in _JUDGED else ""


_NAMES = {
    Source.SOLUTION: "Worked solutions",
    Source.FILE: "From file",
    Source.SAMPLE: "Samples",
    Source.OTHER_QUESTION: "Control: other question",
    Source.SHUFFLED: "Control: shuffled tokens",
}
_JUDGED = (Source.FILE, Source.SAMPLE)
_ORDER = [
    (source, outcome)
    for source in _NAMES
    for outcome in ((Outcome.RIGHT, Outcome.WRONG, Outcome.UNDECIDED, None) if source in _JUDGED else (None,))
]


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
class View:
    """Everything that the sections of the page are made from."""

    path: Path
    manifest: dict[str, Any]
    questions: tuple[Question, ...]
    entries: tuple[Entry, ...]
    groups: tuple[Group, ...]

    @property
    def probed(self) -> list[Entry]:
        """The entries that have a curve."""
        return [entry for entry in self.entries if entry.curve is not None]

    def values(self, chosen: Iterable[Entry], number: Callable[[Entry], float]) -> dict[str, list[float]]:
        """``number`` of each chosen entry under its question's id, as `innerloop.evaluate.statistics` wants it."""
        found: dict[str, list[float]] = {}
        for entry in chosen:
            found.setdefault(entry.question.id, []).append(number(entry))
        return found


def view(path: Path) -> View:
    """Read a run folder. Raises `InputError` where there is none."""
    run = Run.open(path)
    questions = run.questions()
    known = {question.id: question for question in questions}
    trajectories = run.trajectories()
    curves = {curve.trajectory_id: curve for curve in run.curves()}
    split = _sources_with_several_modes(trajectories)
    entries = [
        Entry(
            trajectory=trajectory,
            # A trajectory whose question sits in a lost shard is still worth reading.
            question=known.get(trajectory.question_id) or Question(id=trajectory.question_id, question="", answer=""),
            group=_group(trajectory, split),
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
    )


def rounded(values: Sequence[float], digits: int) -> list[float | None]:
    """Numbers as the page's JSON holds them: undefined (NaN, infinite) is None."""
    return [round(value, digits) if math.isfinite(value) else None for value in values]


def _sources_with_several_modes(trajectories: Iterable[Trajectory]) -> set[Source]:
    modes: dict[Source, set[Mode]] = {}
    for trajectory in trajectories:
        modes.setdefault(trajectory.source, set()).add(trajectory.mode or Mode.PLAIN)
    return {source for source, found in modes.items() if len(found) > 1}


def _group(trajectory: Trajectory, split: set[Source]) -> Group:
    source = trajectory.source
    outcome = trajectory.outcome if source in _JUDGED else None
    mode = (trajectory.mode or Mode.PLAIN) if source in split else None
    return Group(source=source, outcome=outcome, mode=mode)
