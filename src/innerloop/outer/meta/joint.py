"""Joint training: no inner loop, the same batches (the baseline that meta-learning has to beat).

g = mean of ∇L over the support batches and the query batch, all at θ
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from innerloop.outer.meta.cost import Sizes, Spent, query_cost
from innerloop.outer.meta.inner import gradient_of
from innerloop.outer.meta.task import Loss, MetaGradient, Parameters, Task


@dataclass(frozen=True, kw_only=True)
class Joint:
    """Plain training on support and query alike."""

    def own(self, start: Parameters) -> dict[str, Tensor]:  # noqa: ARG002  # an Algorithm's signature
        """No outer parameters beside the start."""
        return {}

    def gradient(self, loss: Loss, outer: Parameters, task: Task) -> MetaGradient:
        """The mean gradient of one task's batches at θ, one batch at a time."""
        batches = (*task.support, task.query)
        total = {name: torch.zeros_like(weight) for name, weight in outer.items()}
        losses: list[float] = []
        for batch in batches:
            value = loss(outer, batch)
            losses.append(float(value.detach()))
            for name, gradient in gradient_of(value, outer).items():
                total[name].add_(gradient, alpha=1 / len(batches))
        return MetaGradient(total, losses[-1], tuple(losses[:-1]))

    def cost(self, sizes: Sizes, support: Sequence[int], query: int) -> Spent:
        """What `gradient` takes for batches of so many tokens: each goes through once."""
        return sum((query_cost(sizes, tokens) for tokens in support), query_cost(sizes, query))
