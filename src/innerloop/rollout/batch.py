"""Rows of unequal length in one transformers cache: they are read together, step together, leave and join."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from innerloop.models import LoadedModel

_PADDABLE = {"full_attention", "sliding_attention"}  # layers that a padding mask can hide tokens from


class Batch:
    """The model's state for the rows of a batch: cache, and where padding is.

    Contexts of unequal length are padded on the left under a mask, with position ids that start at each row's own
    first token. Equal contexts are read once, and the cache spread over their rows. So all rows end in the same column,
    and a row that joins later needs only padding in front: neither columns nor positions of the others move.
    """

    def __init__(self, loaded: LoadedModel, contexts: Sequence[tuple[int, ...]]) -> None:
        self._model: Any = loaded.model
        self._device = loaded.device
        self._accepts = set(inspect.signature(loaded.model.forward).parameters)
        self._cache_name = cache_name(loaded)
        self._cache: Cache = DynamicCache(config=loaded.model.config)
        self._contexts = contexts
        self._spare = 1 if _slow_without_mask(loaded) else 0  # columns of padding that even the longest row keeps
        width = max(map(len, contexts))
        padded = any(len(context) < width for context in contexts)
        self._mask: Tensor | None = torch.empty(0) if padded or self._spare else None
        self._width = width + (0 if padded else self._spare)

    @torch.inference_mode()
    def read(self) -> Float[Tensor, "row vocab"]:
        """Logits behind the contexts."""
        unique = list(dict.fromkeys(self._contexts))
        lengths = [len(context) for context in unique]
        ids = torch.zeros(len(unique), self._width, dtype=torch.long)  # what padding holds is never seen
        for row, context in zip(ids, unique, strict=True):
            row[self._width - len(context) :] = torch.tensor(context)
        positions = None
        if self._mask is not None:
            self._mask = torch.arange(self._width) >= self._width - torch.tensor(lengths)[:, None]
            self._mask = self._mask.long().to(self._device)
            positions = (self._mask.cumsum(dim=-1) - 1).clamp(min=0)
        logits = self._forward(ids.to(self._device), positions)
        if len(unique) == len(self._contexts):
            return logits
        place = {context: i for i, context in enumerate(unique)}
        spread = torch.tensor([place[context] for context in self._contexts], device=self._device)
        self.keep(spread)
        return logits[spread]

    @torch.inference_mode()
    def step(self, tokens: Int[Tensor, " row"]) -> Float[Tensor, "row vocab"]:
        """Logits behind one more token in each row."""
        positions = None
        if self._mask is not None:
            positions = self._mask.sum(dim=-1, keepdim=True)
            self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=-1)
        self._width += 1
        return self._forward(tokens[:, None], positions)

    @torch.inference_mode()
    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Leaves only these rows, in this order; a row may be named several times."""
        self._cache.reorder_cache(cast(torch.LongTensor, rows))
        if self._mask is not None:
            self._mask = self._mask[rows]

    @torch.inference_mode()
    def join(self, other: Batch) -> None:
        """Takes the rows of another batch of the same model behind its own; the other one is spent.

        Columns of padding that no row has a token in are cut off. Only where `can_join` says so.
        """
        mine, theirs = (part._columns() for part in (self, other))
        width = max(self._width, other._width)
        mask = torch.cat([_padded(mine, width, dim=-1), _padded(theirs, width, dim=-1)])
        needed = int(mask.sum(dim=-1).max()) + self._spare
        for own, new in zip(self._cache.layers, other._cache.layers, strict=True):
            _join(own, new, min(width, needed))
        self._width = min(width, needed)
        self._mask = mask[:, width - self._width :]

    def _columns(self) -> Int[Tensor, "row column"]:
        """The mask, written out where none was needed."""
        if self._mask is not None:
            return self._mask
        layers: list[Any] = self._cache.layers
        rows = next(layer.keys for layer in layers if layer.keys is not None).shape[0]
        return torch.ones(rows, self._width, dtype=torch.long, device=self._device)

    def _forward(self, ids: Int[Tensor, "row token"], positions: Int[Tensor, "row token"] | None) -> Tensor:
        """Logits behind each row's last token, in float32 or wider."""
        assert self._cache_name is not None
        arguments: dict[str, Any] = {"input_ids": ids, self._cache_name: self._cache, "use_cache": True}
        arguments["logits_to_keep"] = 1
        if self._mask is not None:  # without one all rows are alike, and models count positions themselves
            arguments |= {"attention_mask": self._mask, "position_ids": positions}
        arguments = {name: value for name, value in arguments.items() if name in self._accepts}
        logits = self._model(**arguments).logits[:, -1]
        return logits.float() if logits.dtype.itemsize == 2 else logits


def _join(own: Any, new: Any, width: int) -> None:
    """Puts the rows of one layer's cache behind another's, both made as wide as ``width`` columns.

    A layer with a sliding window holds the last columns only, and counts all of them.
    """
    if own.keys is None:  # a layer that uses another layer's keys
        return
    window = [own.sliding_window - 1] if isinstance(own, DynamicSlidingWindowLayer) else []
    columns = min([width, *window])
    for name in ("keys", "values"):
        parts = [_padded(getattr(layer, name), columns, dim=-2) for layer in (own, new)]
        setattr(own, name, torch.cat(parts))
    if window:
        own.cumulative_length = width


def _padded(tensor: Tensor, columns: int, *, dim: int) -> Tensor:
    """Zeros in front, or the front cut off, so that there are as many columns along ``dim``."""
    missing = columns - tensor.shape[dim]
    if missing <= 0:
        return tensor.narrow(dim, -missing, columns)
    shape = list(tensor.shape)
    shape[dim] = missing
    return torch.cat([tensor.new_zeros(shape), tensor], dim=dim)


def can_pad(loaded: LoadedModel) -> bool:
    """Whether a padding mask hides tokens wholly: not from the states of state-space, linear or convolution layers."""
    config = loaded.model.config.get_text_config()
    layers = getattr(config, "layer_types", None) or ("full_attention",)
    if loaded.dtype == torch.float64 and config._attn_implementation == "eager":
        return False  # transformers takes this softmax in float32, where float64's lowest number makes NaN of padding
    return not getattr(loaded.model, "_is_stateful", False) and set(layers) <= _PADDABLE


def can_join(loaded: LoadedModel) -> bool:
    """Whether rows can join a batch that is under way: where they can be padded and all of the state is keys and values
    in transformers' two plain layouts."""
    if not can_pad(loaded):
        return False
    layers = DynamicCache(config=loaded.model.config).layers
    return bool(layers) and all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


def cache_name(loaded: LoadedModel) -> str | None:
    """What the model's forward calls its cache; ``None`` where it takes none."""
    accepts = inspect.signature(loaded.model.forward).parameters
    return next((name for name in ("past_key_values", "cache_params") if name in accepts), None)


def _slow_without_mask(loaded: LoadedModel) -> bool:
    """Whether one column of padding pays: in half precision on a CPU, torch attends with shared key heads several times
    slower than transformers does by folding them, and that it does only under a mask."""
    return loaded.device.type == "cpu" and loaded.dtype.itemsize == 2 and can_pad(loaded)
