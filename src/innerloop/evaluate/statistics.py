"""Means over questions with bootstrap intervals.

Several trajectories of one question are not independent, so the question is the unit: values are averaged within a
question first, and it is the questions that are drawn again (a cluster bootstrap). The interval is the expanded
percentile interval of Hesterberg (2015, "What teachers should know about the bootstrap", section 4.3): percentiles
of the bootstrap means, taken at levels widened by √(n/(n−1)) and Student's t. Plain percentile and BCa intervals are
too narrow for the handful of questions that a first look has (5 normal questions: 95 % intervals cover 84 %; expanded
ones 91 %, at 10 questions 96 %). For fewer than about 5 questions read any interval as a lower limit of the doubt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Generator = np.random.Generator

__all__ = ["Interval", "difference_interval", "expanded_level", "mean_interval"]

_BATCH = 1000  # resamples held in memory at once


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over questions and its bootstrap interval at ``level``, in the unit of the values.

    ``questions`` and ``values`` count what entered the mean. Bounds that are undefined are NaN, and then ``reason``
    says why. ``paired`` is for differences only: whether each question was compared with itself.
    """

    mean: float
    low: float
    high: float
    questions: int
    values: int
    level: float
    reason: str | None = None
    paired: bool | None = None

    def excludes(self, value: float) -> bool:
        """Whether ``value`` lies outside the interval; False where the interval is undefined."""
        return value < self.low or value > self.high


def mean_interval(
    values_by_question: Mapping[str, Sequence[float]],
    *,
    level: float = 0.95,
    resamples: int = 9999,
    generator: Generator | int = 0,
) -> Interval:
    """The mean of the questions' means, with its interval.

    NaN values are undefined and are left out, as are questions without any value; ``reason`` says how many. Fewer
    than two questions have no interval. The result does not depend on the order of questions.
    """
    _check(level, resamples)
    means, values, dropped = _question_means(values_by_question)
    sample = _array(means[question] for question in sorted(means))
    low, high = _bounds((sample,), level, resamples, generator)
    return Interval(
        mean=float(sample.mean()) if len(sample) else math.nan,
        low=low,
        high=high,
        questions=len(sample),
        values=values,
        level=level,
        reason=_reasons(_too_few(len(sample)), dropped),
    )


def difference_interval(
    a: Mapping[str, Sequence[float]],
    b: Mapping[str, Sequence[float]],
    *,
    level: float = 0.95,
    resamples: int = 9999,
    generator: Generator | int = 0,
    paired: bool | None = None,
) -> Interval:
    """The mean of ``a`` minus the mean of ``b``, with its interval.

    Paired: over the questions that both have, each compared with itself; the others are left out. Unpaired: the
    questions of ``a`` and of ``b`` are drawn apart. By default paired where at least two questions are in both.
    ``questions`` counts the pairs, or the questions of both sides together.
    """
    _check(level, resamples)
    means_a, _, dropped_a = _question_means(a)
    means_b, _, dropped_b = _question_means(b)
    common = sorted(means_a.keys() & means_b.keys())
    pair = len(common) >= 2 if paired is None else paired
    kept_a, kept_b = (common, common) if pair else (sorted(means_a), sorted(means_b))
    sample_a = _array(means_a[question] for question in kept_a)
    sample_b = _array(means_b[question] for question in kept_b)
    samples = (sample_a - sample_b,) if pair else (sample_a, sample_b)
    low, high = _bounds(samples, level, resamples, generator)
    smallest = min(len(sample_a), len(sample_b))
    return Interval(
        mean=float(sample_a.mean() - sample_b.mean()) if smallest else math.nan,
        low=low,
        high=high,
        questions=len(common) if pair else len(sample_a) + len(sample_b),
        values=_count(a, kept_a) + _count(b, kept_b),
        level=level,
        reason=_reasons(_too_few(smallest, " in both" if pair else " on either side"), dropped_a + dropped_b),
        paired=pair,
    )


def expanded_level(level: float, questions: int) -> float:
    """The level at which to take the percentiles of a bootstrap over at least two questions (Hesterberg 2015)."""
    from scipy import stats

    quantile = stats.t.ppf((1 + level) / 2, questions - 1) * math.sqrt(questions / (questions - 1))
    return 1 - 2 * float(stats.norm.sf(quantile))


def _check(level: float, resamples: int) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level is {level}: it must lie between 0 and 1, e.g. 0.95")
    if resamples < 100:
        raise ValueError(f"resamples is {resamples}: at least 100 are needed for an interval")


def _defined(values: Sequence[float]) -> list[float]:
    return [float(value) for value in values if not math.isnan(value)]


def _count(values_by_question: Mapping[str, Sequence[float]], questions: Sequence[str]) -> int:
    return sum(len(_defined(values_by_question[question])) for question in questions)


def _question_means(values_by_question: Mapping[str, Sequence[float]]) -> tuple[dict[str, float], int, int]:
    """Mean per question that has any defined value; how many values entered; how many were undefined."""
    defined = {question: _defined(values) for question, values in values_by_question.items()}
    count = sum(map(len, defined.values()))
    dropped = sum(map(len, values_by_question.values())) - count
    # fsum: the mean must not depend on the order in which the values came
    return {q: math.fsum(values) / len(values) for q, values in defined.items() if values}, count, dropped


def _array(values: object) -> NDArray[np.float64]:
    import numpy as np

    return np.fromiter(values, dtype=np.float64)  # type: ignore[call-overload]  # any iterable of floats


def _bounds(
    samples: tuple[NDArray[np.float64], ...], level: float, resamples: int, generator: Generator | int
) -> tuple[float, float]:
    """Expanded percentile interval of the mean of one sample, or of the difference between the means of two."""
    import numpy as np
    from scipy import stats

    smallest = min(map(len, samples))
    if smallest < 2:
        return math.nan, math.nan
    result = stats.bootstrap(
        samples,
        lambda x, y=None, axis=-1: x.mean(axis=axis) - (0 if y is None else y.mean(axis=axis)),
        confidence_level=expanded_level(level, smallest),
        n_resamples=resamples,
        batch=_BATCH,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(generator),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _too_few(questions: int, where: str = "") -> str | None:
    return None if questions >= 2 else f"an interval needs at least 2 questions{where}, there are {questions}"


def _reasons(too_few: str | None, dropped: int) -> str | None:
    left_out = f"undefined values left out: {dropped}" if dropped else None
    return "; ".join(reason for reason in (too_few, left_out) if reason) or None
