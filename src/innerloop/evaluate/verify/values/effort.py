"""How much work a comparison may be: what is decided at once, what goes to a worker process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from innerloop.evaluate.verify.values import exact, names
from innerloop.evaluate.verify.values.kinds import Unread, Value
from innerloop.evaluate.verify.values.tokens import COMMAND, Token
from innerloop.evaluate.verify.values.tree import SERIES, Constant, Node, Number, Operation, Symbol, walk

_PLAIN = frozenset(("+", "*", "/", "neg"))
_LIGHT = 40  # nodes
_LIGHT_DIGITS = 400
_SMALL = 150
_SMALL_DIGITS = 10_000
_SERIES_DIGITS = 4_000  # of a sum of many terms


def nodes(value: Any) -> Iterator[Node]:
    """All formulas in a value."""
    stack = [value]
    while stack:
        top = stack.pop()
        if isinstance(top, Number | Constant | Symbol | Operation):
            yield top
        elif isinstance(top, tuple):
            stack.extend(top)
        elif is_dataclass(top) and not isinstance(top, Token):
            stack.extend(getattr(top, field.name) for field in fields(top))


def is_light(value: Value) -> bool:
    """Whether all formulas in a value are a few fractions, or mere names."""
    parts = [part for node in nodes(value) if not isinstance(node, Symbol) for part in walk(node)]
    if len(parts) > _LIGHT or not all(map(_is_plain, parts)):
        return False
    return len(parts) <= 2 or sum(map(exact.weight, parts)) <= _LIGHT_DIGITS


def is_small(value: Value) -> bool:
    """Whether a comparison takes milliseconds, letters and roots included."""
    parts = [part for node in nodes(value) for part in walk(node)]
    series = sum(isinstance(part, Operation) and part.name in SERIES for part in parts)
    return len(parts) <= _SMALL and sum(map(exact.weight, parts)) + series * _SERIES_DIGITS <= _SMALL_DIGITS


def _is_plain(node: Node) -> bool:
    return (
        isinstance(node, Number)
        or (isinstance(node, Operation) and node.name in _PLAIN)
        or (isinstance(node, Constant) and node.name == "∞")
    )


def needs_last_resort(value: Value) -> bool:
    """Whether a value holds integrals or limits, which our reader does not know."""
    return isinstance(value, Unread) and any(_is_heavy(token) for token in value.tokens)


def _is_heavy(token: Token) -> bool:
    return token.kind == COMMAND and (token.text in names.HEAVY or token.text in SERIES)
