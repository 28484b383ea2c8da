"""How well −∇L predicts what the updates do, group by group, with intervals over questions.

A point is one update: what its gradient predicted, and how the loss truly changed. Points of one question hang
together, so whole questions are drawn again, with all their points (see `innerloop.evaluate.statistics` for the kind of
interval). Correlation and slopes are over points; the other numbers are means over questions of the questions' means.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING

from innerloop.evaluate.statistics import Interval, expanded_level
from innerloop.schema import Update

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Generator = np.random.Generator

__all__ = ["AlignmentRow", "summarise"]

_FEWEST = 3  # questions, for an interval
_NOTHING = 1e-20  # variance below this share of the mean square is round-off


@dataclass(frozen=True, kw_only=True)
class AlignmentRow:
    """One group of trajectories under the model or (``untrained``) under an untrained one of the same shape.

    ``mean`` of an interval is the number itself. Undefined is NaN, and ``reason`` says why; fewer than three questions
    have no bounds. Losses in nats per answer token; position 0, where there is no update yet, is left out.

    - ``correlation`` (Pearson) of the predicted with the true change of the loss; ``null_correlation`` is what random
      patches of the same norms in the same row spaces would give (``low`` to ``high`` their range at the same level,
      one random direction for all points of a question);
    - ``slope_origin`` of true against predicted change without intercept, ``slope`` and ``intercept`` with one:
      1 and 0 where the loss is linear;
    - ``sign_agreement``: the share of points where both changes have the same sign, 0.5 by chance;
    - ``cosine``: mean of cos(θ'ᵢ − θ, −g);
    - ``z``: mean of −predicted in standard deviations of its null: positive is downhill, more than random patches.
      ``pooled_z`` sums predictions first and counts all points of a question as one draw of the null.

    ``step_…``: from each stored position to the next, with the gradient at the former. ``causal_…``: with the
    layer-causal gradient. Their points are counted in the intervals' ``values``.
    """

    group: str
    untrained: bool
    questions: int
    points: int
    correlation: Interval
    null_correlation: Interval
    slope_origin: Interval
    slope: Interval
    intercept: Interval
    sign_agreement: Interval
    cosine: Interval
    z: Interval
    pooled_z: Interval
    step_correlation: Interval
    step_null_correlation: Interval
    step_slope_origin: Interval
    step_slope: Interval
    step_intercept: Interval
    step_sign_agreement: Interval
    step_z: Interval
    step_pooled_z: Interval
    causal_correlation: Interval
    causal_null_correlation: Interval
    causal_slope_origin: Interval
    causal_slope: Interval
    causal_intercept: Interval
    causal_sign_agreement: Interval
    causal_cosine: Interval
    causal_z: Interval
    causal_pooled_z: Interval


def summarise(
    updates: Iterable[Update],
    groups: Mapping[str, str],
    *,
    level: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> list[AlignmentRow]:
    """One row per group and model, the real model first, groups in the order in which ``groups`` names them.

    ``groups`` maps a trajectory's id to the key of its group (`innerloop.evaluate.groups`); the updates of other
    trajectories are left out, as are those without alignment. The result does not depend on the updates' order.
    """
    order = list(dict.fromkeys(groups.values()))
    members: dict[tuple[bool, int], list[Update]] = {}
    for update in updates:
        if update.trajectory_id in groups and update.predicted is not None:
            key = update.untrained, order.index(groups[update.trajectory_id])
            members.setdefault(key, []).append(update)
    return [
        _row(order[index], untrained, own, _Bootstrap(level, resamples, seed))
        for (untrained, index), own in sorted(members.items(), key=lambda item: item[0])
    ]


@dataclass(frozen=True, kw_only=True)
class _Point:
    """One update's prediction beside the true change. ``spread`` is the null's, ``cosine`` NaN where there is none."""

    question: str
    predicted: float
    actual: float
    spread: float
    cosine: float


def _row(group: str, untrained: bool, own: Sequence[Update], bootstrap: _Bootstrap) -> AlignmentRow:
    ordered = sorted(own, key=lambda update: (update.question_id, update.id, update.position))
    full = _points(ordered, "")
    found: dict[str, Interval] = {}
    for prefix, points in (("", full), ("step_", _steps(ordered)), ("causal_", _points(ordered, "causal_"))):
        found |= {prefix + name: interval for name, interval in _numbers(points, bootstrap).items()}
    wanted = {f.name for f in fields(AlignmentRow)}
    return AlignmentRow(
        group=group,
        untrained=untrained,
        questions=len({point.question for point in full}),
        points=len(full),
        **{name: interval for name, interval in found.items() if name in wanted},
    )


def _points(ordered: Sequence[Update], prefix: str) -> list[_Point]:
    """From θ to each position behind the first."""
    return [
        _Point(
            question=update.question_id,
            predicted=_number(getattr(update, f"{prefix}predicted")),
            actual=update.loss - update.base_loss,
            spread=_number(getattr(update, f"{prefix}null_sd")),
            cosine=_number(getattr(update, f"{prefix}cosine")),
        )
        for update in ordered
        if update.position > 0 and _defined(getattr(update, f"{prefix}predicted"), update.loss, update.base_loss)
    ]


def _steps(ordered: Sequence[Update]) -> list[_Point]:
    """From each stored position of a trajectory to the next."""
    return [
        _Point(
            question=update.question_id,
            predicted=_number(update.step_predicted),
            actual=update.loss - before.loss,
            spread=_number(update.step_null_sd),
            cosine=math.nan,
        )
        for before, update in pairwise(ordered)
        if before.id == update.id and _defined(update.step_predicted, update.loss, before.loss)
    ]


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _defined(*values: float | None) -> bool:
    return all(value is not None and math.isfinite(value) for value in values)


def _numbers(points: Sequence[_Point], bootstrap: _Bootstrap) -> dict[str, Interval]:
    """All numbers of one kind of point."""
    import numpy as np

    questions = sorted({point.question for point in points})
    place = {question: i for i, question in enumerate(questions)}
    where = np.array([place[point.question] for point in points], dtype=int)
    p, a, spread, cosine = (
        np.array([getattr(point, name) for point in points], dtype=float)
        for name in ("predicted", "actual", "spread", "cosine")
    )

    def sums(*columns: Floats) -> Floats:
        """Per question the sum of each column over its points, (question, column)."""
        return np.stack([np.bincount(where, column, len(questions)) for column in columns], axis=1)

    def means(values: Floats) -> Floats:
        """Per question the mean of its defined values and one, or twice zero where it has none."""
        good = np.isfinite(values)
        total, count = sums(np.where(good, values, 0.0), good.astype(float)).T
        return np.stack([total / np.maximum(count, 1), (count > 0).astype(float)], axis=1)

    centre = (p.mean(), a.mean()) if len(p) else (0.0, 0.0)
    x, y = p - centre[0], a - centre[1]
    line = sums(np.ones_like(p), x, y, x * x, y * y, x * y)
    floor = (_NOTHING * float(p @ p), _NOTHING * float(a @ a))
    z = np.where(spread > 0, -p / np.where(spread > 0, spread, 1.0), math.nan)
    agrees = np.where((p != 0) & (a != 0), (np.sign(p) == np.sign(a)).astype(float), math.nan)
    counted = np.where(spread > 0, spread, 0.0)
    together, width = sums(np.where(spread > 0, -p, 0.0), counted).T
    take = bootstrap.over(questions, len(points))
    return {
        "correlation": take(line, lambda s: _correlation(s, floor)),
        "null_correlation": bootstrap.null(sums(np.ones_like(p), counted, y, counted**2, y * y, counted * y), floor[1]),
        "slope_origin": take(sums(p * a, p * p), _ratio),
        "slope": take(line, lambda s: _line(s, floor, centre)[0]),
        "intercept": take(line, lambda s: _line(s, floor, centre)[1]),
        "sign_agreement": take(means(agrees), _ratio),
        "cosine": take(means(cosine), _ratio),
        "z": take(means(z), _ratio),
        "pooled_z": take(np.stack([together, width**2], axis=1), lambda s: _ratio(s, root=True)),
    }


def _ratio(sums: Floats, *, root: bool = False) -> Floats:
    """First column over the second, or over its root; NaN where that is zero."""
    import numpy as np

    below = np.sqrt(sums[:, 1]) if root else sums[:, 1]
    return np.where(below > 0, sums[:, 0] / np.where(below > 0, below, 1.0), math.nan)


def _moments(sums: Floats, floor: tuple[float, float]) -> tuple[Floats, Floats, Floats]:
    """n-fold variances and covariance from sums of 1, x, y, x², y², xy; NaN where a variance is round-off."""
    import numpy as np

    n, x, y, xx, yy, xy = sums.T
    n = np.maximum(n, 1.0)
    vx, vy = xx - x * x / n, yy - y * y / n
    return np.where(vx > floor[0], vx, math.nan), np.where(vy > floor[1], vy, math.nan), xy - x * y / n


def _correlation(sums: Floats, floor: tuple[float, float]) -> Floats:
    import numpy as np

    vx, vy, vxy = _moments(sums, floor)
    return np.clip(vxy / np.sqrt(vx * vy), -1.0, 1.0)


def _line(sums: Floats, floor: tuple[float, float], centre: tuple[float, float]) -> tuple[Floats, Floats]:
    """Slope and intercept of y on x by least squares, the sums being about ``centre``."""
    import numpy as np

    vx, _, vxy = _moments(sums, floor)
    slope = vxy / vx
    n = np.maximum(sums[:, 0], 1.0)
    return slope, centre[1] + sums[:, 2] / n - slope * (centre[0] + sums[:, 1] / n)


Statistic = Callable[["Floats"], "Floats"]


@dataclass(frozen=True)
class _Bootstrap:
    """How to draw questions again; the same draws for every number of a row."""

    level: float
    resamples: int
    seed: int

    def over(self, questions: Sequence[str], points: int) -> Callable[[Floats, Statistic], Interval]:
        """A function from per-question sums (question, column) and a statistic of their totals to the interval."""
        import numpy as np

        n = len(questions)
        generator = np.random.default_rng(self.seed)
        draws = generator.multinomial(n, np.full(n, 1 / n), size=self.resamples).astype(float) if n else None

        def take(sums: Floats, statistic: Statistic) -> Interval:
            value = float(statistic(sums.sum(axis=0, keepdims=True))[0])
            reason = _why_not(n, value)
            again = statistic(draws @ sums) if draws is not None and reason is None else np.empty(0)
            return self._interval(value, again, expanded_level(self.level, n) if n > 1 else 0, n, points, reason)

        return take

    def null(self, sums: Floats, floor: float) -> Interval:
        """Correlation of random patches' predictions with the true changes: its expectation, and its range.

        ``sums`` are of 1, s, y, s², y², sy per question, with s the null's spread; a question's points share one draw.
        """
        import numpy as np

        n, points = len(sums), int(sums[:, 0].sum())
        signs = np.random.default_rng(self.seed).standard_normal((self.resamples, n))
        ones = np.ones_like(signs)
        drawn = np.stack([w @ sums[:, i] for i, w in enumerate((ones, signs, ones, signs**2, ones, signs))], axis=1)
        again = _correlation(drawn, (0.0, floor))
        defined = again[np.isfinite(again)]
        value = float(defined.mean()) if len(defined) else math.nan
        return self._interval(value, again, self.level, n, points, _why_not(n, value))

    def _interval(
        self, value: float, again: Floats, level: float, questions: int, points: int, reason: str | None
    ) -> Interval:
        import numpy as np

        defined = again[np.isfinite(again)]
        low, high = math.nan, math.nan
        if reason is None and len(defined) < self.resamples / 2:
            reason = "undefined in most resamples"
        if reason is None:
            low, high = map(float, np.quantile(defined, [(1 - level) / 2, (1 + level) / 2]))
        return Interval(
            mean=value, low=low, high=high, questions=questions, values=points, level=self.level, reason=reason
        )


def _why_not(questions: int, value: float) -> str | None:
    if questions == 0:
        return "not measured"
    if math.isnan(value):
        return "the values do not vary"
    return None if questions >= _FEWEST else f"an interval needs at least {_FEWEST} questions, there are {questions}"
