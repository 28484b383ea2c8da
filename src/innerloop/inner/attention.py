"""Attention of many branches over one shared prefix, without copying or masking the prefix.

The probe asks for the answer behind every prefix t≤ᵢ of one trajectory. The keys and values of the trajectory are the
same for all of them, so they are computed once and each branch (suffix and answer) attends to the part before its own
position. A query's softmax is taken over two sets of keys and merged by their log-sum-exps:

- the *core*: prefix keys that every branch of the group sees, one unmasked product for all branches;
- the *rim*: the few prefix keys that only some see (between the first and the last branch's position, and at the far
  edge of a sliding window), under a mask, and the branch's own earlier tokens.

The function is registered with transformers as an attention implementation; what to attend to travels in a context
variable, because models pass their attention different keyword arguments.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, PreTrainedModel

NAME = "innerloop_shared_prefix"

KeysValues = tuple[Float[Tensor, "kv_head token dim"], Float[Tensor, "kv_head token value_dim"]]
_Own = tuple[Float[Tensor, "kv_head row dim"], Float[Tensor, "kv_head row value_dim"]]


class UnsupportedAttentionError(NotImplementedError):
    """The model's attention has a part (soft cap, sinks) that the shared-prefix method does not know."""


@dataclass
class Prefix:
    """One context (prompt and trajectory) of ``length`` tokens; ``layers`` maps a layer's index to keys and values."""

    length: int
    layers: dict[int, KeysValues] = field(default_factory=dict)


@dataclass
class Group:
    """Branches of equal length over one prefix, in rising order of the prefix length that each sees.

    ``seen``: for each branch, how many prefix tokens are before it. ``length``: tokens fed per branch.
    """

    prefix: Prefix
    seen: tuple[int, ...]
    length: int
    _rims: dict[int | None, Rim] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """Tokens of the group in the packed row."""
        return len(self.seen) * self.length

    def rim(self, window: int | None, device: torch.device) -> Rim:
        """Where the core ends and what the rim's mask is; worked out once for all layers of the same window."""
        if window not in self._rims:
            self._rims[window] = Rim.of(self, window, device)
        return self._rims[window]


@dataclass(frozen=True)
class Rim:
    """``edge`` and ``tail`` are the two ranges of prefix keys under the mask; the core lies between them.

    ``hidden`` says which of those keys, and then of the branch's own tokens, a token does not see.
    """

    edge: slice
    core: slice
    tail: slice
    hidden: Bool[Tensor, "branch token key_and_token"]

    @classmethod
    def of(cls, group: Group, window: int | None, device: torch.device) -> Rim:
        """Query j of a branch that sees m prefix tokens stands at m + j; a window of W shows it the last W keys."""
        first, last, length = group.seen[0], group.seen[-1], group.length
        reach = window if window is not None else last + length
        start = max(0, first + 1 - reach)  # the oldest key that any query sees
        core_start = min(max(start, last + length - reach), first)
        keys = torch.cat([torch.arange(start, core_start), torch.arange(first, last)])
        seen = torch.tensor(group.seen)[:, None, None]
        step = torch.arange(length)
        query = seen + step[None, :, None]
        hidden = (keys >= seen) | (keys <= query - reach)
        distance = step[:, None] - step[None, :]
        hidden_own = ((distance < 0) | (distance >= reach)).expand(len(group.seen), -1, -1)
        return cls(
            edge=slice(start, core_start),
            core=slice(core_start, first),
            tail=slice(first, last),
            hidden=torch.cat([hidden, hidden_own], dim=-1).to(device),
        )


@dataclass
class PrefixRun:
    """The packed row is one or more whole contexts, each attending causally to itself; keys and values are kept."""

    prefixes: list[Prefix]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None) -> Tensor:
        """Attention output, heads × tokens × dim."""
        outputs = []
        start = 0
        for prefix in self.prefixes:
            row = slice(start, start + prefix.length)
            prefix.layers[layer] = (key[:, row].contiguous(), value[:, row].contiguous())
            outputs.append(_causal(query[:, row], *prefix.layers[layer], scale, window))
            start += prefix.length
        return torch.cat(outputs, dim=1) if len(outputs) > 1 else outputs[0]


