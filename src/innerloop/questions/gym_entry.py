"""A reasoning-gym entry as JSON text and back, so that its scorer can be called later, in another process.

Plain JSON turns tuples into lists and the keys of mappings into text; some scorers then call every answer wrong
(``arc_agi``, ``rearc``). Both are therefore marked: ``{"__tuple__": […]}`` and ``{"__pairs__": [[key, value], …]}``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from innerloop import plain_json


def to_json(family: str, parameters: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    """One JSON object: ``family``, its ``parameters`` as they were typed, the ``entry`` as reasoning-gym made it."""
    record = {"family": family, "parameters": dict(parameters), "entry": _mark(entry)}
    return json.dumps(record, ensure_ascii=False, default=_plain)


def from_json(text: str) -> dict[str, Any] | None:
    """What ``to_json`` was given, or None where the text is something else."""
    record = plain_json.mapping(text)
    if not isinstance(record.get("entry"), dict):
        return None
    try:
        return record | {"entry": _unmark(record["entry"])}
    except (TypeError, ValueError):  # marks around something else than what they mark
        return None


def _mark(value: Any) -> Any:
    if isinstance(value, tuple):
        return {"__tuple__": [_mark(item) for item in value]}
    if isinstance(value, list):
        return [_mark(item) for item in value]
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {key: _mark(item) for key, item in value.items()}
        return {"__pairs__": [[_mark(key), _mark(item)] for key, item in value.items()]}
    return value


def _unmark(value: Any) -> Any:
    if isinstance(value, list):
        return [_unmark(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"__tuple__"}:
            return tuple(_unmark(item) for item in value["__tuple__"])
        if value.keys() == {"__pairs__"}:
            return {_unmark(key): _unmark(item) for key, item in value["__pairs__"]}
        return {key: _unmark(item) for key, item in value.items()}
    return value


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)  # a numpy number; a date
