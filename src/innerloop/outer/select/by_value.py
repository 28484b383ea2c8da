"""Those that are worth most: by gain, by gain per token, or by any other number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from innerloop.outer.support import Choice
from innerloop.schema import Question, Trajectory


def by_value(values: Mapping[str, float]) -> Choice:
    """The ones with the largest values, by trajectory id."""

    def choose(_: Question, trajectories: Sequence[Trajectory], count: int) -> Sequence[Trajectory]:
        return sorted(trajectories, key=lambda trajectory: -values[trajectory.id])[:count]

    return choose
