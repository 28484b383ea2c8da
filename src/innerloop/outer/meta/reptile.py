"""Reptile: towards where a few steps on all of a task's data lead (Nichol et al. 2018, arXiv 1803.02999).

    g = (θ − θₖ₊₁) / α = Σᵢ ∇L(θᵢ),   i = 0…k

Reptile makes no difference between support and query. So that it sees the data that the others see at the same number
of gradients, its last step is on the query batch: k steps on the support, then one on the query. Then
g = (sum of the support gradients) + (the gradient of first-order MAML). The gradients are summed as they come, since
θ − θₖ₊₁ would lose most of its digits at small rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from innerloop.outer.meta.cost import Sizes, Spent, inner_cost, query_cost
from innerloop.outer.meta.inner import gradient_of, inner_step
from innerloop.outer.meta.task import Loss, MetaGradient, Parameters, Task


@dataclass(frozen=True, kw_only=True)
class Reptile:
    """Reptile with ``steps`` inner steps on the support at rate ``rate``, and one on the query."""

    steps: int
    rate: float

    def own(self, start: Parameters) -> dict[str, Tensor]:  # noqa: ARG002  # an Algorithm's signature
        """No outer parameters beside the start."""
        return {}

    def gradient(self, loss: Loss, outer: Parameters, task: Task) -> MetaGradient:
        """Σ ∇L(θᵢ) of one task. The query loss is taken before the step on the query, as the others take it."""
        parameters: Parameters = outer
        total = {name: torch.zeros_like(weight) for name, weight in outer.items()}
        losses: list[float] = []
        for i in range(self.steps):
            step = inner_step(loss, parameters, task.support[i % len(task.support)], rates=self.rate)
            parameters = step.parameters
            losses.append(float(step.loss))
            for name, gradient in step.gradient.items():
                total[name] += gradient
        query = loss(parameters, task.query)
        for name, gradient in gradient_of(query, parameters).items():
            total[name] += gradient
        return MetaGradient(total, float(query.detach()), tuple(losses))

    def cost(self, sizes: Sizes, support: Sequence[int], query: int) -> Spent:
        """What `gradient` takes for batches of so many tokens: as much as first-order MAML."""
        return inner_cost(sizes, support, self.steps) + query_cost(sizes, query)
