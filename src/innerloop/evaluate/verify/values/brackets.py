"""Tokens within and between brackets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from innerloop.evaluate.verify.values.tokens import COMMAND, MARK, Token

OPENING = frozenset("([⟨")
CLOSING = frozenset(")]⟩")
_DEPTH = {
    **dict.fromkeys(("(", "[", "{", "{{", "⟨", "⌊", "⌈"), 1),
    **dict.fromkeys((")", "]", "}", "}}", "⟩", "⌋", "⌉"), -1),
}
_AROUND = frozenset((".", ",", ";", ":", "\\\\", "`", "?", "#", '"', "“", "”"))
_EMPHASIS = frozenset(("^", "*", "_"))  # asterisks and underscores around an answer


def depth(token: Token) -> int:
    """1 where a token opens something, -1 where it closes it."""
    if token.kind == COMMAND:
        return 1 if token.text.startswith("begin:") else -1 if token.text.startswith("end:") else 0
    return _DEPTH.get(token.text, 0) if token.kind == MARK else 0


def is_balanced(tokens: Sequence[Token]) -> bool:
    """Whether all that opens closes; ``(0, 1]`` does."""
    level = 0
    for token in tokens:
        level += depth(token)
        if level < 0:
            return False
    return level == 0


def split(
    tokens: Sequence[Token], separates: Callable[[Token, int], bool]
) -> Iterator[tuple[Token | None, Sequence[Token]]]:
    """The parts between separators outside of brackets, each with the separator before it (None for the first)."""
    level, start, before = 0, 0, None
    for place, token in enumerate(tokens):
        level += depth(token)
        if level == 0 and separates(token, place):
            yield before, tokens[start:place]
            before, start = token, place + 1
    yield before, tokens[start:]


def stripped(tokens: Sequence[Token]) -> Sequence[Token]:
    """Without punctuation and emphasis around, and a colon in front."""
    start, end = 0, len(tokens)
    while start < end and tokens[start].kind == MARK and tokens[start].text in _AROUND | _EMPHASIS:
        start += 1
    while end > start and tokens[end - 1].kind == MARK and tokens[end - 1].text in _AROUND | _EMPHASIS:
        end -= 1
    if end - start > 2 and tokens[start].marks("'") and tokens[end - 1].marks("'"):
        return tokens[start + 1 : end - 1]
    return tokens[start:end]


def enclosed(tokens: Sequence[Token], opening: str, closing: str) -> Sequence[Token] | None:
    """What stands between a bracket and its own end, where these are the first and the last token."""
    if len(tokens) < 2 or not (tokens[0].marks(opening) and tokens[-1].marks(closing)):
        return None
    level = 0
    for place, token in enumerate(tokens):
        level += depth(token)
        if level == 0:
            return tokens[1:-1] if place == len(tokens) - 1 else None
    return None
