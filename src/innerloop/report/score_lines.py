"""The two charts of an evaluation: a measure against the number of samples k, and stability against the share τ.

Both are exact for every question (`innerloop.evaluate.metrics`), with pointwise intervals over questions as in the
tables (`innerloop.evaluate.resample`): the same numbers where a table has the same k and τ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from innerloop.evaluate.compare import clusters_of
from innerloop.evaluate.measures import Measure
from innerloop.evaluate.resample import intervals
from innerloop.report.evaluated import Evaluated
from innerloop.schema import Score

MOST_POINTS = 40  # of a line: beyond, k rises by equal factors


@dataclass(frozen=True, kw_only=True)
class _Figure:
    label: str
    about: str
    x: list[float]
    columns: list[Measure]


def score_lines(found: Evaluated) -> dict[str, Any]:
    """Page data: ``growth`` (against k) and ``stability`` (against τ), lists of figures; empty where n is 1.

    A figure: ``label``, ``about``, ``x``, and ``lines``, one per series: ``mean, low, high, if_wrong, if_right``
    (fractions, None where undefined) and ``questions``, each a list over ``x``.
    """
    fewest = min(score.samples for scores in found.series.values() for score in scores)
    if fewest < 2:
        return {"growth": [], "stability": []}
    asked = sorted({measure.k for measure in found.measures if measure.k is not None and measure.k > 1})
    parts = {"growth": _growth(_ks(fewest)), "stability": [_stability(k) for k in asked]}
    columns = [column for figures in parts.values() for figure in figures for column in figure.columns]
    lines = [dict(zip(columns, _points(scores, columns, found.seed), strict=True)) for scores in found.series.values()]
    return {name: [_drawn(figure, lines) for figure in figures] for name, figures in parts.items()}


def _growth(ks: Sequence[int]) -> list[_Figure]:
    even = [k for k in ks if k % 2 == 0]
    kinds = [
        ("Pass@k", "at least one of k samples is right", [Measure(kind="pass", k=k) for k in ks]),
        ("all of k right", "G-Pass@k at τ = 1", [Measure(kind="g-pass", k=k, tau=1.0) for k in ks]),
        ("mG-Pass@k", "mean of G-Pass@k over τ from ½ to 1, at even k", [Measure(kind="mg-pass", k=k) for k in even]),
    ]
    return [
        _Figure(label=label, about=about, x=[float(column.k or 0) for column in columns], columns=columns)
        for label, about, columns in kinds
        if len(columns) > 1
    ]


def _stability(k: int) -> _Figure:
    """G-Pass@k is constant between τ = (j−1)/k and j/k; ``x`` holds the right ends."""
    columns = [Measure(kind="g-pass", k=k, tau=j / k) for j in range(1, k + 1)]
    about = f"at least the share τ of {k} samples is right"
    return _Figure(label=f"G-Pass@{k}", about=about, x=[j / k for j in range(1, k + 1)], columns=columns)


def _ks(most: int) -> list[int]:
    """1 … most, all of them where they are few, else by equal factors."""
    if most <= MOST_POINTS:
        return list(range(1, most + 1))
    return sorted({round(k) for k in np.geomspace(1, most, MOST_POINTS).tolist()})


def _points(scores: Sequence[Score], columns: Sequence[Measure], seed: int) -> list[dict[str, float | int | None]]:
    """One point per column; one set of draws serves them all."""
    # Measures of counts are the same for equal counts, so a large benchmark costs as many as it has different counts.
    kinds = list({(score.right, score.wrong, score.undecided): score for score in scores}.values())
    number = {(score.right, score.wrong, score.undecided): i for i, score in enumerate(kinds)}
    index = [number[score.right, score.wrong, score.undecided] for score in scores]
    values = np.array([[column.value(score) for column in columns] for score in kinds])[index]
    bounds = np.array([[column.bounds(score) for column in columns] for score in kinds])[index]
    spans = intervals(values, clusters_of(scores), seed=seed)
    ends = bounds.mean(axis=0)
    return [
        {
            **{name: _number(getattr(span, name)) for name in ("mean", "low", "high")},
            "if_wrong": float(ends[i, 0]),
            "if_right": float(ends[i, 1]),
            "questions": span.questions,
        }
        for i, span in enumerate(spans)
    ]


def _drawn(figure: _Figure, lines: Sequence[dict[Measure, dict[str, Any]]]) -> dict[str, Any]:
    names = ("mean", "low", "high", "if_wrong", "if_right", "questions")
    return {
        "label": figure.label,
        "about": figure.about,
        "x": figure.x,
        "lines": [{name: [line[column][name] for column in figure.columns] for name in names} for line in lines],
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
