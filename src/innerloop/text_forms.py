"""Unicode's normal forms, in time that grows with the text only."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Literal

_MOST = 30  # marks on one character, the limit of Unicode's stream-safe format (UAX #15, section 13)
_JOINER = "\u034f"  # COMBINING GRAPHEME JOINER, which that format puts after so many


def nfkc(text: str) -> str:
    """NFKC, of the text in stream-safe format: ``ﬁ`` and full-width letters are plain ones too."""
    return _normal(text, "NFKC")


def nfc(text: str) -> str:
    """NFC, of the text in stream-safe format: a letter and its marks are the composed letter."""
    return _normal(text, "NFC")


def _normal(text: str, form: Literal["NFC", "NFKC"]) -> str:
    """The normal form puts a character's marks in order, and Python's way to do so takes the square of their number."""
    if text.isascii():
        return text
    pieces: list[str] = []
    start = run = 0
    for place, character in enumerate(text):
        first, last = _marks(character) if character > "\u02ff" else (0, 0)
        if run + first > _MOST:
            pieces.append(text[start:place])
            start, run = place, 0
        run = run + last if first == last and first else last
    return unicodedata.normalize(form, _JOINER.join([*pieces, text[start:]]))


@lru_cache(maxsize=1 << 16)
def _marks(character: str) -> tuple[int, int]:
    """How many marks a character begins and ends with once it is taken apart; both counts are all of a mere mark."""
    classes = [unicodedata.combining(part) for part in unicodedata.normalize("NFKD", character)]
    if all(classes):
        return len(classes), len(classes)
    first = next(count for count, own in enumerate(classes) if not own)
    last = next(count for count, own in enumerate(reversed(classes)) if not own)
    return first, last
