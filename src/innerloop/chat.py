"""Thinking delimiters and switches: how a model's chat template marks the part that is not the visible answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# Every pair that is known, for models (`find_delimiters`) and for judging (`without_thinking`).
DELIMITERS: tuple[tuple[str, str], ...] = (
    ("<think>", "</think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("[THINK]", "[/THINK]"),
    ("<reasoning>", "</reasoning>"),
    ("<thought>", "</thought>"),
    ("<thinking>", "</thinking>"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("◁think▷", "◁/think▷"),
    ("<|channel|>analysis<|message|>", "<|end|>"),
)
NO_THINKING_TEXT = "\nTherefore, after all this, I believe the answer is"  # the paper's, behind the opening delimiter

_END_OF_TURN = "<|end|>"  # ends every turn of some models, so it ends thinking only after its opening delimiter

# What opens the visible answer behind the closing delimiter, in formats that have such a thing (gpt-oss).
_FINAL_OPENING = re.compile(r"(?<!\s)\s*+(?:<\|start\|>assistant)?<\|channel\|>final<\|message\|>")
_TURN_CLOSING = re.compile(r"<\|(?:end|return)\|>\s*+\Z")
# A variable that the caller may set: `enable_thinking` anywhere, `thinking` only where its absence is looked after.
_SWITCH = re.compile(r"\b(enable_thinking)\b|(?<![.\w])(thinking) is (?:not )?defined")


def find_delimiters(template: str | None, tokens: Iterable[str]) -> tuple[str, str] | None:
    """The first known pair that the chat template mentions, else the first that the vocabulary has as tokens.

    Templates often mention the closing delimiter alone, to cut the thinking out of earlier turns.
    """
    for start, end in DELIMITERS:
        marks = (start,) if end == _END_OF_TURN else (start, end)
        if template is not None and any(mark in template for mark in marks):
            return start, end
    known = set(tokens)
    for start, end in DELIMITERS:
        if start in known and end in known:
            return start, end
    return None


def find_switch(template: str | None) -> str | None:
    """The name of the template variable that turns thinking on and off, or ``None``."""
    match = _SWITCH.search(template or "")
    return match and (match.group(1) or match.group(2))


def split_thinking(text: str, start: str, end: str, *, opened: bool = False) -> tuple[str | None, str]:
    """What was thought and what was shown, both stripped; ``None`` where the text holds no thinking part.

    Everything up to the last closing delimiter is thinking. Thinking that never ends leaves an empty final text, so
    that a truncated chain of thought is never judged as an answer. ``opened`` says that the prompt already ended
    with the opening delimiter, so that the text begins inside the thinking part.
    """
    before, closing, after = text.rpartition(end)
    reopened = start in after
    if closing and not reopened:
        return before.replace(start, "", 1).strip(), _FINAL_OPENING.sub("", after, count=1).strip()
    if opened or reopened or start in text:
        return text.replace(start, "", 1).strip(), ""
    return None, text


def without_thinking(text: str, delimiters: Sequence[tuple[str, str]] = DELIMITERS) -> str:
    """What follows the last end of thinking, and nothing from an opening delimiter on that is never closed.

    Unlike ``split_thinking`` it takes any number of pairs, so that it works where nobody knows the model.
    """
    for start, end in delimiters:
        if not (start and end):  # a model without thinking
            continue
        if end == _END_OF_TURN:
            text = _without_channels(text, start)
            continue
        text = text[text.rfind(end) + len(end) :] if end in text else text
        text = text.partition(start)[0]
    return text


def _without_channels(text: str, start: str) -> str:
    """As `without_thinking`, where the closing delimiter closes the visible answer too."""
    final = max((opening.span() for opening in _FINAL_OPENING.finditer(text)), default=None)
    if final is not None and text.rfind(start) < final[0]:
        return _TURN_CLOSING.sub("", text[final[1] :])
    before, opening, rest = text.rpartition(start)
    if not opening:
        return text
    _, closing, after = rest.partition(_END_OF_TURN)
    return after if closing else before.partition(start)[0]
