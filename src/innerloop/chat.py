"""Thinking delimiters and switches: how a model's chat template marks the part that is not the visible answer."""

from __future__ import annotations

import re
from collections.abc import Iterable

DELIMITERS = (
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

# What opens the visible answer behind the closing delimiter, in formats that have such a thing (gpt-oss).
_FINAL_OPENING = re.compile(r"(?<!\s)\s*+(?:<\|start\|>assistant)?<\|channel\|>final<\|message\|>")
# A variable that the caller may set: `enable_thinking` anywhere, `thinking` only where its absence is looked after.
_SWITCH = re.compile(r"\b(enable_thinking)\b|(?<![.\w])(thinking) is (?:not )?defined")


def find_delimiters(template: str | None, tokens: Iterable[str]) -> tuple[str, str] | None:
    """The first known pair that the chat template mentions, else the first that the vocabulary has as tokens.

    Templates often mention the closing delimiter alone, to cut the thinking out of earlier turns.
    """
    for start, end in DELIMITERS:
        marks = (start,) if end == "<|end|>" else (start, end)  # that one closes every turn of some other models
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
