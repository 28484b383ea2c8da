"""First-order MAML: the query gradient where adaptation ends, as if that were the start (Finn et al. 2017, sec. 5.2).

    g = ∇L_query(θₖ),   θᵢ₊₁ = θᵢ − α ∇L_support(θᵢ)

MAML without the factors (I − α ∇²L_support): the same as MAML up to terms of order α.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from innerloop.outer.meta.cost import Sizes, Spent, inner_cost, query_cost
from innerloop.outer.meta.inner import adapt, gradient_of
from innerloop.outer.meta.task import Loss, MetaGradient, Parameters, Task


@dataclass(frozen=True, kw_only=True)
class Fomaml:
    """First-order MAML with ``steps`` inner steps at rate ``rate``."""

    steps: int
    rate: float

    def own(self, start: Parameters) -> dict[str, Tensor]:  # noqa: ARG002  # an Algorithm's signature
        """No outer parameters beside the start."""
        return {}

    def gradient(self, loss: Loss, outer: Parameters, task: Task) -> MetaGradient:
        """∇L_query at θₖ of one task."""
        adapted, support = adapt(loss, outer, task.support, steps=self.steps, rates=self.rate)
        query = loss(adapted, task.query)
        return MetaGradient(gradient_of(query, adapted), float(query.detach()), support)

    def cost(self, sizes: Sizes, support: Sequence[int], query: int) -> Spent:
        """What `gradient` takes for batches of so many tokens."""
        return inner_cost(sizes, support, self.steps) + query_cost(sizes, query)
