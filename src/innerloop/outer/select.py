"""In which order a question's trajectories are taken into its support set."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from innerloop.outer.support import Order
from innerloop.schema import Question, Trajectory


def at_random(seed: int) -> Order:
    """In an order drawn from the seed and the question."""

    def order(question: Question, trajectories: Sequence[Trajectory]) -> list[Trajectory]:
        return random.Random(f"select {seed} {question.id}").sample(list(trajectories), len(trajectories))

    return order


def shortest(_: int) -> Order:
    """The shortest text first."""
    return lambda _, trajectories: sorted(trajectories, key=lambda trajectory: (len(trajectory.text), trajectory.id))


def as_given(_: int) -> Order:
    """As they come."""
    return lambda _, trajectories: trajectories


ORDERS: Mapping[str, Callable[[int], Order]] = {"random": at_random, "shortest": shortest, "first": as_given}
