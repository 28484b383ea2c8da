"""From the gradients of single tasks to the outer gradient: how much each counts, and what happens to conflicts.

Tasks are worked through one after the other and added into buckets, so that a step holds one gradient per bucket: one
in all for `Mean` and `Robust`, one per family for `Surgery`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from torch import Tensor

Gradients = dict[str, Tensor]
ALL = "all"  # the bucket of those that need only one


class Share(NamedTuple):
    """Where a task's gradient goes, and times what."""

    bucket: str
    weight: float


class Combination(Protocol):
    """Makes one gradient of those of many tasks. Knows the same on every process."""

    def shares(self, families: Sequence[str]) -> list[Share]:
        """A share for each task of a step, given their families."""

    def join(self, gradients: Mapping[str, Gradients], seed: int) -> Gradients:
        """The outer gradient of the full buckets; ``seed`` is for what is drawn."""

    def learn(self, losses: Mapping[str, float]) -> None:
        """Take note of a step's mean query losses by family."""

    def weights(self) -> dict[str, float]:
        """The weights of families, where there are such."""

    def state(self) -> dict[str, Any]:
        """What `learn` has left, as JSON-able values."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""


class Mean:
    """Every task counts the same."""

    def shares(self, families: Sequence[str]) -> list[Share]:
        """One over the number of tasks."""
        return [Share(ALL, 1 / len(families))] * len(families)

    def join(self, gradients: Mapping[str, Gradients], seed: int) -> Gradients:  # noqa: ARG002  # nothing is drawn
        """The mean, as it was gathered."""
        return gradients[ALL]

    def learn(self, losses: Mapping[str, float]) -> None:
        """Nothing to learn."""

    def weights(self) -> dict[str, float]:
        """None."""
        return {}

    def state(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore."""
