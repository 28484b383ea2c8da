"""Adaptive trajectory sampling: draw more often what has helped as support.

Every trajectory is an arm whose reward is the query gain of the tasks that it was support of (query loss before
adaptation − after, in nats per token; the K trajectories of a task share its gain). With mᵢ the running mean of arm i,
mᵢ ← mᵢ + β (gain − mᵢ), and the first gain taken whole, the arms on offer are drawn without replacement by

    pᵢ = floor/n + (1 − floor) softmax(mᵢ / τ)

An arm not seen yet counts as the mean of those seen, so that it is neither favoured nor forgotten. The floor keeps
every trajectory in play (as the mixing of EXP3 does: Auer et al. 2002, "The nonstochastic multiarmed bandit problem").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class Choosing:
    """Probabilities of trajectories from measured gains. ``temperature`` τ is in nats per token, ``decay`` is β."""

    def __init__(self, *, floor: float = 0.2, temperature: float = 0.1, decay: float = 0.2) -> None:
        self.floor, self.temperature, self.decay = floor, temperature, decay
        self._means: dict[str, float] = {}

    def probabilities(self, arms: Sequence[str]) -> Tensor:
        """pᵢ of the arms on offer, float64."""
        seen = [self._means[arm] for arm in arms if arm in self._means]
        usual = sum(seen) / len(seen) if seen else 0.0
        means = torch.tensor([self._means.get(arm, usual) for arm in arms], dtype=torch.float64)
        return self.floor / len(arms) + (1 - self.floor) * torch.softmax(means / self.temperature, 0)

    def draw(self, arms: Sequence[str], count: int, generator: torch.Generator) -> list[int]:
        """Indices of ``count`` different arms."""
        return torch.multinomial(self.probabilities(arms), count, generator=generator).tolist()

    def learn(self, arms: Sequence[str], gain: float) -> None:
        """Credit the gain of a task to all arms that were its support."""
        for arm in arms:
            before = self._means.get(arm)
            self._means[arm] = gain if before is None else before + self.decay * (gain - before)

    def state(self) -> dict[str, Any]:
        """The running means by arm."""
        return {"means": dict(self._means)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._means = {arm: float(mean) for arm, mean in state["means"].items()}
