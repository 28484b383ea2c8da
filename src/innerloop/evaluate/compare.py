"""Two or more series on the same questions: paired differences, permutation p-values, Holm's correction.

The question is the unit, or the cluster of questions from one template. The null hypothesis is that the two series
are exchangeable question by question: then each difference may have had the other sign. The p-value is the share of
sign patterns whose mean difference is as far from zero as the one seen: all patterns where there are few, else drawn
ones with the observed one counted in (Phipson and Smyth 2010), so that it is never 0.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from innerloop.evaluate import generalisation
from innerloop.evaluate.generalisation import CROSS, WITHIN, sides, weights
from innerloop.evaluate.measures import Measure
from innerloop.evaluate.resample import intervals
from innerloop.evaluate.statistics import Interval
from innerloop.schema import Score

if TYPE_CHECKING:
    from numpy.typing import NDArray

DRAWS = 99_999
_ALL = 14  # signs: up to this many differences that are not 0, every pattern is looked at


@dataclass(frozen=True, kw_only=True)
class Difference:
    """``series`` minus ``reference`` in one measure over the questions (of one benchmark) that both have.

    ``p`` is two-sided, ``p_holm`` corrected over all differences that were computed together. NaN where there is no
    question with a value on both sides. ``benchmark`` is also ``within domain`` or ``cross domain``, for a mean over
    benchmarks (`innerloop.evaluate.generalisation`).
    """

    series: str
    reference: str
    benchmark: str | None
    measure: str
    difference: Interval
    p: float
    p_holm: float = math.nan


def differences(
    series: Mapping[str, Sequence[Score]],
    measures: Sequence[Measure],
    *,
    level: float = 0.95,
    seed: int = 0,
    trained_on: Sequence[str] = (),
) -> list[Difference]:
    """Every series against the first, in every measure, over all questions and (where there are several) by benchmark.

    With ``trained_on`` also over the benchmarks within these domains and over the others.

    A measure that says the same as another (Pass@1 is the mean; G-Pass with the same threshold) is tested once. Holm's
    correction is over all tests.
    """
    measures = list({measure.meaning: measure for measure in reversed(measures)}.values())[::-1]
    (reference, first), *others = series.items()
    ranges = [None if measure.range is None else (-1.0, 1.0) for measure in measures]
    found: list[Difference] = []
    for name, own in others:
        base = {score.question_id: score for score in first}
        pairs = [(score, base[score.question_id]) for score in own if score.question_id in base]
        for benchmark, kept in _parts(pairs, trained_on):
            columns = [[m.value(score) - m.value(other) for m in measures] for score, other in kept]
            values = np.array(columns, dtype=np.float64)
            clusters = clusters_of([score for score, _ in kept])
            each = np.ones_like(values)
            if benchmark in (WITHIN, CROSS):
                names = [score.benchmark for score, _ in kept]
                spans = generalisation.intervals(values, names, clusters, ranges=ranges, level=level, seed=seed)
                each = weights(values, names)
            else:
                spans = intervals(values, clusters, ranges=ranges, level=level, seed=seed)
            for column, measure in enumerate(measures):
                found.append(
                    Difference(
                        series=name,
                        reference=reference,
                        benchmark=benchmark,
                        measure=measure.name,
                        difference=replace(spans[column], paired=True),
                        p=permutation_p(values[:, column] * each[:, column], clusters, seed=seed),
                    )
                )
    corrected = holm([difference.p for difference in found])
    return [replace(difference, p_holm=p) for difference, p in zip(found, corrected, strict=True)]


def _parts(
    pairs: Sequence[tuple[Score, Score]], trained_on: Sequence[str]
) -> Iterator[tuple[str | None, list[tuple[Score, Score]]]]:
    """All pairs, those of each benchmark where there are several, and those within and across domains."""
    if pairs:
        yield None, list(pairs)
    benchmarks = dict.fromkeys(score.benchmark for score, _ in pairs)
    for benchmark in benchmarks if len(benchmarks) > 1 else ():
        yield benchmark, [pair for pair in pairs if pair[0].benchmark == benchmark]
    if trained_on:
        other = {score.question_id: base for score, base in pairs}
        for name, scores in sides((score for score, _ in pairs), trained_on).items():
            yield name, [(score, other[score.question_id]) for score in scores]


def clusters_of(scores: Sequence[Score]) -> list[Hashable] | None:
    """Each question's cluster (one of a kind where it has none), or None where no two questions share one."""
    named = [(score.benchmark, score.cluster) for score in scores if score.cluster is not None]
    if len(set(named)) == len(named):
        return None
    return [(score.benchmark, score.cluster) if score.cluster is not None else score.question_id for score in scores]


def permutation_p(
    values: Sequence[float] | NDArray[np.float64],
    clusters: Sequence[Hashable] | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> float:
    """Two-sided p-value that differences are symmetric about 0, by flipping signs; NaN values are left out.

    With clusters the signs of a cluster flip together.
    """
    sums: dict[Hashable, float] = {}
    for i, value in enumerate(np.asarray(values, dtype=np.float64).tolist()):
        if not math.isnan(value):
            name = i if clusters is None else clusters[i]
            sums[name] = sums.get(name, 0.0) + value
    if not sums:
        return math.nan
    size = np.array([abs(value) for value in sums.values() if abs(value) > 1e-12])
    if not len(size):
        return 1.0
    seen = abs(math.fsum(sums.values())) * (1 - 1e-9)  # equal up to rounding counts as equal
    if len(size) <= _ALL:
        patterns = (np.arange(2 ** len(size))[:, None] >> np.arange(len(size))) & 1
        return float(np.mean(np.abs((2 * patterns - 1) @ size) >= seen))
    generator = np.random.default_rng(seed)
    extreme, total = 0, size.sum()
    for start in range(0, draws, 10_000):
        signs = generator.integers(0, 2, size=(min(10_000, draws - start), len(size)), dtype=np.int8)
        extreme += int(np.sum(np.abs(2 * (signs.astype(np.float64) @ size) - total) >= seen))
    return (extreme + 1) / (draws + 1)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): the i-th smallest of m times m − i + 1, never falling, at most 1.

    NaN stays NaN and does not count.
    """
    order = sorted((i for i, p in enumerate(ps) if not math.isnan(p)), key=lambda i: ps[i])
    corrected = list(ps)
    for rank, i in enumerate(order):
        corrected[i] = min(1.0, (len(order) - rank) * ps[i])
    for before, after in pairwise(order):
        corrected[after] = max(corrected[after], corrected[before])
    return corrected
