"""Summary numbers of curves averaged over questions, group by group, and the differences that matter.

Every mean counts each question once and comes with a bootstrap interval over questions (`statistics`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from innerloop.evaluate.groups import Group, grouped
from innerloop.evaluate.statistics import Interval, difference_interval, mean_interval
from innerloop.inner.summary import Summary, summarise
from innerloop.schema import Curve, Outcome, Source, Trajectory

_NUMBERS = tuple(field.name for field in dataclasses.fields(Summary))


@dataclass(frozen=True, kw_only=True)
class GroupSummary:
    """One group: how many trajectories, and each summary number as a mean over questions (nats, see `Summary`)."""

    group: Group
    trajectories: int
    start: Interval
    end: Interval
    gain: Interval
    area: Interval
    downward: Interval
    trend: Interval


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Gain of ``minuend`` minus gain of ``subtrahend``, paired by question where both have the question."""

    minuend: Group
    subtrahend: Group
    gain: Interval


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """Groups in their fixed order; differences: right − wrong, and worked solutions − each control."""

    groups: tuple[GroupSummary, ...]
    differences: tuple[Difference, ...]


def aggregate(
    curves: Iterable[Curve], trajectories: Iterable[Trajectory], *, level: float = 0.95, seed: int = 0
) -> Aggregate:
    """Aggregates the curves of a run; trajectories without a curve are left out."""
    group_of = grouped(trajectories)
    members: dict[Group, dict[str, list[Summary]]] = {}
    for curve in curves:
        by_question = members.setdefault(group_of[curve.trajectory_id], {})
        by_question.setdefault(curve.question_id, []).append(summarise(curve))
    ranked = sorted(members, key=lambda group: group.rank)

    def interval(values: Mapping[str, list[float]]) -> Interval:
        return mean_interval(values, level=level, generator=seed)

    return Aggregate(
        groups=tuple(
            GroupSummary(
                group=group,
                trajectories=sum(map(len, members[group].values())),
                **{name: interval(_values(members[group], name)) for name in _NUMBERS},
            )
            for group in ranked
        ),
        differences=tuple(
            Difference(
                minuend=a,
                subtrahend=b,
                gain=difference_interval(
                    _values(members[a], "gain"), _values(members[b], "gain"), level=level, generator=seed
                ),
            )
            for a in ranked
            for b in ranked
            if _worth_comparing(a, b)
        ),
    )


def _values(by_question: Mapping[str, list[Summary]], number: str) -> dict[str, list[float]]:
    return {question: [getattr(s, number) for s in summaries] for question, summaries in by_question.items()}


def _worth_comparing(a: Group, b: Group) -> bool:
    """Right against wrong of the same source and mode; worked solutions against a control."""
    if a.outcome is Outcome.RIGHT and b == replace(a, outcome=Outcome.WRONG):
        return True
    return a.source is Source.SOLUTION and b.source.is_control
