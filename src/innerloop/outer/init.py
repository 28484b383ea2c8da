"""A model from nothing: a randomly initialised Llama with a tokenizer of characters or bytes and a chat template.

For experiments in which everything that the model knows comes from the outer loop. ``tiny`` learns one family of
questions in minutes on two cores. The answer suffix is one token, and the prompt holds the question alone, so that
nothing has to be learnt, and computed, that is the same in every row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from innerloop.errors import InputError
from innerloop.gguf_cache import quiet_bars
from innerloop.speaker import MANNER_FILE, SUFFIX
from innerloop.tokenizers import byte_tokenizer, character_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

ShapeName = Literal["tiny", "small"]
TokenizerName = Literal["characters", "bytes"]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Width, depth and context of a Llama; ``mlp`` is the width inside its feed-forward layers."""

    width: int
    layers: int
    heads: int
    mlp: int
    context: int


SHAPES: Mapping[ShapeName, Shape] = {
    "tiny": Shape(width=128, layers=4, heads=4, mlp=384, context=1024),  # 0.9 M weights
    "small": Shape(width=384, layers=8, heads=6, mlp=1024, context=2048),  # 14 M weights
}


def fresh(shape: ShapeName, tokenizer: TokenizerName, seed: int) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """The model in float32 and its tokenizer; the same seed gives the same weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    whole = (SUFFIX,)
    words = character_tokenizer(whole=whole) if tokenizer == "characters" else byte_tokenizer(whole=whole)
    size = SHAPES[shape]
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=size.width,
        intermediate_size=size.mlp,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=size.context,
        tie_word_embeddings=True,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):  # transformers draws from the global generator
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    return model, words


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a folder that `innerloop.models.load` reads, and every tool that reads transformers' folders."""
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: exists and is not empty; choose another --out")
    with quiet_bars():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / MANNER_FILE).write_text(json.dumps({"instruction": ""}) + "\n", encoding="utf-8")
