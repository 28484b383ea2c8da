"""Meta-SGD: MAML that learns the inner rates, too, one for each weight (Li et al. 2017, arXiv 1707.09835).

    minimise over θ and α:  L_query(θₖ),   θᵢ₊₁ = θᵢ − α ∘ ∇L_support(θᵢ)

The rates start at one value and may become negative. They are as many as the weights, and the outer optimiser keeps
its moments for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from innerloop.outer.meta.cost import Sizes, Spent, inner_cost, query_cost
from innerloop.outer.meta.inner import adapt, gradient_of
from innerloop.outer.meta.task import Loss, MetaGradient, Parameters, Task

RATE = "rate/"  # in front of a parameter's name: its inner rates, among the outer parameters


@dataclass(frozen=True, kw_only=True)
class MetaSgd:
    """Meta-SGD with ``steps`` inner steps; every inner rate starts at ``rate``."""

    steps: int
    rate: float

    def own(self, start: Parameters) -> dict[str, Tensor]:
        """The inner rates, shaped as the weights, under ``rate/NAME``."""
        return {RATE + name: torch.full_like(weight, self.rate).requires_grad_() for name, weight in start.items()}

    def gradient(self, loss: Loss, outer: Parameters, task: Task) -> MetaGradient:
        """The gradient of L_query(θₖ) in θ and in the rates, of one task."""
        start = {name: weight for name, weight in outer.items() if not name.startswith(RATE)}
        rates = {name: outer[RATE + name] for name in start}
        adapted, support = adapt(loss, start, task.support, steps=self.steps, rates=rates, create_graph=True)
        query = loss(adapted, task.query)
        return MetaGradient(gradient_of(query, outer), float(query.detach()), support)

    def cost(self, sizes: Sizes, support: Sequence[int], query: int) -> Spent:
        """What `gradient` takes for batches of so many tokens: as much as MAML."""
        return inner_cost(sizes, support, self.steps, second_order=True) + query_cost(sizes, query)
