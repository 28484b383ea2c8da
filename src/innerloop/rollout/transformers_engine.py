"""Sampling with transformers: batches of similar length, rows that leave when they are done.

What is guaranteed, and what is not. The randomness of a completion depends on its request's seed, the index of each
token and the token ids alone (``innerloop.rollout.draw``), so batch size, order, neighbours, an interruption or
a batch halved for lack of memory never change which noise meets which token. The logits do change in their last bits:
batched matrix products round differently for different shapes. Where the two best tokens of a draw are closer than
that, the draw can flip, and the completion differs from there on; greedy decoding likewise, where logits tie. A batch
of 12 against each row alone moves SmolLM2's distribution by 1.4e-6 per token in float32 (total variation; a flip is
at most twice as likely) and by 1.6e-2 in bfloat16, so float32 completions hold and bfloat16 ones part after some
hundred tokens. Another device or version of torch counts as another rounding. The same calls with the same batches on
the same machine repeat exactly. One exception is not ours: rotary embeddings whose scaling looks at the longest
row (dynamic, longrope) let a row beyond the original context change its neighbours.

Why a loop of our own and not ``model.generate``: there, finished rows stay in the batch and completions come only
when the longest one is done; a model's generation_config slips in (Qwen2.5's repetition penalty), and then the
log-probability would be of another distribution than the one sampled. The loop uses transformers' caches through their
public methods.
"""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache, DynamicCache

from innerloop.errors import InputError
from innerloop.memory import cache_bytes, context_bytes, free_memory
from innerloop.models import LoadedModel
from innerloop.rollout.draw import draw
from innerloop.rollout.engine import Completion, Request, Sampling
from innerloop.schema import Status

log = logging.getLogger("innerloop.rollout")

_CPU_ROWS, _GPU_ROWS = 16, 128  # more rows gain little there and keep more unfinished work in the air
_PADDABLE = {"full_attention", "sliding_attention"}  # layers that a padding mask can hide tokens from
_FAILURES = (
    RuntimeError,
    ValueError,
    IndexError,
    MemoryError,
)  # what a model raises for what it is fed; the rest are our faults


@dataclass(eq=False)
class _Row:
    """A completion in the making. ``limit``: tokens it may have; ``full``: the context, not max_tokens, sets it."""

    request: Request
    limit: int
    full: bool
    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0
    status: Status | None = None
    reason: str | None = None

    @property
    def context(self) -> tuple[int, ...]:
        """Prompt and tokens so far: a row that has to move to another batch goes on from here."""
        return self.request.prompt + tuple(self.tokens)


