"""The answer loss by its plain definition: one full forward for every prefix (RaML alg. 3).

This is what the fast methods are compared with. It costs Σᵢ (|q| + i + |s| + |a|) tokens: quadratic in the length.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.inner.task import Task, answer_losses
from innerloop.models import LoadedModel


@torch.inference_mode()
def plain_losses(
    loaded: LoadedModel, task: Task, on_progress: Callable[[int], None] = lambda _: None
) -> Float[Tensor, "position answer"]:
    """L̂ᵢ for every position and answer of a task, float32 on the CPU, in nats per answer token."""
    losses = torch.empty(len(task.positions), len(task.answers))
    for row, position in enumerate(task.positions):
        prefix = task.context[: task.seen(position)]
        for column, answer in enumerate(task.answers):
            tokens = torch.tensor([prefix + task.branch(column)], device=loaded.device)
            logits = loaded.model(input_ids=tokens, use_cache=False, logits_to_keep=len(answer)).logits
            losses[row, column] = answer_losses(logits[0], torch.tensor(answer, device=loaded.device))
        on_progress(1)
    return losses
