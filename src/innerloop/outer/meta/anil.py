"""ANIL: MAML whose inner loop moves only the last layers (Raghu et al. 2020, arXiv 1909.09157).

    minimise over θ = (body, head):  L_query(body, headₖ),   headᵢ₊₁ = headᵢ − α ∇_head L_support(body, headᵢ)

All of θ is trained in the outer loop, through the inner steps (second order). The inner backward stops at the head.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from innerloop.errors import InputError
from innerloop.outer.meta.cost import Sizes, Spent, inner_cost, query_cost
from innerloop.outer.meta.inner import adapt, gradient_of
from innerloop.outer.meta.task import Loss, MetaGradient, Parameters, Task


@dataclass(frozen=True, kw_only=True)
class Anil:
    """ANIL with ``steps`` inner steps at rate ``rate`` on the parameters named ``head``."""

    steps: int
    rate: float
    head: frozenset[str]

    def own(self, start: Parameters) -> dict[str, Tensor]:  # noqa: ARG002  # an Algorithm's signature
        """No outer parameters beside the start."""
        return {}

    def gradient(self, loss: Loss, outer: Parameters, task: Task) -> MetaGradient:
        """∇θ L_query(body, headₖ(θ)) of one task."""
        adapted, support = adapt(
            loss, outer, task.support, steps=self.steps, rates=self.rate, adapted=self.head, create_graph=True
        )
        query = loss(adapted, task.query)
        return MetaGradient(gradient_of(query, outer), float(query.detach()), support)

    def cost(self, sizes: Sizes, support: Sequence[int], query: int) -> Spent:
        """What `gradient` takes for batches of so many tokens; ``sizes`` know the head."""
        return inner_cost(sizes, support, self.steps, second_order=True) + query_cost(sizes, query)


def head_names(model: nn.Module, patterns: Sequence[str] = ()) -> frozenset[str]:
    """The trained parameters that the inner loop adapts: those that match a shell pattern (``*.layers.29.*``).

    Without patterns: the last block of the model and what stands behind the blocks, final norm and output head. An
    output head that is tied to the embeddings is an embedding and stays out. A model without a list of blocks gives
    the module that holds its last parameter. `InputError` where nothing trained is found.
    """
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    if patterns:
        found = [name for name in trained if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
        for pattern in patterns:
            if not fnmatch.filter(trained, pattern):
                near = ", ".join(trained[-3:])
                raise InputError(f"--head {pattern}: no trained parameter has such a name; the last ones are {near}")
        return frozenset(found)
    found = [name for name in trained if name.startswith(_last(model))]
    if not found:
        raise InputError(
            "nothing trained in the last block or behind it, so the inner loop of anil has nothing to adapt: name "
            "parameters with --head, or train more of the model"
        )
    return frozenset(found)


def _last(model: nn.Module) -> tuple[str, ...]:
    """Prefixes of the names of the last block's parameters and of those behind it."""
    lists = [(name, part) for name, part in model.named_modules() if isinstance(part, nn.ModuleList)]
    names = [name for name, _ in model.named_parameters()]
    if not lists:
        return (names[-1].rpartition(".")[0],)
    name, blocks = max(lists, key=lambda found: len(found[1]))
    behind = max(i for i, parameter in enumerate(names) if parameter.startswith(f"{name}.")) + 1
    return (f"{name}.{len(blocks) - 1}.", *names[behind:])
