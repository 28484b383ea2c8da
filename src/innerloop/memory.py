"""How much memory there is, and roughly what a token takes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig


def free_memory(device: torch.device) -> int:
    """Bytes that can be had on a device now."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


def cache_bytes(config: PreTrainedConfig, size: int) -> int:
    """Keys and values of one token in all layers, ``size`` bytes a number; 0 for a model without attention.

    An upper bound where some layers keep a window only.
    """
    heads = getattr(config, "num_attention_heads", 0)
    if not heads:
        return 0
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    return int(2 * config.num_hidden_layers * kv_heads * head * size)


def context_bytes(config: PreTrainedConfig, size: int) -> int:
    """Activations of one token on its way through a layer: a few hidden states and the widest product, held twice."""
    wide = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    return int((8 * config.hidden_size + 3 * wide) * size)
