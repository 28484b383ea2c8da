"""GGUF headers: refused, or read as the gguf package reads them, with time and memory in proportion to the file."""

from __future__ import annotations

import io
import os
import tempfile
import time
from pathlib import Path

from gguf import GGUFReader

from innerloop.gguf_header import DamagedError, parse
from innerloop.gguf_values import check, check_complete

INSTRUMENT = ("innerloop.gguf_header", "innerloop.gguf_values")

_FILE = Path(tempfile.gettempdir()) / f"innerloop-fuzz-{os.getpid()}.gguf"
_SECONDS = 1e-3  # of processor time for each byte, beside a second


def one(data: bytes) -> None:
    """What is let through is what another reader finds, too."""
    begun = time.process_time()
    try:
        found = parse(io.BytesIO(data), len(data))
    except DamagedError:
        return
    try:
        check(found)
        check_complete(found)
    except DamagedError:
        pass
    assert time.process_time() - begun < 1 + _SECONDS * len(data)
    _FILE.write_bytes(data)
    try:
        reader = GGUFReader(_FILE)
        theirs = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
        places = [(tensor.name, tensor.n_elements, tensor.data_offset, tensor.n_bytes) for tensor in reader.tensors]
    finally:
        _FILE.unlink()
    assert theirs.keys() == found.fields.keys()
    assert [repr(value) for value in theirs.values()] == [
        repr(list(value) if isinstance(value, tuple) else value) for value in found.fields.values()
    ]
    assert [place[0] for place in places] == [tensor.name for tensor in found.tensors]
    assert [place[2:] for place in places] == [(tensor.start, tensor.size) for tensor in found.tensors]
    assert time.process_time() - begun < 2 + 10 * _SECONDS * len(data)
