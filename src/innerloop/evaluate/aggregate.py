"""Summary numbers of curves averaged over questions, group by group, and the differences that matter.

Every mean counts each question once and comes with a bootstrap interval over questions (`statistics`). The page,
``--json`` and the tables show these numbers and no others (`innerloop.evaluate.rows`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from innerloop.evaluate.groups import Group, grouped
from innerloop.evaluate.statistics import Interval, difference_interval, mean_interval
from innerloop.inner.summary import Summary, summarise
from innerloop.inner.written import gain_before, written
from innerloop.schema import Curve, Outcome, Question, Source, Trajectory

#: The numbers of a `GroupSummary` that are means over questions.
NUMBERS = ("before", *(field.name for field in dataclasses.fields(Summary)))


@dataclass(frozen=True, kw_only=True)
class GroupSummary:
    """One group: how many questions and trajectories, and each summary number as a mean over questions.

    ``written`` trajectories write the reference answer themselves; ``before`` is the gain up to that place
    (`innerloop.inner.written`). The others are those of `Summary`; losses in nats per answer token.
    """

    group: Group
    questions: int
    trajectories: int
    written: int
    start: Interval
    end: Interval
    gain: Interval
    area: Interval
    downward: Interval
    trend: Interval
    before: Interval


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Gain of ``minuend`` minus gain of ``subtrahend``, paired by question where both have the question."""

    minuend: Group
    subtrahend: Group
    gain: Interval


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """Groups in their fixed order; differences: right − wrong, then worked solutions − each control."""

    groups: tuple[GroupSummary, ...]
    differences: tuple[Difference, ...]


def aggregate(
    curves: Iterable[Curve],
    trajectories: Iterable[Trajectory],
    questions: Iterable[Question] = (),
    *,
    level: float = 0.95,
    seed: int = 0,
) -> Aggregate:
    """Aggregates the curves of a run.

    Trajectories without a curve are left out, as are curves without their trajectory. The answer of a question that
    is not in ``questions`` counts as written nowhere.
    """
    group_of = grouped(trajectories)
    answers = {question.id: question.answer for question in questions}
    found: dict[Group, list[_Measured]] = {}
    for curve in curves:
        if curve.trajectory_id in group_of:
            measured = _measure(curve, answers.get(curve.question_id, ""))
            found.setdefault(group_of[curve.trajectory_id], []).append(measured)
    members = {group: found[group] for group in sorted(found, key=lambda group: group.rank)}
    gains = {group: _values(own, "gain") for group, own in members.items()}
    return Aggregate(
        groups=tuple(
            GroupSummary(
                group=group,
                questions=len(gains[group]),
                trajectories=len(own),
                written=sum(measured.written for measured in own),
                **{name: mean_interval(_values(own, name), level=level, generator=seed) for name in NUMBERS},
            )
            for group, own in members.items()
        ),
        differences=tuple(
            Difference(
                minuend=a,
                subtrahend=b,
                gain=difference_interval(gains[a], gains[b], level=level, generator=seed),
            )
            for a, b in _contrasts(list(members))
        ),
    )


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """One curve's part: ``numbers`` by name."""

    question_id: str
    numbers: dict[str, float]
    written: bool


def _measure(curve: Curve, answer: str) -> _Measured:
    return _Measured(
        question_id=curve.question_id,
        numbers=dataclasses.asdict(summarise(curve)) | {"before": gain_before(answer, curve)},
        written=written(answer, curve) is not None,
    )


def _values(own: Sequence[_Measured], number: str) -> dict[str, list[float]]:
    """A number of each curve under its question's id."""
    found: dict[str, list[float]] = {}
    for measured in own:
        found.setdefault(measured.question_id, []).append(measured.numbers[number])
    return found


def _contrasts(groups: Sequence[Group]) -> list[tuple[Group, Group]]:
    """Right against wrong of the same source and mode; worked solutions and oracles against each control."""
    right = [group for group in groups if group.outcome is Outcome.RIGHT]
    solutions = [group for group in groups if group.source in (Source.SOLUTION, Source.ORACLE)]
    return [(a, b) for a in right for b in groups if b == replace(a, outcome=Outcome.WRONG)] + [
        (a, b) for a in solutions for b in groups if b.source.is_control
    ]
