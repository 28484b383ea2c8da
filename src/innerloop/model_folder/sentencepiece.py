"""sentencepiece's model files, as far as a converter's time depends on them: their pieces.

A model is a message of Protocol Buffers whose field 1, once for each piece, is a message whose field 1 is its text.
Who makes merges of the pieces looks at every way to part each of them.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10  # bytes


def check_pieces(data: bytes, most: int, longest: int) -> None:
    """Raises ``ValueError`` for what is no such file, for more than ``most`` pieces, and for one that is too long."""
    if not data.startswith(b"\n"):  # field 1, of bytes; other files are called *.model, too
        return
    count = 0
    for number, begin, end in _fields(data, 0, len(data)):
        if number != 1:
            continue
        count += 1
        if count > most:
            raise ValueError(f"holds more than {most:,} pieces")
        size = max((b - a for inner, a, b in _fields(data, begin, end) if inner == 1), default=0)
        if size > longest:
            raise ValueError(f"holds a piece of {size:,} bytes")


def _fields(data: bytes, at: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Numbers of the fields of a message, with the places where their bytes begin and end."""
    while at < stop:
        key, at = _varint(data, at, stop)
        kind = key & 7
        begin = at
        if kind == _VARINT:
            _, at = _varint(data, at, stop)
        elif kind == _BYTES:
            size, begin = _varint(data, at, stop)
            at = begin + size
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"is no sentencepiece model (at byte {at:,})")
        if at > stop:
            raise ValueError(f"ends within a field (at byte {begin:,})")
        yield key >> 3, begin, at


def _varint(data: bytes, at: int, stop: int) -> tuple[int, int]:
    value = 0
    for place in range(_LONGEST_VARINT):
        if at >= stop:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at
    raise ValueError(f"is no sentencepiece model (at byte {at:,})")
