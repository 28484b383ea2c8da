"""Thrift's compact protocol, read within bounds: what a Parquet file says about itself.

Only as much as it takes to look at a file before a library allocates what it says. Every step reads at least one byte,
structures may be ``_DEEPEST`` deep, and values so many as whoever calls allows.
"""

from __future__ import annotations

from typing import Any

_DEEPEST = 16  # Parquet's own are 8
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT, _UUID = range(1, 14)
_LONGEST_VARINT = 10  # bytes

Struct = dict[int, Any]  # values by the numbers of their fields


class ThriftError(ValueError):
    """Bytes that are no thrift, or more of it than was allowed."""


class Reader:
    """Reads structures from bytes, one after the other; ``at`` is the place of the next byte."""

    def __init__(self, data: bytes, at: int = 0, *, most: int = 1 << 16) -> None:
        self.data = data
        self.at = at
        self._left = most

    def struct(self, depth: int = 0) -> Struct:
        """The next structure."""
        found: Struct = {}
        number = 0
        while (head := self._byte()) & 0x0F:
            step, kind = head >> 4, head & 0x0F
            number = number + step if step else _zigzag(self._varint())
            found[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ThriftError("too many values")
        if depth > _DEEPEST:
            raise ThriftError("structures within structures without end")
        if kind in (_TRUE, _FALSE, _BYTE):  # inside lists, truth takes a byte
            return self._byte()
        if kind in (_I16, _I32, _I64):
            return _zigzag(self._varint())
        if kind == _DOUBLE:
            return self._bytes(8)
        if kind == _UUID:
            return self._bytes(16)
        if kind == _BINARY:
            return self._bytes(self._varint())
        if kind in (_LIST, _SET):
            head = self._byte()
            count = self._varint() if head >> 4 == 15 else head >> 4
            return [self._value(head & 0x0F, depth + 1) for _ in range(count)]
        if kind == _MAP:
            count = self._varint()
            kinds = self._byte() if count else 0
            return [(self._value(kinds >> 4, depth + 1), self._value(kinds & 0x0F, depth + 1)) for _ in range(count)]
        if kind == _STRUCT:
            return self.struct(depth + 1)
        raise ThriftError(f"no kind of value has the number {kind}")

    def _byte(self) -> int:
        return self._bytes(1)[0]

    def _bytes(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.data):
            raise ThriftError("cut off")
        found = self.data[self.at : end]
        self.at = end
        return found

    def _varint(self) -> int:
        value = 0
        for place in range(_LONGEST_VARINT):
            byte = self._byte()
            value |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                return value
        raise ThriftError("a number without an end")


def _zigzag(value: int) -> int:
    return (value >> 1) ^ -(value & 1)
