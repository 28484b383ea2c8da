"""Answers as typed values: read from LaTeX and plain signs, compared by kind."""

from __future__ import annotations

from innerloop.evaluate.verify.values.compare import equal
from innerloop.evaluate.verify.values.effort import is_light, is_small, needs_last_resort
from innerloop.evaluate.verify.values.keys import REFERENCE, key
from innerloop.evaluate.verify.values.kinds import Collection, Option, Quantity, Relation, Several, Text, Unread, Value
from innerloop.evaluate.verify.values.reader import read
from innerloop.evaluate.verify.values.tree import TooLarge

__all__ = [
    "REFERENCE",
    "Collection",
    "Option",
    "Quantity",
    "Relation",
    "Several",
    "Text",
    "TooLarge",
    "Unread",
    "Value",
    "equal",
    "is_light",
    "is_small",
    "key",
    "needs_last_resort",
    "read",
]
