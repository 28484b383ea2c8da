"""Tables of scores: every measure of every series, over all questions and by benchmark, domain and level."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from innerloop.evaluate import generalisation
from innerloop.evaluate.compare import clusters_of
from innerloop.evaluate.generalisation import sides, weights
from innerloop.evaluate.measures import Measure
from innerloop.evaluate.resample import intervals
from innerloop.evaluate.statistics import Interval
from innerloop.schema import Score

GROUPS = ("benchmark", "domain", "level")
GENERALISATION = "generalisation"  # its values are means over benchmarks, all others means over questions


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
    series: Mapping[str, Sequence[Score]],
    measures: Sequence[Measure],
    *,
    level: float = 0.95,
    seed: int = 0,
    trained_on: Sequence[str] = (),
    contaminated: Mapping[str, bool | None] | None = None,
) -> list[Row]:
    """A row per series over all questions, then one per benchmark, domain and level where there are several.

    With ``contaminated`` (by question; None: cannot be told) also the contaminated and the clean questions, and with
    ``trained_on`` the means over the benchmarks within these domains and over the others
    (`innerloop.evaluate.generalisation`).
    """
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
        for value, kept in _by_contamination(scores, contaminated or {}).items():
            rows.append(_row(name, "contamination", value, kept, measures, level=level, seed=seed))
        for side, kept in (sides(scores, trained_on) if trained_on else {}).items():
            rows.append(_row(name, GENERALISATION, side, kept, measures, level=level, seed=seed))
    return rows


def _by_contamination(scores: Sequence[Score], verdicts: Mapping[str, bool | None]) -> dict[str, list[Score]]:
    found: dict[str, list[Score]] = {}
    for score in scores:
        if score.question_id in verdicts:
            verdict = verdicts[score.question_id]
            name = "too short to tell" if verdict is None else "contaminated" if verdict else "clean"
            found.setdefault(name, []).append(score)
    return found


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
    ranges = [measure.range for measure in measures]
    if group == GENERALISATION:
        names = [score.benchmark for score in scores]
        spans = generalisation.intervals(values, names, clusters, ranges=ranges, level=level, seed=seed)
        each = weights(np.zeros((len(scores), 1)), names)[:, 0]  # bounds are always defined
    else:
        spans = intervals(values, clusters, ranges=ranges, level=level, seed=seed)
        each = np.full(len(scores), 1 / len(scores))
    cells = []
    for measure, span in zip(measures, spans, strict=True):
        bounds = [measure.bounds(score) for score in scores]
        low, high = (math.fsum(each * np.array(side)) for side in zip(*bounds, strict=True))
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