class TransformersEngine:
    """A loaded model as an engine.

    ``batch_size``: rows at once at most; by default 16 on a CPU and 128 on a GPU. ``memory``: bytes that caches and
    activations may take beside the weights; by default half of what is free when a batch starts. When memory runs
    out all the same, the batch is halved and goes on where it was.
    """

    def __init__(self, loaded: LoadedModel, *, batch_size: int | None = None, memory: int | None = None) -> None:
        if batch_size is not None and batch_size < 1:
            raise InputError(f"batch_size is {batch_size}: it must be at least 1 (completions at once)")
        if memory is not None and memory < 1:
            raise InputError(f"memory is {memory}: it must be a number of bytes above 0")
        if _cache_name(loaded) is None:
            raise InputError(
                f"{loaded.name}: {type(loaded.model).__name__} keeps its state in no transformers cache, so it "
                "cannot be sampled from; use another model, or give trajectories with --trajectories"
            )
        self._loaded = loaded
        self._rows = batch_size or (_CPU_ROWS if loaded.device.type == "cpu" else _GPU_ROWS)
        self._memory = memory
        self._stops = stop_tokens(loaded)

    @property
    def name(self) -> str:
        """The model's."""
        return self._loaded.name

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        """One completion per request, each as soon as it is done; the module says what is guaranteed.

        Long prompts come first. A prompt that leaves no room in the model's context is an error completion; one that
        leaves too little is cut short (truncated).
        """
        rows = [self._row(request, sampling) for request in requests]
        yield from (self._completion(row) for row in rows if row.status)
        waiting = deque(self._groups([row for row in rows if not row.status]))
        while waiting:
            batch = self._fitting(waiting)
            failure = None
            try:
                yield from map(self._completion, self._run(batch, sampling))
            except _FAILURES as error:
                failure = error.with_traceback(None)  # the traceback holds the batch's cache
            if failure is not None:
                left = [row for row in batch if not row.status]
                yield from map(self._completion, self._after_failure(failure, left, waiting))

    def _row(self, request: Request, sampling: Sampling) -> _Row:
        """The request with its limit; already an error where the prompt does not fit."""
        context = self._loaded.max_context
        room = sampling.max_tokens if context is None else context - len(request.prompt)
        row = _Row(request, limit=min(sampling.max_tokens, room), full=room < sampling.max_tokens)
        vocabulary = cast(torch.nn.Embedding, self._loaded.model.get_input_embeddings()).num_embeddings
        if room < 1:
            row.reason = (
                f"the prompt has {len(request.prompt)} tokens, and {self.name} has a context of {context}: "
                "nothing can follow; use a shorter question or a model with a longer context"
            )
        elif not 0 <= min(request.prompt) <= max(request.prompt) < vocabulary:  # a GPU would not survive the look-up
            row.reason = f"the prompt holds a token id outside 0…{vocabulary - 1}, the vocabulary of {self.name}"
        row.status = Status.ERROR if row.reason else None
        return row

    def _groups(self, rows: list[_Row]) -> list[list[_Row]]:
        """Rows that may share a batch: all of them, or those of equal length where padding would leave traces.

        Sorted from the longest prompt to the shortest, so that batches pad little and trouble with memory shows first;
        equal prompts side by side, since they are read only once.
        """
        rows = sorted(rows, key=lambda row: (-len(row.request.prompt), row.request.prompt, row.request.id))
        if can_pad(self._loaded):
            return [rows] if rows else []
        return [list(group) for _, group in groupby(rows, key=lambda row: len(row.request.prompt))]

    def _fitting(self, waiting: deque[list[_Row]]) -> list[_Row]:
        """Takes a batch from the front of the first group, as many rows as the batch size and memory allow."""
        group = waiting.popleft()
        size = self._loaded.dtype.itemsize
        config = self._loaded.model.config.get_text_config()
        budget = self._memory if self._memory is not None else free_memory(self._loaded.device) // 2
        longest = max(row.limit + len(row.request.prompt) for row in group)
        read = max(len(row.context) for row in group)
        need = longest * cache_bytes(config, size) + read * context_bytes(config, size) + 16 * config.vocab_size
        count = max(1, min(self._rows, budget // need))
        if len(group) > count:
            waiting.appendleft(group[count:])
        return group[:count]

    def _after_failure(self, failure: Exception, left: list[_Row], waiting: deque[list[_Row]]) -> list[_Row]:
        """Sends the unfinished rows of a failed batch back in two halves; a row that failed alone is an error."""
        reason = f"{type(failure).__name__}: {str(failure).strip().partition(chr(10))[0][:300]}"
        if len(left) == 1:
            left[0].status, left[0].reason = Status.ERROR, reason
            return left
        half = (len(left) + 1) // 2
        if isinstance(failure, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(failure):
            self._rows = min(self._rows, half)
            log.warning("out of memory with %d completions at once; going on with %d", len(left), half)
            if self._loaded.device.type == "cuda":
                torch.cuda.empty_cache()
        else:
            log.warning("%d completions failed together and are tried again in two halves (%s)", len(left), reason)
        waiting.extendleft(part for part in (left[half:], left[:half]) if part)
        return []

    def _run(self, rows: list[_Row], sampling: Sampling) -> Iterator[_Row]:
        """Decodes a batch to its end; gives each row when it is done."""
        batch = _Batch(self._loaded, [row.context for row in rows])
        seeds = torch.tensor([row.request.seed for row in rows], device=self._loaded.device)
        logits = batch.read()
        while True:
            chosen = self._extend(rows, logits, seeds, sampling)
            yield from (row for row in rows if row.status)
            stay = [i for i, row in enumerate(rows) if not row.status]
            if not stay:
                return
            if len(stay) < len(rows):
                keep = torch.tensor(stay, device=self._loaded.device)
                rows, seeds, chosen = [rows[i] for i in stay], seeds[keep], chosen[keep]
                batch.keep(keep)
            logits = batch.step(chosen)

    @torch.inference_mode()
    def _extend(
        self, rows: list[_Row], logits: Float[Tensor, "row vocab"], seeds: Int[Tensor, " row"], sampling: Sampling
    ) -> Int[Tensor, " row"]:
        """Draws one token for each row, and says which rows that ended."""
        index = torch.tensor([len(row.tokens) for row in rows], device=logits.device)
        chosen = draw(logits, seeds, index, sampling)
        total = logits.logsumexp(dim=-1)
        logprobs = (logits.gather(-1, chosen[:, None]).squeeze(-1) - total).tolist()
        for row, token, logprob in zip(rows, chosen.tolist(), logprobs, strict=True):
            if logprob != logprob:
                row.status, row.reason = Status.ERROR, f"{self.name} gives logits that are not numbers"
                continue
            row.tokens.append(token)
            row.logprob += logprob
            if token in self._stops:
                row.status = Status.COMPLETE
            elif len(row.tokens) >= row.limit:
                row.status = Status.TRUNCATED
                row.reason = (
                    f"the context of {self._loaded.max_context} tokens is full"
                    if row.full
                    else f"the limit of {row.limit} tokens came before the end"
                )
        return chosen

    def _completion(self, row: _Row) -> Completion:
        assert row.status is not None
        shown = row.tokens[:-1] if row.status is Status.COMPLETE else row.tokens  # without the end token
        return Completion(
            id=row.request.id,
            token_ids=tuple(row.tokens),
            text=self._loaded.decode(shown),
            status=row.status,
            reason=row.reason,
            logprob=row.logprob if row.tokens or row.status is not Status.ERROR else None,
            seed=row.request.seed,
        )


class _Batch:
    """The model's state for the rows of a batch: cache, and where padding is.

    Contexts of unequal length are padded on the left under a mask, with position ids that start at each row's own
    first token. Equal contexts are read once, and the cache spread over their rows.
    """

    def __init__(self, loaded: LoadedModel, contexts: Sequence[tuple[int, ...]]) -> None:
        self._model: Any = loaded.model
        self._device = loaded.device
        self._accepts = set(inspect.signature(loaded.model.forward).parameters)
        self._cache_name = _cache_name(loaded)
        self._cache: Cache = DynamicCache(config=loaded.model.config)
        self._contexts = contexts
        width = max(map(len, contexts))
        padded = any(len(context) < width for context in contexts)
        if not padded and _slow_without_mask(loaded):
            width, padded = width + 1, True
        self._width = width
        self._mask: Tensor | None = torch.empty(0) if padded else None

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
        return self._forward(tokens[:, None], positions)

    @torch.inference_mode()
    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Leaves only these rows, in this order; a row may be named several times."""
        self._cache.reorder_cache(cast(torch.LongTensor, rows))
        if self._mask is not None:
            self._mask = self._mask[rows]

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


def can_pad(loaded: LoadedModel) -> bool:
    """Whether a padding mask hides tokens wholly: not from the states of state-space, linear or convolution layers."""
    config = loaded.model.config.get_text_config()
    layers = getattr(config, "layer_types", None) or ("full_attention",)
    if loaded.dtype == torch.float64 and config._attn_implementation == "eager":
        return False  # transformers takes this softmax in float32, where float64's lowest number makes NaN of padding
    return not getattr(loaded.model, "_is_stateful", False) and set(layers) <= _PADDABLE


def _cache_name(loaded: LoadedModel) -> str | None:
    """What the model's forward calls its cache; ``None`` where it takes none."""
    accepts = inspect.signature(loaded.model.forward).parameters
    return next((name for name in ("past_key_values", "cache_params") if name in accepts), None)


def _slow_without_mask(loaded: LoadedModel) -> bool:
    """Whether one column of padding pays: in half precision on a CPU, torch attends with shared key heads several times
    slower than transformers does by folding them, and that it does only under a mask."""
    return loaded.device.type == "cpu" and loaded.dtype.itemsize == 2 and can_pad(loaded)


def stop_tokens(loaded: LoadedModel) -> frozenset[int]:
    """End tokens of the generation settings and of the tokenizer."""
    settings = getattr(loaded.model, "generation_config", None)
    ends = getattr(settings, "eos_token_id", None)
    ends = [ends] if isinstance(ends, int) else list(ends or [])
    return frozenset(token for token in (*ends, loaded.tokenizer.eos_token_id) if token is not None)
