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
from innerloop.schema import Curve, Outcome, Question, Trajectory

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
    """Gain of ``minuend`` minus gain of ``subtrahend``.

    Right and wrong trajectories are paired by question where both have the question. A control is subtracted from the
    very trajectory that it was made of, so that a gain which the tokens have in any order counts for nothing.
    """

    minuend: Group
    subtrahend: Group
    gain: Interval


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """Groups in their fixed order; differences: right − wrong, then each group − its own controls."""

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
    by_id = {trajectory.id: trajectory for trajectory in trajectories}
    group_of = grouped(by_id.values())
    answers = {question.id: question.answer for question in questions}
    found: dict[Group, list[_Measured]] = {}
    for curve in curves:
        if curve.trajectory_id in group_of:
            measured = _measure(curve, by_id[curve.trajectory_id], answers.get(curve.question_id, ""))
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
        differences=(
            *(
                Difference(
                    minuend=right,
                    subtrahend=wrong,
                    gain=difference_interval(gains[right], gains[wrong], level=level, generator=seed),
                )
                for right in members
                if right.outcome is Outcome.RIGHT and (wrong := replace(right, outcome=Outcome.WRONG)) in members
            ),
            *(
                Difference(
                    minuend=group,
                    subtrahend=control,
                    gain=replace(mean_interval(pairs, level=level, generator=seed), paired=True),
                )
                for group, own in members.items()
                for control, controls in members.items()
                if (pairs := _own_control(own, controls))
            ),
        ),
    )


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """One curve's part: ``numbers`` by name; ``made_of`` names the trajectory that a control was made of."""

    question_id: str
    trajectory_id: str
    made_of: str | None
    numbers: dict[str, float]
    written: bool


def _measure(curve: Curve, trajectory: Trajectory, answer: str) -> _Measured:
    return _Measured(
        question_id=curve.question_id,
        trajectory_id=trajectory.id,
        made_of=trajectory.made_of,
        numbers=dataclasses.asdict(summarise(curve)) | {"before": gain_before(answer, curve)},
        written=written(answer, curve) is not None,
    )


def _values(own: Sequence[_Measured], number: str) -> dict[str, list[float]]:
    """A number of each curve under its question's id."""
    found: dict[str, list[float]] = {}
    for measured in own:
        found.setdefault(measured.question_id, []).append(measured.numbers[number])
    return found


def _own_control(own: Sequence[_Measured], controls: Sequence[_Measured]) -> dict[str, list[float]]:
    """The gain of each trajectory minus that of the control made of it, under its question's id."""
    control_of = {measured.made_of: measured for measured in controls}
    found: dict[str, list[float]] = {}
    for measured in own:
        if (control := control_of.get(measured.trajectory_id)) is not None:
            found.setdefault(measured.question_id, []).append(measured.numbers["gain"] - control.numbers["gain"])
    return found
