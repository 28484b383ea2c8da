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
    shown = _first(said, ("content", "text"))
    thought = _first(said, ("reasoning_content", "reasoning"))
    refusal = said.get("refusal")
    parts = Content(
        shown if isinstance(shown, str) else "",
        thought if isinstance(thought, str) else "",
        refusal if isinstance(refusal, str) else "",
    )
    if isinstance(thought, list):
        parts = parts._replace(thought="".join(_plain(part) for part in thought))
    if not isinstance(shown, list):
        return parts
    listed = [_part(part) for part in shown]
    return Content(*("".join(texts) for texts in zip(parts, *listed, strict=True)))


def _first(said: dict[str, Any], names: tuple[str, ...]) -> str | list[Any]:
    """The first of these fields that is not empty."""
    for name in names:
        value = said.get(name)
        if isinstance(value, str | list):
            if value:
                return value
        elif value is not None:
            raise ValueError(f"{name} is no text")
    return ""


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
    """A text, or a part that holds nothing else."""
    text = part.get("text") if isinstance(part, dict) else part
    if not isinstance(text, str):
        raise ValueError("content holds a part that is no text")
    return text
