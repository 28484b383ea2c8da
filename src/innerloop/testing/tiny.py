"""Tiny randomly initialised models of every supported architecture, made in memory in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.errors import InputError
from innerloop.tokenizers import VOCABULARY, byte_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from innerloop.models import LoadedModel

WINDOW = 16  # of the sliding-window models: shorter than any context worth testing


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """How to make one tiny model.

    ``options`` go to transformers' configuration of that ``model_type``. ``block_masks`` says whether the model takes
    a four-dimensional attention mask, so that many branches may share one row; state-space layers cannot.
    """

    model_type: str
    options: Mapping[str, Any] = field(default_factory=dict)
    block_masks: bool = True


_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 4096,
}
_WITHOUT_HEAD_DIM = {name: value for name, value in _SHAPE.items() if name != "head_dim"}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
_STATE_SPACE = {"mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 16}

ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture(model_type="llama", options=_SHAPE),
    "qwen2": Architecture(model_type="qwen2", options=_WITHOUT_HEAD_DIM),
    "qwen3": Architecture(model_type="qwen3", options=_SHAPE),
    "mistral": Architecture(model_type="mistral", options=_SHAPE | {"sliding_window": WINDOW}),
    "gemma3": Architecture(
        model_type="gemma3_text",
        options=_SHAPE
        | {
            "num_hidden_layers": 4,
            "sliding_window": WINDOW,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "query_pre_attn_scalar": 16,
        },
    ),
    "olmo2": Architecture(model_type="olmo2", options=_WITHOUT_HEAD_DIM),
    "phi3": Architecture(model_type="phi3", options=_WITHOUT_HEAD_DIM),
    "gpt2": Architecture(
        model_type="gpt2",
        options={"vocab_size": VOCABULARY, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 4096},
    ),
    "gpt_neox": Architecture(model_type="gpt_neox", options=_WITHOUT_HEAD_DIM),
    "mixtral": Architecture(model_type="mixtral", options=_SHAPE | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen2_moe": Architecture(
        model_type="qwen2_moe", options=_WITHOUT_HEAD_DIM | _EXPERTS | {"shared_expert_intermediate_size": 48}
    ),
    "qwen3_moe": Architecture(model_type="qwen3_moe", options=_SHAPE | _EXPERTS),
    "mamba": Architecture(
        model_type="mamba",
        options={"vocab_size": VOCABULARY, "hidden_size": 64, "num_hidden_layers": 3, "state_size": 8},
        block_masks=False,
    ),
    "falcon_h1": Architecture(
        model_type="falcon_h1",
        options=_SHAPE | _STATE_SPACE | {"mamba_d_ssm": 64, "mamba_n_heads": 4},
        block_masks=False,
    ),
    "jamba": Architecture(
        model_type="jamba",
        options=_WITHOUT_HEAD_DIM
        | {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 4}
        | {"mamba_d_state": 8, "mamba_dt_rank": 8},
        block_masks=False,
    ),
    "lfm2": Architecture(
        model_type="lfm2",
        options=_WITHOUT_HEAD_DIM | {"num_hidden_layers": 4, "layer_types": ["conv", "full_attention"] * 2},
        block_masks=False,
    ),
    "qwen3_next": Architecture(
        model_type="qwen3_next",
        options=_SHAPE
        | _EXPERTS
        | {"num_hidden_layers": 4, "layer_types": ["linear_attention", "full_attention"] * 2}
        | {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
        | {"linear_key_head_dim": 16, "linear_value_head_dim": 16, "shared_expert_intermediate_size": 48},
        block_masks=False,
    ),
}
_TOKENS = {"pad_token_id": 256, "bos_token_id": 257, "eos_token_id": 258}


def tiny(
    architecture: str,
    *,
    dtype: str = "float32",
    seed: int = 0,
    thinking_switch: bool = False,
    **config_overrides: Any,
) -> LoadedModel:
    """A tiny random model with the byte tokenizer, ready to use like any loaded model.

    The weights depend on ``architecture``, ``seed`` and ``config_overrides`` alone; models of different ``dtype`` have
    the same weights up to rounding. ``thinking_switch`` gives it a chat template that reads ``enable_thinking``.
    """
    model = _build(architecture, dtype=dtype, seed=seed, overrides=config_overrides)
    from innerloop.models import wrap

    tokenizer = byte_tokenizer(thinking_switch=thinking_switch)
    return wrap(model, tokenizer, name=f"tiny-{architecture}")


def save_tiny(
    architecture: str, folder: str | Path, *, seed: int = 0, thinking_switch: bool = False, **config_overrides: Any
) -> Path:
    """Write a tiny float32 model as a folder (safetensors, tokenizer, chat template) that ``innerloop`` can load."""
    from innerloop.gguf_cache import quiet_bars

    folder = Path(folder)
    model = _build(architecture, dtype="float32", seed=seed, overrides=config_overrides)
    with quiet_bars():
        model.save_pretrained(folder)
    byte_tokenizer(thinking_switch=thinking_switch).save_pretrained(folder)
    return folder


def _build(architecture: str, *, dtype: str, seed: int, overrides: Mapping[str, Any]) -> PreTrainedModel:
    if architecture not in ARCHITECTURES:
        raise InputError(f"no tiny model named {architecture!r}; there are {', '.join(ARCHITECTURES)}")
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    recipe = ARCHITECTURES[architecture]
    config = AutoConfig.for_model(recipe.model_type, **(_TOKENS | dict(recipe.options) | dict(overrides)))
    if dtype == "float64":
        config._experts_implementation = "eager"  # the grouped product of the experts has no float64
    with torch.random.fork_rng(devices=[]):  # transformers draws its initial weights from the global generator
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    _fill(model, torch.Generator().manual_seed(seed))
    return model.to(getattr(torch, dtype)).eval().requires_grad_(False)


def _fill(model: PreTrainedModel, generator: torch.Generator) -> None:
    """Draw every weight anew, large enough that attention is uneven and no norm or bias is trivially one or zero."""
    import torch
    from transformers.pytorch_utils import Conv1D

    transposed = {name + ".weight" for name, module in model.named_modules() if isinstance(module, Conv1D)}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if _stays_near_start(name):
                weight.add_(noise, alpha=0.2)
            elif "dt_" in name and name.endswith("bias"):
                weight.copy_(0.5 * noise - 2)  # slow decay, so that state-space layers remember tens of tokens
            elif weight.ndim < 2:
                weight.copy_(0.2 * noise)
            elif "embed" in name or "wte" in name or "wpe" in name:
                weight.copy_(0.3 * noise)
            else:
                fan_in = weight.shape[0] if name in transposed else weight.shape[-1]
                weight.copy_(1.5 * fan_in**-0.5 * noise)


def _stays_near_start(name: str) -> bool:
    """Norms (around one, or zero as in Gemma), decay rates and skip weights of state-space layers."""
    is_norm = ("norm" in name or ".ln_" in name) and name.endswith("weight")
    return is_norm or name.endswith(("A_log", ".D"))
