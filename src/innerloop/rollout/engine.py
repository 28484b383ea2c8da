"""What every engine takes and gives: token ids in, completions out.

An engine is anything with a ``name`` and a ``generate``; the rest of the package knows no more of it. Requests carry
token ids, so an engine needs no chat template, and each carries its own seed, so an engine needs no state.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from innerloop.errors import InputError
from innerloop.schema import Status

NOT_NUMBERS = "gives logits that are not numbers"  # ends the reason of a completion that failed so
MAX_SEED = 2**63 - 1  # fits the int64 column and every generator's seed


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How completions are drawn, the same for every request of a call.

    ``samples`` completions per question and mode. ``temperature`` divides the logits, 0 takes the likeliest token.
    Then only the ``top_k`` likeliest tokens stay (0: all), and of these, renormalised, the smallest set with at least
    ``top_p`` of the probability (1: all). ``max_tokens`` counts generated tokens, the end token included. ``seed`` is
    the run's; the rows' own seeds come from it (``innerloop.rollout.sample.row_seed``).
    """

    samples: int = 1
    temperature: float = 0.7
    top_p: float = 1.0
    top_k: int = 50
    max_tokens: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise InputError(f"samples is {self.samples}: it must be at least 1 (completions per question)")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise InputError(f"temperature is {self.temperature}: it must be 0 (greedy) or a positive number, e.g. 0.7")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}: it must lie above 0 and at most at 1 (1 keeps every token)")
        if self.top_k < 0:
            raise InputError(f"top_k is {self.top_k}: it must be 0 (every token) or the number of tokens to keep")
        if self.max_tokens < 1:
            raise InputError(f"max_tokens is {self.max_tokens}: it must be at least 1")
        if not 0 <= self.seed <= MAX_SEED:
            raise InputError(f"seed is {self.seed}: it must lie between 0 and 2^63 - 1")
        if self.samples > 1 and self.temperature == 0:
            raise InputError(
                f"samples is {self.samples} with temperature 0: greedy samples are all the same; "
                "set samples to 1 or the temperature above 0"
            )


@dataclass(frozen=True, kw_only=True)
class Request:
    """One completion to make: ``prompt`` token ids, continued with the randomness of ``seed`` alone."""

    id: str
    prompt: tuple[int, ...]
    seed: int

    def __post_init__(self) -> None:
        if not self.id:
            raise InputError("a request has an empty id: give every request an id of its own")
        if not self.prompt:
            raise InputError(f"request {self.id!r} has an empty prompt: a model needs at least one token to continue")
        if not 0 <= self.seed <= MAX_SEED:
            raise InputError(f"request {self.id!r} has seed {self.seed}: it must lie between 0 and 2^63 - 1")


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What an engine made of one request.

    ``token_ids`` are all tokens that the model produced, an end token included, none where the engine does not tell
    them; ``tokens`` is then how many there were, as far as the engine says. ``text`` is their decoded text without
    the end token. ``logprob`` is the sum of their log-probabilities in nats under the model at temperature 1, nothing
    cut off (``None`` where the engine cannot tell). ``reason`` says why a completion is truncated or an error, and what
    is odd about a complete one (a refusal, an empty answer); an error keeps whatever tokens it had got to.
    """

    id: str
    token_ids: tuple[int, ...]
    text: str
    status: Status
    reason: str | None = None
    logprob: float | None = None
    seed: int | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        if self.status is Status.ERROR and not self.reason:
            raise InputError(f"completion {self.id!r} is an error without a reason: engines must say what went wrong")
        if self.logprob is not None and not self.logprob <= 1e-3:  # also catches NaN; rounding may pass 0 by a hair
            raise InputError(f"completion {self.id!r} has log-probability {self.logprob}: it must be 0 or less")


def fold_seed(seed: int) -> int:
    """A request's seed in 31 bits: every other engine takes these, and to none of them do they mean "at random"."""
    return (seed ^ (seed >> 32)) & 0x7FFFFFFF


class Engine(Protocol):
    """Anything that continues prompts. One that keeps processes running has a ``close()`` that ends them, too."""

    @property
    def name(self) -> str:
        """What the trajectories' ``model`` field says."""
        ...

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        """One completion per request, each as soon as it is done, in any order.

        A request that fails gives a completion with status ``error``; it neither raises nor disturbs the others.
        Only an engine that is gone as a whole raises (``ConnectionError``).
        A completion depends on its request and ``sampling`` alone, not on its neighbours; each engine's docstring
        says how far this holds in the last bits.
        """
        ...


@contextmanager
def closed_after(engine: Engine) -> Iterator[None]:
    """Closes an engine that can be closed at the end of the block."""
    try:
        yield
    finally:
        close = getattr(engine, "close", None)
        if close is not None:
            close()
