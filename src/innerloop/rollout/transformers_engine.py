"""Sampling with transformers: rows leave the batch when they are done, and waiting ones take their places.

What is guaranteed, and what is not. The randomness of a completion depends on its request's seed, the index of each
token and the token ids alone (``innerloop.rollout.draw``), so batch size, order, neighbours, when a row joins, an
interruption or a batch halved for lack of memory never change which noise meets which token. The logits do change in
their last bits: batched matrix products round differently for different shapes. Where the two best tokens of a draw
are closer than that, the draw can flip, and the completion differs from there on; greedy decoding likewise, where
logits tie. A batch of 12 against each row alone moves SmolLM2's distribution by 1.4e-6 per token in float32 (total
variation; a flip is at most twice as likely) and by 1.6e-2 in bfloat16, so float32 completions hold and bfloat16 ones
part after some hundred tokens. Another device or version of torch counts as another rounding. The same calls with the
same batches on the same machine repeat exactly. One exception is not ours: rotary embeddings whose scaling looks at the
longest row (dynamic, longrope) let a row beyond the original context change its neighbours.

Why a loop of our own and not ``model.generate``: there, finished rows stay in the batch and completions come only
when the longest one is done; a model's generation_config slips in (Qwen2.5's repetition penalty), and then the
log-probability would be of another distribution than the one sampled.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from innerloop.errors import InputError
from innerloop.memory import cache_bytes, context_bytes, free_memory
from innerloop.models import LoadedModel
from innerloop.rollout.batch import Batch, cache_name, can_join, can_pad
from innerloop.rollout.draw import draw
from innerloop.rollout.engine import NOT_NUMBERS, Completion, Request, Sampling
from innerloop.schema import Status

log = logging.getLogger("innerloop.rollout")

_CPU_ROWS, _GPU_ROWS = 16, 128  # more rows gain little there and keep more unfinished work in the air
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
    out all the same, the batch is halved and goes on where it was. ``refill``: waiting rows join the batch when others
    have left; without it, and for models whose state cannot be padded, a batch shrinks to its end before the next one.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        batch_size: int | None = None,
        memory: int | None = None,
        refill: bool = True,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise InputError(f"batch_size is {batch_size}: it must be at least 1 (completions at once)")
        if memory is not None and memory < 1:
            raise InputError(f"memory is {memory}: it must be a number of bytes above 0")
        if cache_name(loaded) is None:
            raise InputError(
                f"{loaded.name}: {type(loaded.model).__name__} keeps its state in no transformers cache, so it "
                "cannot be sampled from; use another model, or give trajectories with --trajectories"
            )
        self._loaded = loaded
        self._rows = batch_size or (_CPU_ROWS if loaded.device.type == "cpu" else _GPU_ROWS)
        self._memory = memory
        self._refill = refill and can_join(loaded)
        if refill and not self._refill:
            log.info(
                "%s: rows cannot join a batch under way, so each batch ends before the next one begins", loaded.name
            )
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
        groups = deque(map(deque, self._groups([row for row in rows if not row.status])))
        while groups:
            batch: list[_Row] = []
            failure = None
            try:
                yield from map(self._completion, self._run(groups[0], batch, sampling))
            except _FAILURES as error:
                failure = error.with_traceback(None)  # the traceback holds the batch's cache
            if not groups[0]:
                groups.popleft()
            if failure is not None:
                left = [row for row in batch if not row.status]
                yield from map(self._completion, self._after_failure(failure, left, groups))

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

    def _take(self, waiting: deque[_Row], batch: list[_Row], budget: int) -> list[_Row]:
        """Moves rows from the front of ``waiting`` into the batch, as many as the batch size and memory allow."""
        if not waiting:
            return []
        size = self._loaded.dtype.itemsize
        config = self._loaded.model.config.get_text_config()
        longest = max(row.limit + len(row.request.prompt) for row in chain(batch, waiting))
        read = max(len(row.context) for row in waiting)
        need = longest * cache_bytes(config, size) + read * context_bytes(config, size) + 16 * config.vocab_size
        fitting = min(self._rows, budget // need)
        free = max(fitting, 0 if batch else 1) - len(batch)
        taken = [waiting.popleft() for _ in range(min(free, len(waiting)))]
        batch += taken
        return taken

    def _after_failure(self, failure: Exception, left: list[_Row], groups: deque[deque[_Row]]) -> list[_Row]:
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
        groups.extendleft(deque(part) for part in (left[half:], left[:half]) if part)
        return []

    def _run(self, waiting: deque[_Row], rows: list[_Row], sampling: Sampling) -> Iterator[_Row]:
        """Decodes a batch of rows from the front of ``waiting`` to its end; gives each row when it is done.

        ``rows`` holds those of the batch at any time, for whoever has to clear up after a failure.
        """
        budget = self._memory if self._memory is not None else free_memory(self._loaded.device) // 2
        batch, logits, seeds = self._read(self._take(waiting, rows, budget))
        while True:
            chosen = self._extend(rows, logits, seeds, sampling)
            yield from (row for row in rows if row.status)
            stay = [i for i, row in enumerate(rows) if not row.status]
            if not stay:
                return
            if len(stay) < len(rows):
                keep = torch.tensor(stay, device=self._loaded.device)
                seeds, chosen = seeds[keep], chosen[keep]
                rows[:] = [rows[i] for i in stay]
                batch.keep(keep)
            logits = batch.step(chosen)
            if self._refill and (fresh := self._take(waiting, rows, budget)):
                joining, more, new = self._read(fresh)
                batch.join(joining)
                logits, seeds = torch.cat([logits, more]), torch.cat([seeds, new])

    def _read(self, rows: list[_Row]) -> tuple[Batch, Float[Tensor, "row vocab"], Int[Tensor, " row"]]:
        """A batch of these rows, the logits behind their contexts, and their seeds."""
        batch = Batch(self._loaded, [row.context for row in rows])
        seeds = torch.tensor([row.request.seed for row in rows], device=self._loaded.device)
        return batch, batch.read(), seeds

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
            if not math.isfinite(logprob):
                row.status, row.reason = Status.ERROR, f"{self.name} {NOT_NUMBERS}"
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


def stop_tokens(loaded: LoadedModel) -> frozenset[int]:
    """End tokens of the generation settings and of the tokenizer."""
    settings = getattr(loaded.model, "generation_config", None)
    ends = getattr(settings, "eos_token_id", None)
    ends = [ends] if isinstance(ends, int) else list(ends or [])
    return frozenset(token for token in (*ends, loaded.tokenizer.eos_token_id) if token is not None)
