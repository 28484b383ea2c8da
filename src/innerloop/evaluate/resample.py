"""Intervals of many means at once, by drawing questions again; clusters of questions where they share a template.

The same expanded percentile bootstrap as in `innerloop.evaluate.statistics`, for a whole table: one set of draws serves
all columns, so that a table of a hundred numbers over 500 questions takes a second. Undefined values (NaN) are left out
of their column. With clusters, whole clusters are drawn, and the mean stays the mean over questions.

Scores between 0 and 1 that are the same for every question have a bootstrap interval of width zero, which is no
uncertainty at all: 0 of 30 does not prove 0. There the exact bound is taken: with m clusters, other values may have
up to the share 1 − (α/2)^(1/m) of the weight and not have been seen (Clopper and Pearson 1934 for shares). The same
holds for differences between such scores, which lie between −1 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from innerloop.evaluate.statistics import Interval, expanded_level

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RESAMPLES = 9999
_BATCH = 1000  # draws held in memory at once


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
    questions, columns = values.shape
    sums, counts = _by_cluster(values, clusters)
    means = _ratio(sums.sum(axis=0), counts.sum(axis=0))
    seen = (counts > 0).sum(axis=0)
    drawn = _draw(sums, counts, resamples, seed) if len(sums) >= 2 else None
    found = []
    for column in range(columns):
        own = values[~np.isnan(values[:, column]), column]
        low = high = math.nan
        reason = None
        if drawn is None or seen[column] < 2:
            what = "questions" if clusters is None else "clusters of questions"
            reason = f"an interval needs at least 2 {what}, there are {int(seen[column])}"
        elif (own == own[0]).all() and (span := (0.0, 1.0) if ranges is None else ranges[column]) is not None:
            unseen = 1 - ((1 - level) / 2) ** (1 / int(seen[column]))
            low, high = (float(own[0] + unseen * (end - own[0])) for end in span)
            reason = "every question scores the same: the exact bound on what was not seen"
        else:
            outside = (1 - expanded_level(level, int(seen[column]))) / 2
            low, high = (float(bound) for bound in np.nanquantile(drawn[:, column], [outside, 1 - outside]))
        left_out = questions - len(own)
        if left_out:
            reason = "; ".join(filter(None, (reason, f"questions without a value left out: {left_out}")))
        found.append(
            Interval(
                mean=float(means[column]),
                low=low,
                high=high,
                questions=len(own),
                values=len(own),
                level=level,
                reason=reason,
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
