"""Whether a model that a configuration describes is one that its weights can fill, before memory is taken for it."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from innerloop.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LARGER = 4  # times: weights may be packed, and tied ones are there once
_ANYWAY = 1 << 27  # weights and buffers that are no burden; tables of positions do not depend on the weights


def skeleton(config: Any, weights: int, *, trust_remote_code: bool = False) -> PreTrainedModel:
    """The model of a configuration, without memory for its weights.

    InputError where it has many more of them than the ``weights`` that there are to fill it with. Its layers must have
    been counted before: each takes a hundredth of a second to build.
    """
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, trust_remote_code=trust_remote_code
        )
    built = sum(part.numel() for part in chain(model.parameters(), model.buffers()))
    if built > _LARGER * weights + _ANYWAY:
        raise InputError(f"the configuration describes a model of {built:,} weights, and there are {weights:,}")
    return model
