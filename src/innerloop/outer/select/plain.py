"""At random, the shortest, or the first ones."""

from __future__ import annotations

import random
from collections.abc import Sequence

from innerloop.outer.support import Choice
from innerloop.schema import Question, Trajectory


def at_random(seed: int) -> Choice:
    """Drawn from the seed and the question, whatever order they come in; fewer of them are the first ones of more."""

    def choose(question: Question, trajectories: Sequence[Trajectory], count: int) -> Sequence[Trajectory]:
        named = sorted(trajectories, key=lambda trajectory: trajectory.id)
        return random.Random(f"select {seed} {question.id}").sample(named, len(named))[:count]

    return choose


def shortest(_: int) -> Choice:
    """The shortest texts."""
    return lambda _, trajectories, count: sorted(trajectories, key=lambda found: (len(found.text), found.id))[:count]


def as_given(_: int) -> Choice:
    """As they come."""
    return lambda _, trajectories, count: trajectories[:count]