@dataclass
class BranchRun:
    """The packed row is one or more groups of branches."""

    groups: list[Group]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None) -> Tensor:
        """Attention output, heads × tokens × dim."""
        outputs = []
        start = 0
        for group in self.groups:
            row = slice(start, start + group.tokens)
            outputs.append(_branches(group, layer, query[:, row], key[:, row], value[:, row], scale, window))
            start += group.tokens
        return torch.cat(outputs, dim=1) if len(outputs) > 1 else outputs[0]


_run: ContextVar[PrefixRun | BranchRun] = ContextVar("innerloop_attention_run")


@contextmanager
def attending(run: PrefixRun | BranchRun) -> Iterator[None]:
    """Forwards inside the block attend as ``run`` says."""
    token = _run.set(run)
    try:
        yield
    finally:
        _run.reset(token)


@contextmanager
def installed(model: PreTrainedModel) -> Iterator[None]:
    """The model uses the shared-prefix attention inside the block and its own one after."""
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def shared_prefix_attention(
    module: nn.Module,
    query: Float[Tensor, "1 head token dim"],
    key: Float[Tensor, "1 kv_head token dim"],
    value: Float[Tensor, "1 kv_head token value_dim"],
    attention_mask: Tensor | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Float[Tensor, "1 token head value_dim"], None]:
    """transformers' attention interface: one packed row, no mask (the run knows who sees what)."""
    if others.get("softcap") is not None or others.get("s_aux") is not None:
        raise UnsupportedAttentionError(f"{type(module).__name__} uses a soft cap or attention sinks")
    if attention_mask is not None:
        raise UnsupportedAttentionError(f"{type(module).__name__} builds an attention mask of its own")
    if scaling is None:
        scaling = query.shape[-1] ** -0.5
    run = _run.get()
    out = run.attend(int(module.layer_idx), query[0], key[0], value[0], scaling, sliding_window)  # type: ignore[arg-type]  # nn.Module attributes are Tensor | Module to mypy
    return out.transpose(0, 1).unsqueeze(0), None


# A name without a mask function of its own makes transformers build no mask at all.
AttentionInterface.register(NAME, shared_prefix_attention)

_BLOCK = 512  # query rows at once where a window needs a mask: bounds the mask to block × (block + window)


def _causal(query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None) -> Tensor:
    """Plain causal attention of one context over itself."""
    tokens = query.shape[1]
    grouped = query.shape[0] != key.shape[0]
    if window is None or tokens <= window:
        out = F.scaled_dot_product_attention(
            query[None], key[None], value[None], is_causal=True, scale=scale, enable_gqa=grouped
        )
        return out[0]
    blocks = []
    for start in range(0, tokens, _BLOCK):
        stop = min(start + _BLOCK, tokens)
        oldest = max(0, start + 1 - window)
        distance = torch.arange(start, stop)[:, None] - torch.arange(oldest, stop)
        visible = ((distance >= 0) & (distance < window)).to(query.device)
        k, v = key[None, :, oldest:stop], value[None, :, oldest:stop]
        block = F.scaled_dot_product_attention(
            query[None, :, start:stop], k, v, attn_mask=visible, scale=scale, enable_gqa=grouped
        )
        blocks.append(block[0])
    return torch.cat(blocks, dim=1)


def _branches(
    group: Group, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None
) -> Tensor:
    """Core and rim, merged by their log-sum-exps. Heads that share keys are folded into the query axis."""
    rim = group.rim(window, query.device)
    keys, values = group.prefix.layers[layer]
    kv_heads = key.shape[0]
    shared = query.shape[0] // kv_heads
    folded = query.reshape(kv_heads, shared * group.tokens, -1)

    out, lse = _rim(group, rim, folded, (keys, values), (key, value), scale)
    if rim.core.stop > rim.core.start:
        core_out, core_lse = _with_lse(folded, keys[:, rim.core], values[:, rim.core], scale)
        share = torch.sigmoid(core_lse - lse).unsqueeze(-1)
        out = torch.lerp(out, core_out.to(out.dtype), share)
    return out.to(query.dtype).view(query.shape[0], group.tokens, -1)


