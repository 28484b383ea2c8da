"""What training takes: tokens, passes and FLOPs, by formula, so that algorithms can be compared at equal budgets.

Per token and matrix weight, a multiplication and an addition being two FLOPs:

- forward: 2.
- backward: 2 for the gradient of the input, 2 more for that of a trained weight. With all N weights trained: 4N.
- backward through an inner step (second order): 2 + 2 through the step's forward (input, trained weight); 2 + 2 through
  the input gradient of the step's backward, where that backward came by (``reached``); 4 through the weight gradient,
  where the weight was adapted. With all N weights adapted: 12N on top of the step's own 6N.

Left out: attention's own products (4 · layers · width · context per token forward), norms, softmax and elementwise
work, the optimiser. Embeddings are looked up and cost nothing; a head that is tied to them counts as the matrix it is.
Weights of experts count as if every token went through all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields

from torch import nn


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Numbers of matrix weights: all, ``trained`` by the outer loop, ``reached`` by the inner backward, ``adapted``.

    ``reached_trained`` are both reached and trained.
    """

    all: int
    trained: int
    reached: int
    reached_trained: int
    adapted: int


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What was spent. ``tokens`` went through a forward, ``backward_tokens`` of them also through a backward, and
    ``second_order_tokens`` of these through a backward of that; ``passes`` count batches.
    """

    tokens: int = 0
    backward_tokens: int = 0
    second_order_tokens: int = 0
    forward_passes: int = 0
    backward_passes: int = 0
    flops: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(**{entry.name: getattr(self, entry.name) + getattr(other, entry.name) for entry in fields(self)})


def inner_cost(sizes: Sizes, support: Sequence[int], steps: int, *, second_order: bool = False) -> Spent:
    """``steps`` inner steps on support batches of so many tokens, taken in turn; with the way back through them."""
    tokens = sum(support[i % len(support)] for i in range(steps))
    flops = 2 * sizes.all + 2 * sizes.reached + 2 * sizes.adapted
    if second_order:
        flops += 2 * (sizes.all + sizes.trained + sizes.reached + sizes.reached_trained) + 4 * sizes.adapted
    return Spent(
        tokens=tokens,
        backward_tokens=tokens,
        second_order_tokens=tokens if second_order else 0,
        forward_passes=steps,
        backward_passes=2 * steps if second_order else steps,
        flops=tokens * flops,
    )


def query_cost(sizes: Sizes, tokens: int) -> Spent:
    """A forward and the backward into all trained weights, of a batch of so many tokens."""
    flops = tokens * (2 * sizes.all + 2 * sizes.all + 2 * sizes.trained)
    return Spent(tokens=tokens, backward_tokens=tokens, forward_passes=1, backward_passes=1, flops=flops)


def forward_cost(sizes: Sizes, tokens: int) -> Spent:
    """A forward of a batch of so many tokens."""
    return Spent(tokens=tokens, forward_passes=1, flops=tokens * 2 * sizes.all)


def sizes_of(model: nn.Module, *, adapted: Collection[str] | None = None) -> Sizes:
    """The matrix weights of a model, of which the inner loop adapts those named (None: all trained ones).

    The inner backward ends at the first adapted weight, in the order in which the model lists its parameters.
    """
    every = trained = near = near_trained = moved = 0
    passed = False
    for module_name, module in model.named_modules():
        for leaf, weight in module.named_parameters(recurse=False):
            moves = weight.requires_grad if adapted is None else f"{module_name}.{leaf}".lstrip(".") in adapted
            passed = passed or moves
            if weight.ndim < 2 or isinstance(module, nn.Embedding):
                continue
            every += weight.numel()
            trained += weight.numel() * weight.requires_grad
            near += weight.numel() * passed
            near_trained += weight.numel() * (passed and weight.requires_grad)
            moved += weight.numel() * moves
    return Sizes(all=every, trained=trained, reached=near, reached_trained=near_trained, adapted=moved)
