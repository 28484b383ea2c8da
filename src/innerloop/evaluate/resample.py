"""Intervals of many means at once, by drawing questions again; clusters of questions where they share a template.

One set of draws serves all columns, so that a table of a hundred numbers over 500 questions takes seconds. Undefined
values (NaN) are left out of their column. With clusters whole clusters are drawn; the mean stays that over questions.

Scores are often skewed: most questions at 0 or 1, a few in between. So the interval is Efron's BCa (1987), at levels
expanded for few questions as in `innerloop.evaluate.statistics` (Hesterberg 2015); ``benchmarks/coverage.py`` shows how
often it holds the truth. No bootstrap knows of what was not seen, though: 0 of 30 does not prove 0.

- Where every question scores the same, the exact bound is taken: with m questions other values may have up to the share
  1 − (α/2)^(1/m) of the weight and not have been met (Clopper and Pearson 1934 for shares).
- Where all but a few score the same (five, and a quarter of all, at most), half a question at each end of the range is
  put among those to draw from, and the interval reaches as far as either way says.

Both hold for differences too, which lie between −1 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from innerloop.evaluate.statistics import Interval, expanded_level

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RESAMPLES = 9999
_BATCH = 1000  # draws held in memory at once
_FEW = 5  # questions that score otherwise than all others: no bootstrap can tell from them what else there may be


def intervals(
    values: Floats,
    clusters: Sequence[Hashable] | None = None,
    *,
    ranges: Sequence[tuple[float, float] | None] | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Interval]:
    """One interval per column of ``values`` (question × metric, NaN where undefined).

    ``clusters`` names each question's cluster; None makes each question its own. ``ranges`` says between what each
    column lies (None: anywhere), by default between 0 and 1.
    """
    values = np.asarray(values, dtype=np.float64)
    sums, counts = _by_cluster(values, clusters)
    drawn = _draw(sums, counts, resamples, seed) if len(sums) >= 2 else None
    what = "questions" if clusters is None else "clusters of questions"
    found = []
    for column in range(values.shape[1]):
        own = values[~np.isnan(values[:, column]), column]
        sum_, count = (part[counts[:, column] > 0, column] for part in (sums, counts))
        span = (0.0, 1.0) if ranges is None else ranges[column]
        low = high = math.nan
        reason = None
        odd = len(sum_) - np.unique(sum_ / count, return_counts=True)[1].max(initial=0)
        if drawn is None or len(sum_) < 2:
            reason = f"an interval needs at least 2 {what}, there are {len(sum_)}"
        elif odd == 0 and span is not None:
            unseen = 1 - ((1 - level) / 2) ** (1 / len(sum_))
            low, high = (float(own[0] + unseen * (end - own[0])) for end in span)
            reason = f"all {what} score the same: the exact bound on what was not seen"
        elif odd <= min(_FEW, len(sum_) // 4) and span is not None:
            ends = _with_ends(sum_, count, span, level, resamples, seed), _bca(drawn[:, column], sum_, count, level)
            low, high = min(end[0] for end in ends), max(end[1] for end in ends)
            reason = f"all {what} but {odd} score the same: half a question at each end is added to the draws"
        else:
            low, high = _bca(drawn[:, column], sum_, count, level)
        left_out = len(values) - len(own)
        if left_out:
            reason = "; ".join(filter(None, (reason, f"questions without a value left out: {left_out}")))
        mean = float(sum_.sum() / count.sum()) if len(own) else math.nan
        found.append(
            Interval(mean=mean, low=low, high=high, questions=len(own), values=len(own), level=level, reason=reason)
        )
    return found


def _bca(drawn: Floats, sums: Floats, counts: Floats, level: float) -> tuple[float, float]:
    """Efron's interval: percentiles moved for the bias of the draws and for the skewness (by leaving clusters out)."""
    total, questions = sums.sum(), counts.sum()
    if (sums / counts == total / questions).all():
        return float(total / questions), float(total / questions)
    left = _ratio(total - sums, questions - counts)
    away = left.mean() - left
    skew = float((away**3).sum() / (6 * (away**2).sum() ** 1.5))
    return bca(drawn, float(total / questions), skew, expanded_level(level, len(sums)))


def bca(drawn: Floats, mean: float, skew: float, level: float) -> tuple[float, float]:
    """Efron's ends for draws of a mean, given the acceleration ``skew`` and the level of the percentiles."""
    from scipy import stats

    drawn = drawn[~np.isnan(drawn)]
    rounding = 1e-12 * (1 + abs(mean))
    below = ((drawn < mean - rounding).mean() + (drawn <= mean + rounding).mean()) / 2
    outside = (1 - level) / 2
    bias = stats.norm.ppf(np.clip(below, 1 / len(drawn), 1 - 1 / len(drawn)))
    ends = []
    for share in (outside, 1 - outside):
        z = bias + stats.norm.ppf(share)
        # Beyond its pole, which only a handful of questions can reach, the formula turns round: there the end is all.
        beyond = math.isinf(z) or 1 - skew * z <= 0
        ends.append(float(z > 0) if beyond else stats.norm.cdf(bias + z / (1 - skew * z)))
    low, high = np.quantile(drawn, ends)
    return float(low), float(high)


