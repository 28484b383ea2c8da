"""Tables of scores: every measure of every series, over all questions and by benchmark, domain and level."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from innerloop.evaluate.compare import clusters_of
from innerloop.evaluate.measures import Measure
from innerloop.evaluate.resample import intervals
from innerloop.evaluate.statistics import Interval
from innerloop.schema import Score

GROUPS = ("benchmark", "domain", "level")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One measure of one group. ``if_wrong`` and ``if_right``: the mean if all undecided samples were so."""

    measure: str
    score: Interval
    if_wrong: float
    if_right: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """The questions of one series that share ``value`` of ``group`` (``all``: every question).

    ``clusters`` counts what was drawn for the intervals, where that is not the questions.
    """

    series: str
    group: str
    value: str
    questions: int
    clusters: int | None
    samples: int
    right: int
    wrong: int
    undecided: int
    truncated: int
    failed: int
    cells: tuple[Cell, ...]


def summarise(
    series: Mapping[str, Sequence[Score]], measures: Sequence[Measure], *, level: float = 0.95, seed: int = 0
) -> list[Row]:
    """A row per series over all questions, then one per benchmark, domain and level where there are several."""
    rows = []
    for name, scores in series.items():
        rows.append(_row(name, "all", "all", scores, measures, level=level, seed=seed))
        for group in GROUPS:
            values = {getattr(score, group) for score in scores}
            if len(values) < 2:
                continue
            for value in sorted(values, key=lambda value: (value is None, value)):
                kept = [score for score in scores if getattr(score, group) == value]
                rows.append(_row(name, group, value or "not stated", kept, measures, level=level, seed=seed))
    return rows


def _row(
    series: str,
    group: str,
    value: str,
    scores: Sequence[Score],
    measures: Sequence[Measure],
    *,
    level: float,
    seed: int,
) -> Row:
    values = np.array([[measure.value(score) for measure in measures] for score in scores], dtype=np.float64)
    clusters = clusters_of(scores)
    spans = intervals(values, clusters, ranges=[measure.range for measure in measures], level=level, seed=seed)
    cells = []
    for measure, span in zip(measures, spans, strict=True):
        bounds = [measure.bounds(score) for score in scores]
        low, high = (math.fsum(side) / len(side) for side in zip(*bounds, strict=True))
        cells.append(Cell(measure=measure.name, score=span, if_wrong=low, if_right=high))
    return Row(
        series=series,
        group=group,
        value=value,
        questions=len(scores),
        clusters=None if clusters is None else len(set(clusters)),
        samples=sum(score.samples for score in scores),
        right=sum(score.right for score in scores),
        wrong=sum(score.wrong for score in scores),
        undecided=sum(score.undecided for score in scores),
        truncated=sum(score.truncated for score in scores),
        failed=sum(score.failed for score in scores),
        cells=tuple(cells),
    )
