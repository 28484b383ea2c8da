"""Which of several processes this is, where a launcher (``accelerate launch``, ``torchrun``) started several.

Known from the environment that launchers set, so that it costs nothing to ask and works before torch is imported.
"""

from __future__ import annotations

import os


def rank() -> int:
    """Which process this is, from 0."""
    return _number("RANK", 0)


def world() -> int:
    """How many processes there are."""
    return max(1, _number("WORLD_SIZE", 1))


def is_main() -> bool:
    """Whether this is the one that writes and speaks."""
    return rank() == 0


def _number(name: str, otherwise: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else otherwise
