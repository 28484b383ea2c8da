"""The landscape section: the answer loss on grids of weights around θ, and the trajectory's path among them.

`landscapes` lists what there is per question; `landscape_blocks` holds one block per grid (the lines of one
trajectory share one), which the page parses when it is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from innerloop.report.view import View, significant
from innerloop.schema import Landscape

_LINES = ("path-line", "gradient-line")
_DIGITS = 5
_PLANES = {
    "path": "the trajectory's own plane",
    "random-filter": "random directions, per filter",
    "random-tensor": "random directions, per tensor",
}
_ORDER = ("path", "lines", "random-filter", "random-tensor")
_SHARPNESS = ("top_eigenvalue", "low_eigenvalue", "trace", "trace_error")


def landscapes(view: View) -> dict[str, Any] | None:
    """Page data: ``questions`` (with their sharpness) and ``items``, the figures that can be chosen; None without."""
    members = _members(view)
    if not members:
        return None
    texts = {question.id: question.question for question in view.questions}
    asked = list(dict.fromkeys(own[0].question_id for own in members))
    rows = {entry.trajectory.id: i for i, entry in enumerate(view.entries)}
    return {
        "questions": [
            {"id": name, "question": texts.get(name, ""), "sharpness": _sharpness(name, view.landscapes)}
            for name in asked
        ],
        "items": [
            {
                "question": asked.index(own[0].question_id),
                "kind": "lines" if own[0].plane in _LINES else "plane",
                "plane": own[0].plane,
                "label": _label(own),
                "trajectory": own[0].trajectory_id,
                "row": rows.get(own[0].trajectory_id or ""),
                "seed": None if own[0].seed is None else str(own[0].seed),
            }
            for own in members
        ],
    }


def landscape_blocks(view: View) -> dict[str, Any]:
    """``data-l0``, ``data-l1``, …: one block per item of `landscapes`, in the same order."""
    return {
        f"data-l{i}": _lines(own) if own[0].plane in _LINES else _plane(own[0], view)
        for i, own in enumerate(_members(view))
    }


def overlay(landscape: Landscape, losses: Sequence[float]) -> dict[str, list[float]]:
    """The paper's drawing of a path (RaML fig. 2): time on one axis, the nearest contour on the other.

    Entry i of ``losses`` (nats per answer token, rising time) goes to ``alpha`` at the share i/n of the axis and, in
    the column of the grid there, to the ``beta`` whose ``loss`` is nearest to it. Undefined grid points are left out,
    and a column without any defined point has no entry. Not the path's place: only its loss is used.
    """
    grid = _grid(landscape)
    found: dict[str, list[float]] = {"alpha": [], "beta": [], "loss": []}
    for at, loss in zip(np.linspace(0, 1, len(losses)), losses, strict=True):
        column = grid[round(at * (len(grid) - 1))]
        if not np.isfinite(column).any() or not np.isfinite(loss):
            continue
        near = int(np.nanargmin(np.where(np.isfinite(column), np.abs(column - loss), np.nan)))
        found["alpha"].append(landscape.alpha[0] + float(at) * (landscape.alpha[-1] - landscape.alpha[0]))
        found["beta"].append(landscape.beta[near])
        found["loss"].append(float(column[near]))
    return {name: [float(f"{value:.{_DIGITS}g}") for value in values] for name, values in found.items()}


def _members(view: View) -> list[list[Landscape]]:
    """One list per figure: each plane alone, the lines of one trajectory together; in the order of the questions."""
    found: dict[tuple[Any, ...], list[Landscape]] = {}
    for landscape in view.landscapes:
        line = landscape.plane in _LINES
        key = (landscape.question_id, landscape.trajectory_id, "lines") if line else (landscape.id,)
        found.setdefault(key, []).append(landscape)
    place = {question.id: i for i, question in enumerate(view.questions)}
    order = {plane: i for i, plane in enumerate(_ORDER)}

    def rank(own: list[Landscape]) -> tuple[int, int]:
        plane = "lines" if own[0].plane in _LINES else own[0].plane
        return place.get(own[0].question_id, len(place)), order.get(plane, len(order))

    return sorted(found.values(), key=rank)


def _label(own: Sequence[Landscape]) -> str:
    """The figure's name in the picker, without the trajectory."""
    if own[0].plane in _LINES:
        names = {"path-line": "along the path", "gradient-line": "along −∇L"}
        return f"lines {' and '.join(names[plane] for plane in _LINES if plane in {one.plane for one in own})}"
    return _PLANES.get(own[0].plane, own[0].plane)


def _sharpness(question_id: str, found: Sequence[Landscape]) -> list[dict[str, Any]]:
    """What was measured of the Hessian at θ, once per set of weights: it does not depend on the plane."""
    rows: dict[str | None, dict[str, Any]] = {}
    for one in found:
        if one.question_id == question_id and any(getattr(one, name) is not None for name in _SHARPNESS):
            numbers = {name: significant(getattr(one, name)) for name in _SHARPNESS}
            rows.setdefault(one.sharpness_weights, {"weights": one.sharpness_weights, **numbers})
    return list(rows.values())


def _grid(landscape: Landscape) -> Any:
    """The losses as an array (alpha, beta)."""
    return np.asarray(landscape.loss, dtype=np.float64).reshape(len(landscape.alpha), len(landscape.beta))


def _numbers(values: Sequence[float]) -> list[float | None]:
    return [significant(float(value), _DIGITS) for value in values]


def _path(landscape: Landscape) -> dict[str, Any]:
    """The path's own points, as stored."""
    return {
        "position": list(landscape.position),
        "path_alpha": _numbers(landscape.path_alpha),
        "path_beta": _numbers(landscape.path_beta),
        "path_loss": _numbers(landscape.path_loss),
    }


def _plane(landscape: Landscape, view: View) -> dict[str, Any]:
    """A surface; ``loss`` is turned so that a row runs along alpha, as charts have it."""
    source, losses = _losses(landscape, view)
    return {
        "alpha": _numbers(landscape.alpha),
        "beta": _numbers(landscape.beta),
        "loss": [_numbers(row) for row in _grid(landscape).T],
        "captured": significant(landscape.captured),
        "overlay": {**overlay(landscape, losses), "of": source} if len(losses) > 1 else None,
        **_path(landscape),
    }


def _losses(landscape: Landscape, view: View) -> tuple[str | None, Sequence[float]]:
    """The losses in time that the paper's drawing needs, and whose they are: the path's, or a curve's."""
    if landscape.path_loss:
        return landscape.trajectory_id, landscape.path_loss
    for entry in view.probed:
        wanted = landscape.trajectory_id in (None, entry.trajectory.id)
        if wanted and entry.question.id == landscape.question_id and entry.curve:
            return entry.trajectory.id, entry.curve.loss
    return None, ()


def _lines(own: Sequence[Landscape]) -> dict[str, Any]:
    """The lines of one trajectory, which share an axis: both are scaled to the path's length."""
    ordered = sorted(own, key=lambda one: _LINES.index(one.plane))
    return {
        "lines": [
            {
                "plane": one.plane,
                "alpha": _numbers(one.alpha),
                "loss": _numbers(one.loss),
                "captured": significant(one.captured),
                **_path(one),
            }
            for one in ordered
        ]
    }
