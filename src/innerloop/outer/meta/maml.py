"""MAML: the query loss after adaptation, differentiated through the inner steps (Finn et al. 2017, arXiv 1703.03400).

    minimise over θ:  L_query(θₖ(θ)),   θᵢ₊₁ = θᵢ − α ∇L_support(θᵢ),  θ₀ = θ

The gradient is exact: (I − α ∇²L_support(θ₀)) ⋯ (I − α ∇²L_support(θₖ₋₁)) ∇L_query(θₖ). Memory: the graphs of all k
steps of one task at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from innerloop.outer.meta.cost import Sizes, Spent, inner_cost, query_cost
from innerloop.outer.meta.inner import adapt, gradient_of
from innerloop.outer.meta.task import Loss, MetaGradient, Parameters, Task


@dataclass(frozen=True, kw_only=True)
class Maml:
    """MAML with ``steps`` inner steps at rate ``rate``."""

    steps: int
    rate: float

    def own(self, start: Parameters) -> dict[str, Tensor]:  # noqa: ARG002  # an Algorithm's signature
        """No outer parameters beside the start."""
        return {}

    def gradient(self, loss: Loss, outer: Parameters, task: Task) -> MetaGradient:
        """∇θ L_query(θₖ(θ)) of one task."""
        adapted, support = adapt(loss, outer, task.support, steps=self.steps, rates=self.rate, create_graph=True)
        query = loss(adapted, task.query)
        return MetaGradient(gradient_of(query, outer), float(query.detach()), support)

    def cost(self, sizes: Sizes, support: Sequence[int], query: int) -> Spent:
        """What `gradient` takes for batches of so many tokens."""
        return inner_cost(sizes, support, self.steps, second_order=True) + query_cost(sizes, query)