def _rim(
    group: Group, rim: Rim, folded: Float[Tensor, "kv_head query dim"], prefix: KeysValues, own: _Own, scale: float
) -> tuple[Float[Tensor, "kv_head query value_dim"], Float[Tensor, "kv_head query"]]:
    """Attention to the masked prefix keys and to the branch's own tokens: output and log-sum-exp."""
    kv_heads = folded.shape[0]
    branches, length = len(group.seen), group.length
    shared = folded.shape[1] // group.tokens
    keys, values = (torch.cat([x[:, rim.edge], x[:, rim.tail]], dim=1) for x in prefix)

    own_key, own_value = (x.reshape(kv_heads * branches, length, -1) for x in own)
    # heads and branch tokens side by side: (kv_head · branch) × (shared head · token) × dim
    own_query = folded.view(kv_heads, shared, branches, length, -1).transpose(1, 2)
    own_query = own_query.reshape(kv_heads * branches, shared * length, -1)
    own_score = _product(own_query, own_key, scale).view(kv_heads, branches, shared, length, length)
    score = _product(folded, keys, scale).view(kv_heads, shared, branches, length, -1).transpose(1, 2)
    score = _widen(torch.cat([score, own_score], dim=-1))
    weight, lse = _softmax_with_lse(score.masked_fill_(rim.hidden[:, None], -math.inf))
    weight = weight.to(values.dtype)

    split = keys.shape[1]
    own_weight = weight[..., split:].reshape(kv_heads * branches, shared * length, length)
    out = (own_weight @ own_value).view(kv_heads, branches, shared, length, -1).transpose(1, 2)
    rim_weight = weight[..., :split].transpose(1, 2).reshape(kv_heads, shared * group.tokens, split)
    out = _widen(out.reshape(kv_heads, shared * group.tokens, -1)) + rim_weight @ values
    return out, lse.transpose(1, 2).reshape(kv_heads, shared * group.tokens)


def _with_lse(
    query: Float[Tensor, "head query dim"],
    key: Float[Tensor, "head key dim"],
    value: Float[Tensor, "head key value_dim"],
    scale: float,
) -> tuple[Float[Tensor, "head query value_dim"], Float[Tensor, "head query"]]:
    """Unmasked attention, output and log-sum-exp over the keys, in the widest of the operands' and float32."""
    if _fused(query, value):
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query[None], key[None], value[None], 0.0, False, attn_mask=None, scale=scale
        )
        return out[0], lse[0].view(query.shape[0], query.shape[1])
    weight, lse = _softmax_with_lse(_widen(_product(query, key, scale)))
    return weight.to(value.dtype) @ value, lse


def _product(query: Tensor, key: Tensor, scale: float) -> Tensor:
    """Scaled scores, batch × query × key, the scale inside the product."""
    return torch.baddbmm(query.new_zeros(1, 1, 1), query, key.transpose(1, 2), beta=0, alpha=scale)


def _softmax_with_lse(score: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax over the last dimension and the log-sum-exp, which any visible key gives: score − log weight.

    The key of the largest weight does so without loss. Each row sees some key.
    """
    weight = torch.softmax(score, dim=-1)
    return weight, score.amax(dim=-1) - weight.amax(dim=-1).log()


def _fused(query: Tensor, value: Tensor) -> bool:
    """Whether torch's fused CPU kernel, the one that also returns the log-sum-exp, applies."""
    return query.device.type == "cpu" and query.shape[-1] == value.shape[-1]


def _widen(x: Tensor) -> Tensor:
    """float32 for half precisions; float32 and float64 as they are."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
