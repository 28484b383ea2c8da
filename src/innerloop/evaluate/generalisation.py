"""Averages over the benchmarks within the domains that a model was trained on, and over the others (RaML fig. 7).

Benchmarks are a few that somebody chose, of very different sizes: each counts once, whatever its number of questions
(with AIME's 30 beside LiveCodeBench's hundreds, a mean over questions would be LiveCodeBench's). So the number is the
mean over benchmarks of their means. The interval speaks about these benchmarks, with other questions of their kinds:
questions are drawn again within each benchmark, templates where questions share one.

Ends are those of `innerloop.evaluate.resample`: BCa over all benchmarks' draws together, at the level that Welch and
Satterthwaite's degrees of freedom ask for; half a question at each end where all but a few of a benchmark's questions
score the same; and a benchmark whose questions all score the same adds its exact bound in full, which errs on the wide
side.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from innerloop.errors import InputError
from innerloop.evaluate import resample
from innerloop.evaluate.statistics import Interval, expanded_level
from innerloop.schema import Score

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

WITHIN, CROSS = "within domain", "cross domain"


def sides(scores: Iterable[Score], trained_on: Sequence[str]) -> dict[str, list[Score]]:
    """The scores within the domains and those of all other domains; questions without a domain are in neither.

    A side without questions is left out. `InputError` where a domain is that of no question.
    """
    scores = list(scores)
    found: dict[str, list[Score]] = {}
    domains = sorted({score.domain for score in scores if score.domain is not None})
    for domain in trained_on:
        if domain not in domains:
            there = f"they are of {', '.join(domains)}" if domains else "none of them states a domain; give --questions"
            raise InputError(f"--trained-on {domain}: no question is of this domain ({there})")
    for name, inside in ((WITHIN, True), (CROSS, False)):
        kept = [score for score in scores if score.domain is not None and (score.domain in trained_on) is inside]
        if kept:
            found[name] = kept
    return found


def weights(values: Floats, benchmarks: Sequence[Hashable]) -> Floats:
    """What each question (row) counts in each measure (column): 0 where it has no value, else 1 over the number of
    benchmarks and of its benchmark's questions with a value."""
    defined = ~np.isnan(np.asarray(values, dtype=np.float64))
    each = np.zeros(defined.shape)
    names = dict.fromkeys(benchmarks)
    for name in names:
        rows = np.array([benchmark == name for benchmark in benchmarks])
        each[rows] = defined[rows] / np.maximum(defined[rows].sum(axis=0), 1) / len(names)
    return each


def intervals(
    values: Floats,
    benchmarks: Sequence[Hashable],
    clusters: Sequence[Hashable] | None = None,
    *,
    ranges: Sequence[tuple[float, float] | None] | None = None,
    level: float = 0.95,
    resamples: int = resample.RESAMPLES,
    seed: int = 0,
) -> list[Interval]:
    """One interval per column of ``values`` (question × measure, NaN where undefined), each benchmark counting once.

    ``clusters`` and ``ranges`` as in `resample.intervals`, which this equals for a single benchmark.
    """
    values = np.asarray(values, dtype=np.float64)
    names = list(dict.fromkeys(benchmarks))
    if len(names) == 1:
        return resample.intervals(values, clusters, ranges=ranges, level=level, resamples=resamples, seed=seed)
    parts = []
    for number, name in enumerate(names):
        rows = [i for i, benchmark in enumerate(benchmarks) if benchmark == name]
        own_clusters = None if clusters is None else [clusters[i] for i in rows]
        own = resample.strata(values[rows], own_clusters, ranges=ranges, resamples=resamples, seed=seed + number)
        parts.append(own)
    found = []
    for column in range(values.shape[1]):
        span = (0.0, 1.0) if ranges is None else ranges[column]
        found.append(_combined([part[column] for part in parts], names, span, level))
    return found


def _combined(
    parts: Sequence[resample.Stratum], names: Sequence[Hashable], span: tuple[float, float] | None, level: float
) -> Interval:
    """The mean of the benchmarks' means with its ends."""
    count = len(parts)
    questions = sum(part.questions for part in parts)
    mean = math.fsum(part.mean for part in parts) / count
    empty = [str(name) for name, part in zip(names, parts, strict=True) if not part.questions]
    single = [str(name) for name, part in zip(names, parts, strict=True) if len(part.sums) < 2]
    base = Interval(mean=mean, low=math.nan, high=math.nan, questions=questions, values=questions, level=level)
    if empty:
        return replace(base, reason=f"no question with a value in {', '.join(empty)}")
    if single:
        return replace(base, reason=f"an interval needs at least 2 questions of each benchmark; {', '.join(single)}")
    moving = [part for part in parts if part.odd]
    reasons, low, high = [], mean, mean
    if moving:
        low, high = _moving(moving, mean, count, level)
        if any(part.with_ends is not None for part in moving):
            ends = sum(part.drawn if part.with_ends is None else part.with_ends for part in moving)
            still = mean * count - math.fsum(part.mean for part in moving)
            drawn = (np.asarray(ends) + still) / count
            outside = (1 - expanded_level(level, _freedom(moving) + 1)) / 2
            other = np.quantile(drawn, [outside, 1 - outside])
            low, high = min(low, float(other[0])), max(high, float(other[1]))
            reasons.append("half a question at each end where all but a few score the same")
    for part in parts:
        if not part.odd and span is not None:
            unseen = 1 - ((1 - level) / 2) ** (1 / len(part.sums))
            low += unseen * (span[0] - part.mean) / count
            high += unseen * (span[1] - part.mean) / count
    if len(moving) < count:
        reasons.append("exact bounds of benchmarks whose questions all score the same are added")
    return replace(base, low=low, high=high, reason="; ".join(reasons) or None)


def _moving(parts: Sequence[resample.Stratum], mean: float, count: int, level: float) -> tuple[float, float]:
    """BCa over the draws of the benchmarks together; leaving out is within each benchmark."""
    still = mean * count - math.fsum(part.mean for part in parts)
    drawn = (np.sum([part.drawn for part in parts], axis=0) + still) / count
    influence = []
    for part in parts:
        left = (part.sums.sum() - part.sums) / (part.counts.sum() - part.counts)
        influence.append((len(left) - 1) * (left.mean() - left))
    away = np.concatenate(influence)
    skew = float((away**3).sum() / (6 * (away**2).sum() ** 1.5))
    return resample.bca(drawn, mean, skew, expanded_level(level, _freedom(parts) + 1))


def _freedom(parts: Sequence[resample.Stratum]) -> int:
    """Degrees of freedom of a sum of means with different variances (Welch 1947, Satterthwaite 1946), rounded down."""
    shares = [(part.variance, len(part.sums) - 1) for part in parts]
    total = math.fsum(variance for variance, _ in shares)
    below = math.fsum(variance**2 / freedom for variance, freedom in shares)
    return max(int(total**2 / below), 1) if below > 0 else min(freedom for _, freedom in shares)
