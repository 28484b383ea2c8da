"""Guessing what somebody meant to type."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(name: str, known: Iterable[str]) -> str | None:
    """The one of the known names that comes closest, whatever the case; None where none is close."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    found = difflib.get_close_matches(name.casefold(), list(by_folded), n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def meant(name: str, known: Iterable[str]) -> str:
    """``did you mean X? `` with the closest of the known names, or nothing where none is close."""
    found = closest(name, known)
    return f"did you mean {found}? " if found else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'X'?`` with the closest of the known names, or nothing where none is close."""
    found = closest(name, known)
    return f"; did you mean '{found}'?" if found else ""
