"""Those that are worth most: by gain, by gain per token, or by any other number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from innerloop.outer.support import Choice
from innerloop.schema import Question, Trajectory


def by_value(values: Mapping[str, float]) -> Choice:
    """The ones with the largest values, by trajectory id; undefined ones (NaN) only when no others are left."""

    def rank(trajectory: Trajectory) -> tuple[bool, float]:
        value = values[trajectory.id]
        return (True, 0.0) if math.isnan(value) else (False, -value)

    def choose(_: Question, trajectories: Sequence[Trajectory], count: int) -> Sequence[Trajectory]:
        return sorted(trajectories, key=rank)[:count]

    return choose
