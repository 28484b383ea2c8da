"""The answer loss by a loop over positions with the model's own cache: one small forward per position.

Slower than sharing the prefix among packed branches, but it needs nothing of the model except a cache that can be
continued, so it also serves state-space and hybrid models, whose state cannot be shared under a mask.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel

from innerloop.inner.task import Task, answer_losses
from innerloop.models import LoadedModel


@torch.inference_mode()
def cached_losses(
    loaded: LoadedModel,
    task: Task,
    on_progress: Callable[[int], None] = lambda _: None,
    *,
    stepwise: bool = False,
) -> Float[Tensor, "position answer"]:
    """L̂ᵢ for every position and answer of a task, float32 on the CPU, in nats per answer token.

    ``stepwise`` feeds one token at a time, for models that continue their state exactly only so.
    """
    losses = torch.empty(len(task.positions), len(task.answers))
    cache: Cache = DynamicCache(config=loaded.model.config)
    consumed = 0
    for row, position in enumerate(task.positions):
        if fed := task.context[consumed : task.seen(position)]:
            _read(loaded, torch.tensor([fed], device=loaded.device), cache, 1, stepwise)
        consumed = task.seen(position)
        for column, answer in enumerate(task.answers):
            branch = torch.tensor([task.branch(column)], device=loaded.device)
            logits, cache = _peek(loaded, branch, cache, len(answer), stepwise)
            losses[row, column] = answer_losses(logits, torch.tensor(answer, device=loaded.device))
        on_progress(1)
    return losses


def _peek(loaded: LoadedModel, ids: Tensor, cache: Cache, keep: int, stepwise: bool) -> tuple[Tensor, Cache]:
    """Logits behind a branch, and the cache as it was before the branch."""
    if not any(cache.is_sliding) and not any(cache.is_linear):
        logits = _read(loaded, ids, cache, keep, stepwise)
        cache.crop(-ids.shape[1])  # transformers 5 takes the number of tokens to drop, negative
        return logits, cache
    # A recurrent state is overwritten by what it reads and a sliding window forgets, so the branch reads from a copy.
    return _read(loaded, ids, copy.deepcopy(cache), keep, stepwise), cache


def _read(
    loaded: LoadedModel, ids: Tensor, cache: Cache, keep: int, stepwise: bool
) -> Float[Tensor, "kept vocabulary"]:
    """Logits behind the last ``keep`` of the tokens; the cache is continued in place."""
    name = _cache_argument(loaded.model)

    def forward(part: Tensor, wanted: int) -> Tensor:
        return loaded.model(input_ids=part, use_cache=True, logits_to_keep=wanted, **{name: cache}).logits[0]

    if not stepwise:
        return forward(ids, keep)
    return torch.cat([forward(part, 1) for part in ids.split(1, dim=1)])[-keep:]


def _cache_argument(model: PreTrainedModel) -> str:
    """State-space models have another name for their cache."""
    return "past_key_values" if "past_key_values" in inspect.signature(model.forward).parameters else "cache_params"
