"""How much a server may say, and how long it may take: what one request's own settings leave room for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

LISTING_BYTES = 8 << 20  # the list of models; a provider's with 400 of them has 1 MiB
LISTING_SECONDS = 30.0
ERROR_BYTES = 1 << 16  # what is read of an error's body
AFTER_DONE_BYTES = 1 << 16  # what is read after the end of a stream, so that its connection is used again
AFTER_DONE_SECONDS = 5.0

# No tokenizer's tokens are this long on average: the longest ones, runs of spaces, have about 128 characters.
_CHARACTERS_A_TOKEN = 256
_EVENTS_A_TOKEN = 16  # a proxy may pass a token on in pieces, by the letter even
_BYTES_A_TOKEN = 4096  # on the wire, with everything that servers write around a token
_ECHO = 32  # bytes per token of the prompt, which some servers repeat
_BASE = 1 << 14  # characters: room for short answers, and for servers that pass a limit of one token by a little
_BASE_EVENTS = 1024
_BASE_BYTES = 1 << 20
_SLOWEST = 0.5  # seconds per token on average, or a hundredth of the timeout where that is more


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of one answer: ``text`` characters in ``pieces`` events at most, ``event`` bytes in one of them, ``wire`` bytes
    in all, ``seconds`` from the request to the end, and ``tokens`` token ids.
    """

    tokens: int
    text: int
    pieces: int
    event: int
    wire: int
    seconds: float

    @classmethod
    def of(cls, *, tokens: int, prompt: int, timeout: float) -> Self:
        """For ``tokens`` sampled tokens after ``prompt`` ones, and ``timeout`` seconds without a token at most."""
        text = _BASE + _CHARACTERS_A_TOKEN * tokens
        event = 2 * text + _ECHO * prompt + (1 << 16)
        return cls(
            tokens=tokens + _BASE_EVENTS,
            text=text,
            pieces=_BASE_EVENTS + _EVENTS_A_TOKEN * tokens,
            event=event,
            wire=event + _BYTES_A_TOKEN * tokens + _BASE_BYTES,
            seconds=timeout + tokens * max(_SLOWEST, timeout / 100),
        )
