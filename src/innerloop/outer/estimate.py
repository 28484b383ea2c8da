"""What a training will take, before it begins: FLOPs and memory, by formula, from the model's configuration alone.

FLOPs, a multiplication and an addition being two, of a row of L tokens through N matrix weights (as
`innerloop.outer.meta.cost` counts them: a tied head counts, the look-up of embeddings does not), with ``layers`` layers
whose heads are ``attention`` wide together:

- generating, or a forward: 2·N·L, and 4·layers·attention·L(L+1)/2 for the products of attention, of which causality
  leaves L(L+1)/2 pairs (a kernel that computes the masked pairs, too, does up to twice as many);
- training: 6·N·L, and three times those of attention. With LoRA the backward reaches the weights that are trained
  alone: (4·N + 2·trained)·L.

Memory, in bytes of a process that holds everything: weights; gradients and AdamW's two moments of what is trained; and
the activations that the backward needs, estimated for blocks of the Llama kind: per token and layer six numbers per
width, three per ``attention``, two per ``keys`` (width of the keys) and four per ``mlp``, and behind the last layer two
per ``vocabulary`` where logits are built. With activation checkpointing only each layer's input stays, and one layer at
a time is computed again. Left out: the workspace of kernels, the cache of a generation, what the allocator wastes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from innerloop.outer.meta.cost import Sizes, query_cost, sizes_of

if TYPE_CHECKING:
    from torch import nn

ADAMW_MOMENTS = 2


@dataclass(frozen=True, kw_only=True)
class Build:
    """What estimates need of a model: numbers of parameters, and widths. ``sizes`` are those of its matrices."""

    parameters: int
    trained: int
    sizes: Sizes
    layers: int
    width: int
    attention: int
    keys: int
    mlp: int
    vocabulary: int


@dataclass(frozen=True, kw_only=True)
class Work:
    """Tokens through the model and their FLOPs, in its matrices and in the products of attention."""

    tokens: int
    matrices: int
    attention: int

    @property
    def flops(self) -> int:
        """Both together."""
        return self.matrices + self.attention

    def times(self, factor: int) -> Work:
        """The same so many times."""
        return Work(tokens=self.tokens * factor, matrices=self.matrices * factor, attention=self.attention * factor)


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one process. ``copies``: the weights where it began, for a divergence from them, or adapted ones."""

    weights: int
    gradients: int
    optimiser: int
    copies: int
    activations: int

    @property
    def total(self) -> int:
        """All together."""
        return self.weights + self.gradients + self.optimiser + self.copies + self.activations

    def shared(self, processes: int) -> int:
        """Of each of so many processes, where all but the activations is spread over them (FSDP2, ZeRO-3)."""
        spread = self.total - self.activations
        return -(-spread // processes) + self.activations


def build_of(model: nn.Module) -> Build:
    """The build of a model; it may be a skeleton on the meta device, and have adapters."""
    config: Any = getattr(model, "config", None)
    text = config.get_text_config()
    heads = text.num_attention_heads
    head = getattr(text, "head_dim", None) or text.hidden_size // heads
    weights = list(model.parameters())
    return Build(
        parameters=sum(weight.numel() for weight in weights),
        trained=sum(weight.numel() for weight in weights if weight.requires_grad),
        sizes=sizes_of(model),
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        attention=heads * head,
        keys=(getattr(text, "num_key_value_heads", None) or heads) * head,
        mlp=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        vocabulary=text.vocab_size,
    )


def forward(build: Build, lengths: Iterable[int]) -> Work:
    """Rows of so many tokens once through the model; a row that is generated costs the same."""
    rows = list(lengths)
    pairs = sum(length * (length + 1) // 2 for length in rows)
    return Work(
        tokens=sum(rows),
        matrices=2 * build.sizes.all * sum(rows),
        attention=4 * build.layers * build.attention * pairs,
    )


def training(build: Build, lengths: Iterable[int]) -> Work:
    """Rows of so many tokens through the model and back."""
    once = forward(build, lengths)
    return Work(tokens=once.tokens, matrices=query_cost(build.sizes, once.tokens).flops, attention=3 * once.attention)


def memory(build: Build, *, tokens: int, bytes_each: int, checkpointing: bool, logits: bool, copied: int = 0) -> Memory:
    """Of a process that works through ``tokens`` (rows × longest row) at a time, in numbers of ``bytes_each``.

    ``copied`` weights are there once more.
    """
    block = 6 * build.width + 3 * build.attention + 2 * build.keys + 4 * build.mlp
    kept = build.layers * build.width + block if checkpointing else build.layers * block
    kept += 2 * build.vocabulary if logits else 0
    return Memory(
        weights=build.parameters * bytes_each,
        gradients=build.trained * bytes_each,
        optimiser=ADAMW_MOMENTS * build.trained * bytes_each,
        copies=copied * bytes_each,
        activations=tokens * kept * bytes_each,
    )
