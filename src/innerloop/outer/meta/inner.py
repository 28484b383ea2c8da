"""The inner loop: k steps of plain gradient descent from the outer parameters, θᵢ₊₁ = θᵢ − α ∘ ∇L_support(θᵢ).

The model's own weights are never written to; adapted weights are tensors of their own. With ``create_graph`` they stay
functions of the start, so that the outer gradient goes through the steps (second order).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from innerloop.outer.meta.task import Batch, Loss, Parameters

#: One inner rate for all, or one tensor per parameter that broadcasts to it.
Rates = float | Mapping[str, Tensor]


class Step(NamedTuple):
    """The weights after a step, the gradient that it took, and the loss before it."""

    parameters: dict[str, Tensor]
    gradient: dict[str, Tensor]
    loss: Tensor


def inner_step(
    loss: Loss,
    parameters: Parameters,
    batch: Batch,
    *,
    rates: Rates,
    adapted: Collection[str] | None = None,
    create_graph: bool = False,
) -> Step:
    """One step on one batch. Parameters outside ``adapted`` (None: all are in) are handed on as they are.

    A parameter that the loss does not depend on has gradient zero.
    """
    names = [name for name in parameters if adapted is None or name in adapted]
    value = loss(parameters, batch)
    gradients = torch.autograd.grad(
        value, [parameters[name] for name in names], create_graph=create_graph, materialize_grads=True
    )
    moved = dict(parameters)
    with torch.set_grad_enabled(create_graph):
        for name, gradient in zip(names, gradients, strict=True):
            rate = rates[name] if isinstance(rates, Mapping) else rates
            after = parameters[name] - rate * gradient
            moved[name] = after if create_graph else after.requires_grad_()
    return Step(moved, dict(zip(names, gradients, strict=True)), value.detach())


def adapt(
    loss: Loss,
    start: Parameters,
    support: Sequence[Batch],
    *,
    steps: int,
    rates: Rates,
    adapted: Collection[str] | None = None,
    create_graph: bool = False,
) -> tuple[dict[str, Tensor], tuple[float, ...]]:
    """θₖ after k = ``steps`` steps, and the support loss before each. Step i takes support batch i mod their number."""
    parameters: Parameters = start
    losses: list[Tensor] = []
    for i in range(steps):
        step = inner_step(
            loss, parameters, support[i % len(support)], rates=rates, adapted=adapted, create_graph=create_graph
        )
        parameters = step.parameters
        losses.append(step.loss)
    return dict(parameters), tuple(map(float, losses))


def gradient_of(value: Tensor, parameters: Parameters) -> dict[str, Tensor]:
    """The gradient of a scalar in every parameter, zeros where it does not depend on one."""
    found = torch.autograd.grad(value, list(parameters.values()), materialize_grads=True)
    return dict(zip(parameters, found, strict=True))