def _with_ends(
    sums: Floats, counts: Floats, span: tuple[float, float], level: float, resamples: int, seed: int
) -> tuple[float, float]:
    """Percentiles of draws to which half a question at each end of the range belongs."""
    drawn = _draw_with_ends(sums, counts, span, resamples, seed)
    outside = (1 - expanded_level(level, len(sums))) / 2
    low, high = np.quantile(drawn, [outside, 1 - outside])
    return float(low), float(high)


def _draw_with_ends(sums: Floats, counts: Floats, span: tuple[float, float], resamples: int, seed: int) -> Floats:
    chance = np.append(np.ones(len(sums)), [0.5, 0.5]) / (len(sums) + 1)
    times = np.random.default_rng(seed).multinomial(len(sums), chance, size=resamples)
    drawn: Floats = (times @ np.append(sums, span)) / (times @ np.append(counts, [1.0, 1.0]))
    return drawn


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """One measure of one benchmark, for means over several benchmarks.

    ``sums`` and ``counts`` are its clusters'; ``drawn`` the means of drawn clusters; ``with_ends`` those with half a
    question at each end, None where there is no need; ``odd`` clusters score otherwise than all others (0: all alike).
    """

    mean: float
    questions: int
    sums: Floats
    counts: Floats
    drawn: Floats
    with_ends: Floats | None
    odd: int

    @property
    def variance(self) -> float:
        """Of the mean, by leaving one cluster out after the other."""
        left = _ratio(self.sums.sum() - self.sums, self.counts.sum() - self.counts)
        size = len(left)
        return float((size - 1) / size * ((left - left.mean()) ** 2).sum())


def strata(
    values: Floats,
    clusters: Sequence[Hashable] | None,
    *,
    ranges: Sequence[tuple[float, float] | None] | None,
    resamples: int,
    seed: int,
) -> list[Stratum]:
    """What `innerloop.evaluate.generalisation` combines of one benchmark: one stratum per column of ``values``."""
    sums, counts = _by_cluster(values, clusters)
    drawn = _draw(sums, counts, resamples, seed) if len(sums) >= 2 else None
    found = []
    for column in range(values.shape[1]):
        kept = counts[:, column] > 0
        sum_, count = sums[kept, column], counts[kept, column]
        span = (0.0, 1.0) if ranges is None else ranges[column]
        odd = int(len(sum_) - np.unique(sum_ / count, return_counts=True)[1].max(initial=0))
        few = 0 < odd <= min(_FEW, len(sum_) // 4) and span is not None
        mean = float(sum_.sum() / count.sum()) if len(sum_) else math.nan
        own = np.full(resamples, mean) if drawn is None else drawn[:, column]
        found.append(
            Stratum(
                mean=mean,
                questions=int(count.sum()),
                sums=sum_,
                counts=count,
                drawn=np.where(np.isnan(own), mean, own),
                with_ends=_draw_with_ends(sum_, count, span, resamples, seed) if few and span is not None else None,
                odd=odd,
            )
        )
    return found


def _by_cluster(values: Floats, clusters: Sequence[Hashable] | None) -> tuple[Floats, Floats]:
    """Per cluster: the sum of its defined values, and how many there are; clusters in a fixed order."""
    defined = ~np.isnan(values)
    filled = np.where(defined, values, 0.0)
    if clusters is None:
        return filled, defined.astype(np.float64)
    assert len(clusters) == len(values), "one cluster per question"
    number = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    index = np.fromiter((number[name] for name in clusters), dtype=np.intp, count=len(clusters))
    sums, counts = (np.zeros((len(number), values.shape[1])) for _ in range(2))
    np.add.at(sums, index, filled)
    np.add.at(counts, index, defined)
    return sums, counts


def _draw(sums: Floats, counts: Floats, resamples: int, seed: int) -> Floats:
    """The means (draw × metric) of clusters drawn with replacement, as many as there are."""
    generator = np.random.default_rng(seed)
    size = len(sums)
    even = np.full(size, 1 / size)
    parts = []
    for start in range(0, resamples, _BATCH):
        times = generator.multinomial(size, even, size=min(_BATCH, resamples - start)).astype(np.float64)
        parts.append(_ratio(times @ sums, times @ counts))
    return np.concatenate(parts)


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=np.asarray(below) > 0)
