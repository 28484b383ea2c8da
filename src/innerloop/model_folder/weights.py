"""The headers of safetensors files: 8 bytes of length, JSON, and the weights behind it.

The library checks them too, when it loads; they are read here first, so that a configuration can be held against them.
"""

from __future__ import annotations

import json
import struct
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from innerloop import plain_json
from innerloop.errors import InputError
from innerloop.model_folder.files import read_json

_LONGEST = 100_000_000  # bytes of a header, as the library has it
_MOST_DIMENSIONS = 16
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
}  # fmt: skip
_PACKED = 4  # bits that a weight takes at least, where whole numbers hold several


class Tensor(NamedTuple):
    """A tensor's shape, and how many weights it may stand for: whole numbers may hold several each."""

    shape: tuple[int, ...]
    weights: int


def tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of all weights of a folder. InputError names the file that is damaged."""
    names = sorted(file.name for file in folder.glob("*.safetensors"))
    for index in sorted(folder.glob("*.safetensors.index.json")):
        _check_index(index, names)
    found: dict[str, Tensor] = {}
    for name in names:
        found |= _header(folder / name)
    return found


def _check_index(index: Path, names: list[str]) -> None:
    """Every shard is a file beside the index: a path could lead anywhere."""
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict):
        raise InputError(f"{index}: has no weight_map; fetch the file again")
    for shard in dict.fromkeys(map(str, shards.values())):
        if shard not in names:
            raise InputError(f"{index}: names {shard[:100]!r}, no *.safetensors beside it; fetch all files again")


def _header(file: Path) -> dict[str, Tensor]:
    try:
        with file.open("rb") as stream:
            size = file.stat().st_size
            begin = stream.read(8)
            length = struct.unpack("<Q", begin)[0] if len(begin) == 8 else 0
            if not 2 <= length <= min(size - 8, _LONGEST):
                raise ValueError(f"its header is said to have {length:,} bytes, and the file has {size:,}")
            said = plain_json.loads(stream.read(length).decode(), halves=True)
        if not isinstance(said, dict):
            raise ValueError("its header is no object")
        said.pop("__metadata__", None)
        found = {name: _tensor(name, entry) for name, entry in said.items()}
        _check_places(sorted((begin, end, name) for name, (_, begin, end) in found.items()), size - 8 - length)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"{file}: cannot be loaded as safetensors: {reason}; fetch the file again") from error
    return {name: tensor for name, (tensor, _, _) in found.items()}


def _tensor(name: str, entry: Any) -> tuple[Tensor, int, int]:
    """A tensor, and where it begins and ends."""
    what = f"tensor {name[:80]!r}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{what} has no type, shape and place")
    kind, shape, place = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _BITS:
        raise ValueError(f"{what} has type {json.dumps(kind)[:40]}, which is none of safetensors'")
    for numbers in (shape, place):
        if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < 1 << 62 for n in numbers):
            raise ValueError(f"{what} has shape {str(shape)[:40]} at {str(place)[:40]}")
    if len(shape) > _MOST_DIMENSIONS or len(place) != 2:
        raise ValueError(f"{what} has {len(shape)} dimensions and {len(place)} ends")
    count, bits = prod(shape), _BITS[kind]
    if 8 * (place[1] - place[0]) != count * bits:
        raise ValueError(f"{what} has {count:,} numbers of {bits} bits in {place[1] - place[0]:,} bytes")
    whole = not kind.startswith(("B", "F", "C"))
    return Tensor(tuple(shape), count * (bits // _PACKED) if whole else count), place[0], place[1]


def _check_places(places: list[tuple[int, int, str]], size: int) -> None:
    """One behind the other, from the header to the end of the file."""
    behind = 0
    for begin, end, name in places:
        if begin != behind:
            raise ValueError(f"tensor {name[:80]!r} begins at byte {begin:,} of the weights, not at {behind:,}")
        behind = end
    if behind != size:
        raise ValueError(f"its weights are said to take {behind:,} bytes, and the file has {size:,} for them")
