"""JSON that somebody else wrote, read within bounds.

Every key of an object counts once: where one is there twice, readers differ on which of the two counts, and nobody can
tell which was meant. Brackets may be ``DEEPEST`` deep, so that nothing that walks through the value runs out of stack,
and values may be so many that they fit into memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

DEEPEST = 100
_MOST_VALUES = 1 << 24  # of one text; an empty list takes 3 characters of it and 64 bytes of memory
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # an escape that may stand for half a character
# A text; the expression never gives back what it has passed, so that time is linear.
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)


def loads(text: str, *, halves: bool = False) -> Any:
    """The value of a JSON text; NaN and infinities count as numbers, and raw tabs and NUL inside texts as they are.

    ``halves``: whoever calls looks for lone surrogates; otherwise they are an error. Raises ``ValueError`` alone, a
    ``json.JSONDecodeError`` with its place where the text is no JSON.
    """
    if _values(text) > _MOST_VALUES:
        raise ValueError(f"more than {_MOST_VALUES:,} values")
    try:
        value = json.loads(text, strict=False, object_pairs_hook=_each_once)
    except RecursionError:
        raise ValueError(f"nested deeper than {DEEPEST} levels") from None
    if text.count("[") + text.count("{") > DEEPEST:
        _check_depth(value)
    if not halves and _HALF.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("half a character (a lone \\ud800…)") from None
    return value


def mapping(text: str | None) -> dict[str, Any]:
    """The object that a text is as JSON; an empty one for every other text, and for None."""
    try:
        value = loads(text) if text else None
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _values(text: str) -> int:
    """At least the number of values; counted apart from texts only where these may hide that it is small."""
    rough = text.count(",") + text.count("[") + text.count("{")
    return _values(_STRING.sub("", text)) if rough > _MOST_VALUES and '"' in text else rough


def _each_once(pairs: Collection[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:80]!r} is there twice")
    return found


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            child
            for entry in level
            for child in (entry.values() if isinstance(entry, dict) else entry)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise ValueError(f"nested deeper than {DEEPEST} levels")
