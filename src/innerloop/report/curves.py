"""The overview chart: every trajectory's loss against its normalised position, and the mean of each group.

Position i of n becomes i/n, so trajectories of different length share an axis. Lines are read off by linear
interpolation at ``LINE_POINTS`` places, which the reader section does not do: there every position stands.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from innerloop.evaluate.groups import Group
from innerloop.evaluate.statistics import mean_interval
from innerloop.report.view import Entry, View, rounded
from innerloop.schema import Curve

LINE_POINTS = 101
MOST_LINES = 400  # more would be a blur, and slow to draw; the means are over all trajectories all the same
_MEAN_POINTS = 41
_RESAMPLES = 999
_WINDOW = 9  # points of a line that smoothing averages over


def curves(view: View) -> dict[str, Any] | None:
    """Page data: ``lines`` ({entry, group, loss}), ``means`` ({group, loss, change}); None without curves."""
    drawable = [i for i, entry in enumerate(view.entries) if entry.curve and len(entry.curve.position) > 1]
    if not drawable:
        return None
    if len(drawable) > MOST_LINES:
        chosen = [drawable[i] for i in np.linspace(0, len(drawable) - 1, MOST_LINES).round().astype(int)]
    else:
        chosen = drawable
    group_number = {group: i for i, group in enumerate(view.groups)}
    return {
        "points": LINE_POINTS,
        "mean_points": _MEAN_POINTS,
        "window": _WINDOW,
        "drawable": len(drawable),
        "lines": [_line(i, view.entries[i], group_number) for i in chosen],
        "means": [
            {"group": group_number[group], **_mean([view.entries[i] for i in drawable], group)} for group in view.groups
        ],
    }


def sparkline(curve: Curve, points: int = 25) -> list[float | None]:
    """A few losses that show the shape of a curve."""
    return rounded(_resampled(curve, points), 3)


def _line(number: int, entry: Entry, group_number: dict[Group, int]) -> dict[str, Any]:
    assert entry.curve is not None
    loss = rounded(_resampled(entry.curve, LINE_POINTS), 4)
    return {"entry": number, "group": group_number[entry.group], "loss": loss}


def _resampled(curve: Curve, points: int) -> list[float]:
    """Losses at ``points`` normalised positions; NaN before the first measured one."""
    position = np.asarray(curve.position, dtype=np.float64)
    at = np.linspace(0, 1, points) * max(position[-1], 1)
    return np.interp(at, position, np.asarray(curve.loss, dtype=np.float64), left=np.nan).tolist()


def _mean(entries: list[Entry], group: Group) -> dict[str, Any]:
    """``loss`` and ``change`` (loss minus the loss at the start), each the mean over questions and its interval."""
    lines: dict[str, list[list[float]]] = {}
    for entry in entries:
        if entry.group == group and entry.curve is not None:
            lines.setdefault(entry.question.id, []).append(_resampled(entry.curve, _MEAN_POINTS))
    changes = {q: [[loss - line[0] for loss in line] for line in own] for q, own in lines.items()}
    return {"loss": _band(lines), "change": _band(changes)}


def _band(lines: dict[str, list[list[float]]]) -> dict[str, list[float | None]]:
    """Mean over questions and its 95 % interval, point by point."""
    intervals = [
        mean_interval({q: [line[i] for line in own] for q, own in lines.items()}, resamples=_RESAMPLES)
        for i in range(_MEAN_POINTS)
    ]
    return {name: rounded([getattr(interval, name) for interval in intervals], 4) for name in ("mean", "low", "high")}
