"""The header of a GGUF file, read before any library reads the file.

GGUF: magic, version, number of tensors and of metadata fields; the fields (name, type, value); the tensors (name,
dimensions, type, offset); padding; the weights. All numbers are little-endian, texts and arrays begin with their length
in 64 bits. The libraries that read such files believe those lengths: an array said to hold 2⁴⁰ numbers in a file of 200
bytes keeps them busy for ever. Here each length is held against what is left of the file first, so that reading takes
time and memory in proportion to the file, and at most a few seconds. What the values mean is looked at by
`innerloop.gguf_values`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from innerloop.errors import InputError

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_UINT32, _STRING, _ARRAY = 4, 8, 9
_VERSIONS = (2, 3)
_MOST_FIELDS, _MOST_TENSORS, _MOST_ELEMENTS = 1 << 14, 1 << 18, 1 << 21  # vocabularies have up to a million tokens
_LONGEST_NAME, _LONGEST_HEADER = 1 << 10, 1 << 28
_MOST_DIMENSIONS = 4
_CHUNK = 1 << 22

#: ggml's types of tensors, by number: name, weights of a block, bytes of a block.
TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip


class DamagedError(ValueError):
    """A header that cannot be, or that no library should be given; the message names the field."""


class Tensor(NamedTuple):
    """A tensor's place: ``shape`` as the file has it, fastest first; ``start`` in bytes from the file's begin."""

    name: str
    shape: tuple[int, ...]
    kind: str
    start: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a GGUF file says of itself. Values of ``fields`` are numbers, texts, and tuples of them."""

    fields: dict[str, Any]
    tensors: tuple[Tensor, ...]

    @property
    def architecture(self) -> str:
        """The name that the fields of the architecture begin with; "" where the file has none."""
        name = self.fields.get("general.architecture")
        return name if isinstance(name, str) else ""

    @property
    def weights(self) -> int:
        """How many weights there are."""
        return sum(prod(tensor.shape) for tensor in self.tensors)

    def own(self, name: str) -> Any:
        """A field of the architecture, such as ``block_count``; None where there is none."""
        return self.fields.get(f"{self.architecture}.{name}")


