"""PODS' choice (arXiv 2504.13818): the K whose rewards have the largest variance.

Of right (1) and wrong (0) ones that is half of each, or all there are of the rarer kind. It is exact: some of the
lowest rewards and the rest of the highest are always among the best sets, and all of these are tried.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from innerloop.outer import subset
from innerloop.outer.support import Choice
from innerloop.schema import Outcome, Question, Trajectory


def max_variance(seed: int) -> Choice:
    """Which of equally good ones is drawn from the seed and the question. The trajectories carry verdicts."""

    def choose(question: Question, trajectories: Sequence[Trajectory], count: int) -> Sequence[Trajectory]:
        named = sorted(trajectories, key=lambda trajectory: trajectory.id)
        rewards = [float(trajectory.outcome is Outcome.RIGHT) for trajectory in named]
        generator = random.Random(f"select {seed} {question.id}")
        return [named[place] for place in subset.max_variance(rewards, count, generator)]

    return choose
