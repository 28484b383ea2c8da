"""Where along a trajectory the answer loss is measured, and which text lies between two positions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal

from innerloop.errors import InputError

Every = int | Literal["all", "sentence"] | Sequence[int]
"""``"all"`` (every token), ``k`` (every k-th), ``"sentence"`` (after each sentence), or the positions themselves."""

# A sentence ends at a line break, or at . ! ? (or their CJK forms) with closing marks, before white space or the end.
_SENTENCE_END = re.compile(r"[.!?][\"'”’)\]}$*]*(?=\s|$)|[。！？]|\n+")
_REPLACEMENT = "\ufffd"
# A code point has at most four bytes, so a run of tokens that stays undecodable for longer holds invalid bytes.
_LONGEST_CHARACTER = 4


def positions(every: Every, tokens: Sequence[int], decode: Callable[[Sequence[int]], str]) -> tuple[int, ...]:
    """Rising positions in 0…n for a trajectory of n tokens.

    Position i means that t₁…tᵢ are in the context. 0 and n are always among them, except where the positions are
    given one by one: those are taken as they are.
    """
    n = len(tokens)
    if every == "all":
        return tuple(range(n + 1))
    if every == "sentence":
        return tuple(sorted({0, n, *_sentence_ends(token_texts(tokens, decode))}))
    if isinstance(every, int):
        if every < 1:
            raise InputError(f"every={every}: must be 1 or more; use 1 to measure at each token")
        return tuple(sorted({*range(0, n + 1, every), n}))
    if isinstance(every, (str, bytes)):
        raise InputError(f"every={every!r}: must be a whole number, 'all' or 'sentence'")
    chosen = tuple(every)
    if not chosen:
        raise InputError("no positions given: name at least one in 0…n")
    if outside := [i for i in chosen if not 0 <= i <= n]:
        raise InputError(f"position {outside[0]} lies outside 0…{n}, the positions of this {n}-token trajectory")
    if list(chosen) != sorted(set(chosen)):
        raise InputError(f"positions must rise and differ, got {list(chosen)[:8]}")
    return chosen


def token_texts(tokens: Sequence[int], decode: Callable[[Sequence[int]], str]) -> list[str]:
    """The text that each token adds, so that the pieces joined give the decoded whole.

    A token that ends inside a character adds nothing; the token that completes the character adds all of it.
    Each piece is decoded behind the pieces before it, since tokenizers treat the start of a text differently.
    """
    pieces: list[str] = []
    anchor = 0  # decode from here: a few whole tokens back, which keeps the cost linear
    done = 0  # tokens before this one have their text
    for end in range(1, len(tokens) + 1):
        pieces.append("")
        after = decode(tokens[anchor:end])
        if after.endswith(_REPLACEMENT) and end < len(tokens):
            if end - done < _LONGEST_CHARACTER:
                continue  # the character may still be completed
            end = done + 1  # the oldest of these tokens can no longer be part of one: it holds invalid bytes
            after = decode(tokens[anchor:end])
        pieces[end - 1] = after[len(decode(tokens[anchor:done])) :]
        anchor, done = done, end
    return pieces


def spans(pieces: Sequence[str], chosen: Sequence[int]) -> list[str | None]:
    """The text between neighbouring positions; None for position 0, where nothing has been read."""
    out: list[str | None] = []
    last = 0
    for position in chosen:
        out.append("".join(pieces[last:position]) if position else None)
        last = position
    return out


def _sentence_ends(pieces: Sequence[str]) -> list[int]:
    """Token positions behind which a sentence has ended."""
    text = "".join(pieces)
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    found = []
    seen = 0
    next_end = 0
    for position, piece in enumerate(pieces, start=1):
        seen += len(piece)
        while next_end < len(ends) and ends[next_end] <= seen:
            found.append(position)
            next_end += 1
    return found