def header(gguf: Path) -> Header:
    """A GGUF file's header, checked. InputError names the file, the field and the remedy.

    A file is read once, as long as it stays as it is.
    """
    try:
        state = gguf.stat()
        return _read(gguf, state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise InputError(f"cannot read {str(gguf)!r}: {error.strerror}") from error


@lru_cache(maxsize=4)
def _read(gguf: Path, size: int, changed: int) -> Header:  # noqa: ARG001  # a changed file is another one
    from innerloop.gguf_values import check

    try:
        with gguf.open("rb") as stream:
            found = parse(stream, size)
        check(found)
    except DamagedError as error:
        raise InputError(
            f"cannot read {str(gguf)!r} as a GGUF model: {error}; fetch the file again, or have it converted anew"
        ) from error
    return found


def parse(stream: BinaryIO, size: int) -> Header:
    """The header of a file of ``size`` bytes. Raises `DamagedError`."""
    source = _Source(stream, size)
    if source.take(4, "the magic") != b"GGUF":
        raise DamagedError("it does not begin with GGUF")
    version = source.number("I", "the version")
    if version not in _VERSIONS:
        if version and version & 0xFFFF == 0:
            raise DamagedError("its numbers are big-endian, which is not read")
        raise DamagedError(f"its version is {version}, and {_VERSIONS[0]} and {_VERSIONS[1]} are read")
    tensors, count = source.number("Q", "the number of tensors"), source.number("Q", "the number of fields")
    source.expect(tensors, 24, _MOST_TENSORS, "tensors")
    source.expect(count, 13, _MOST_FIELDS, "metadata fields")
    fields: dict[str, Any] = {}
    for number in range(count):
        name = source.name(f"the name of metadata field {number + 1}")
        if name in fields or name.startswith("GGUF."):  # as readers call the numbers in front
            raise DamagedError(f"metadata field {name!r} is there twice")
        kind = source.number("I", f"the type of {name!r}")
        if name == "general.alignment" and kind != _UINT32:
            raise DamagedError(f"{name} has type {kind}; it has {_UINT32}, as every reader expects")
        fields[name] = source.value(kind, name)
    infos = [source.tensor(number) for number in range(tensors)]
    return Header(fields=fields, tensors=_placed(infos, source.position, size, _alignment(fields)))


class _Source:
    """The bytes of the header, read from the front; never more than a chunk beyond what was asked for."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._size = size
        self._data = bytearray()
        self.position = 0

    def need(self, count: int, what: str) -> int:
        """Makes sure of ``count`` bytes at the position, steps over them, and says where they begin."""
        begin, end = self.position, self.position + count
        if end > self._size:
            raise DamagedError(f"{what} takes {count:,} bytes, and {self._size - begin:,} are left in the file")
        if end > _LONGEST_HEADER:
            raise DamagedError(f"its header has more than {_LONGEST_HEADER >> 20} MiB, at {what}")
        if end > len(self._data):
            self._data += self._stream.read(max(_CHUNK, end - len(self._data)))
            if end > len(self._data):
                raise DamagedError(f"the file ends within {what}")
        self.position = end
        return begin

    def take(self, count: int, what: str) -> bytes:
        """The next bytes."""
        begin = self.need(count, what)
        return bytes(self._data[begin : begin + count])

    def number(self, form: str, what: str) -> Any:
        """The next number."""
        begin = self.need(struct.calcsize("<" + form), what)
        return struct.unpack_from("<" + form, self._data, begin)[0]

    def expect(self, count: int, least: int, most: int, what: str) -> None:
        """DamagedError where so many things, of ``least`` bytes each, cannot stand in what is left."""
        left = self._size - self.position
        if count * least > left:
            raise DamagedError(f"it is said to have {count:,} {what}, and {left:,} bytes are left in the file")
        if count > most:
            raise DamagedError(f"it has {count:,} {what}; more than {most:,} are not read")

    def text(self, what: str) -> str:
        """The next text."""
        length = self.number("Q", f"the length of {what}")
        try:
            return self.take(length, what).decode()
        except UnicodeDecodeError:
            raise DamagedError(f"{what} is no UTF-8") from None

    def name(self, what: str) -> str:
        """The next text, which is a name."""
        found = self.text(what)
        if not found or len(found) > _LONGEST_NAME or not found.isprintable():
            raise DamagedError(f"{what} is {found[:40]!r}, which is no name")
        return found

    def value(self, kind: int, name: str) -> Any:
        """The value of a metadata field."""
        what = f"metadata field {name!r}"
        if kind in _SCALARS:
            return self.number(_SCALARS[kind], what)
        if kind == _STRING:
            return self.text(what)
        if kind != _ARRAY:
            raise DamagedError(f"{what} has type {kind}, which is none of GGUF's")
        kind, count = self.number("I", f"the type of {what}"), self.number("Q", f"the length of {what}")
        if kind in _SCALARS:
            form = _SCALARS[kind]
            self.expect(count, struct.calcsize("<" + form), _MOST_ELEMENTS, f"elements in {what}")
            begin = self.need(count * struct.calcsize("<" + form), what)
            return struct.unpack_from(f"<{count}{form}", self._data, begin)
        if kind != _STRING:
            raise DamagedError(f"{what} is an array of type {kind}; arrays hold numbers or texts")
        self.expect(count, 8, _MOST_ELEMENTS, f"elements in {what}")
        return tuple([self.text(what) for _ in range(count)])

    def tensor(self, number: int) -> tuple[str, tuple[int, ...], int, int]:
        """Name, dimensions, type and offset of the next tensor."""
        name = self.name(f"the name of tensor {number + 1}")
        what = f"tensor {name!r}"
        dimensions = self.number("I", f"the number of dimensions of {what}")
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise DamagedError(f"{what} has {dimensions} dimensions; 1 to {_MOST_DIMENSIONS} are read")
        shape = tuple(self.number("Q", f"the dimensions of {what}") for _ in range(dimensions))
        return name, shape, self.number("I", f"the type of {what}"), self.number("Q", f"the offset of {what}")


def _alignment(fields: dict[str, Any]) -> int:
    found = fields.get("general.alignment", 32)
    if not 1 <= found <= 1 << 16 or found & (found - 1):
        raise DamagedError(f"general.alignment is {found!r}; it is a power of two")
    return found


def _placed(
    infos: Sequence[tuple[str, tuple[int, ...], int, int]], end: int, size: int, alignment: int
) -> tuple[Tensor, ...]:
    """The tensors with their places in the file, which lie behind the header, apart from each other."""
    begin = -(-end // alignment) * alignment
    found = []
    for name, shape, number, offset in infos:
        what = f"tensor {name!r}"
        if number not in TYPES:
            raise DamagedError(f"{what} has type {number}, which is none of ggml's")
        kind, block, block_bytes = TYPES[number]
        if min(shape) < 1 or prod(shape) >= 1 << 62:
            raise DamagedError(f"{what} has the dimensions {'×'.join(map(str, shape))}")
        if shape[0] % block:
            raise DamagedError(f"{what} has rows of {shape[0]} weights, and {kind} has blocks of {block}")
        if offset % alignment:
            raise DamagedError(f"{what} begins at {offset}, which is no multiple of {alignment}, the alignment")
        length = prod(shape) // block * block_bytes
        if begin + offset + length > size:
            raise DamagedError(f"{what} ends at byte {begin + offset + length:,}, and the file has {size:,}")
        found.append(Tensor(name, shape, kind, begin + offset, length))
    if len({tensor.name for tensor in found}) < len(found):
        names = [tensor.name for tensor in found]
        raise DamagedError(f"tensor {next(name for name in names if names.count(name) > 1)!r} is there twice")
    behind = begin
    for tensor in sorted(found, key=lambda tensor: tensor.start):
        if tensor.start < behind:
            raise DamagedError(f"tensor {tensor.name!r} begins within the one before it")
        behind = tensor.start + tensor.size
    return tuple(found)
