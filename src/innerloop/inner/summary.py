"""Summary numbers of one answer-loss curve (RaML sections 2.1-2.2, fig. 3).

`innerloop.evaluate.aggregate` averages them over questions, with intervals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from innerloop.schema import Curve


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a trajectory did to the answer loss. Undefined is NaN; losses are in nats per answer token.

    start: L̂₀, before any token of the trajectory (NaN where position 0 was not measured).
    end: L̂ at the last measured position.
    gain: start − end; positive where the trajectory brought the model closer to the answer.
    area: the mean of L̂ over the normalised position i/n, by the trapezoid rule: low where the loss falls early.
    downward: share of the moves between neighbouring measured positions that lower the loss (a tie does not).
    trend: Spearman's rank correlation of position and loss, in [−1, 1]; −1 is a steady fall.
    """

    start: float
    end: float
    gain: float
    area: float
    downward: float
    trend: float


def summarise(curve: Curve) -> Summary:
    """The summary numbers of one curve."""
    position = np.asarray(curve.position, dtype=np.float64)
    loss = np.asarray(curve.loss, dtype=np.float64)
    start = float(loss[0]) if position.size and position[0] == 0 else math.nan
    end = float(loss[-1]) if loss.size else math.nan
    return Summary(
        start=start,
        end=end,
        gain=start - end,
        area=_area(position, loss),
        downward=float(np.mean(np.diff(loss) < 0)) if loss.size > 1 else math.nan,
        trend=_trend(position, loss),
    )


def _area(position: np.ndarray, loss: np.ndarray) -> float:
    """Mean height under the curve between the first and the last measured position."""
    if loss.size < 2:
        return math.nan
    return float(np.trapezoid(loss, position) / (position[-1] - position[0]))


def _trend(position: np.ndarray, loss: np.ndarray) -> float:
    """Spearman's ρ, which needs three points and a loss that moves."""
    if loss.size < 3 or np.ptp(loss) == 0:
        return math.nan
    return float(stats.spearmanr(position, loss).statistic)
