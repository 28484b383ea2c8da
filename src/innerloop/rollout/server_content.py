"""The text of one event or answer, in the forms in which servers give it: a text, or a list of parts."""

from __future__ import annotations

from typing import Any, NamedTuple


class Content(NamedTuple):
    """What was shown, what was thought, and a refusal; each may be empty."""

    shown: str = ""
    thought: str = ""
    refusal: str = ""


_SHOWN = ("text", "output_text")  # kinds of parts
_THOUGHT = ("thinking", "reasoning", "reasoning_text")
_ASIDE = ("reference", "citation", "tool_use", "tool_call", "redacted_thinking")  # say nothing that is shown


def read_content(said: dict[str, Any]) -> Content:
    """The content of a delta, a message or a choice. `ValueError` names what is no text."""
    shown = said.get("content") or said.get("text") or ""
    thought = said.get("reasoning_content") or said.get("reasoning") or ""
    refusal = said.get("refusal")
    if not isinstance(refusal, str):
        refusal = ""
    if isinstance(shown, str) and isinstance(thought, str):
        return Content(shown, thought, refusal)
    thoughts = map(_plain, thought) if isinstance(thought, list) else [_plain(thought)]
    parts = map(_part, shown) if isinstance(shown, list) else [Content(shown=_plain(shown))]
    return Content(*map("".join, zip(("", "".join(thoughts), refusal), *parts, strict=True)))


def _part(part: Any) -> Content:
    """One part of a list; what thinks may itself be a list of parts (Mistral)."""
    if isinstance(part, str):
        return Content(shown=part)
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in _SHOWN:
        return Content(shown=_plain(part))
    if kind in _THOUGHT:
        inside = next((part[name] for name in (kind, "thinking", "reasoning", "text") if name in part), "")
        return Content(thought="".join(map(_plain, inside)) if isinstance(inside, list) else _plain(inside))
    if kind == "refusal":
        return Content(refusal=_plain(part.get("refusal", "")))
    if kind in _ASIDE:
        return Content()
    raise ValueError("content holds a part that is no text")


def _plain(part: Any) -> str:
    """A text, or a part that holds one."""
    text = part.get("text") if isinstance(part, dict) and "type" in part else part
    if not isinstance(text, str):
        raise ValueError("content holds a part that is no text")
    return text
