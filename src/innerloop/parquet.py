"""Parquet that somebody else wrote, read in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from innerloop.parquet_bounds import Bounds, BoundsError, check

PART = 1 << 26  # bytes of Python's values that one part of a file unpacks to
_ROW = 1 << 29  # and at most, where it is one row; bytes of a page
_TOGETHER = 1 << 30
_FREE = 1 << 28  # bytes that any file may unpack to; beyond, so many times its own size
_TIMES = 200
_TABLE_FREE = 1 << 22  # the same of a whole table, as Arrow holds it
_TABLE_TIMES = 1000
_EACH = 64  # bytes of a Python value beside its text, roughly
_BUFFER = 1 << 20


def batches(file: BinaryIO) -> Iterator[pa.RecordBatch]:
    """The rows of a file in order, a bounded part at a time, to be turned into Python's values.

    Raises `BoundsError` for what cannot be held, and `BrokenError` or what pyarrow raises for what is broken.
    """
    size = file.seek(0, os.SEEK_END)
    total = done = 0
    for part in _read(file, check(file, page=_ROW, together=_TOGETHER)):
        unpacked = sum(_unpacked(column) for column in part.columns)
        total += unpacked
        if unpacked > _ROW:
            raise BoundsError(f"row {done + 1} unpacks to {unpacked >> 20} MiB")
        if total > max(_FREE, _TIMES * size):
            raise BoundsError(
                f"its first {done + len(part):,} rows unpack to {total >> 20} MiB, {total // size:,} times what the "
                "file has; take fewer with --limit"
            )
        done += len(part)
        yield _plain(part)


def table(file: BinaryIO) -> pa.Table | None:
    """All rows of a file that is held whole, as a shard is; None where there are none. Raises as `batches` does."""
    size = file.seek(0, os.SEEK_END)
    most = max(_TABLE_FREE, _TABLE_TIMES * size)
    parts = []
    total = 0
    for part in _read(file, check(file, page=most, together=most), checksums=True):
        total += (plain := _plain(part)).nbytes
        if total > most:
            raise BoundsError(f"its first {total >> 20} MiB are {total // size:,} times what the file has")
        parts.append(plain)
    return pa.Table.from_batches(parts) if parts else None


def _read(file: BinaryIO, bounds: Bounds, *, checksums: bool = False) -> Iterator[pa.RecordBatch]:
    file.seek(0)
    with pq.ParquetFile(
        file,
        read_dictionary=list(bounds.by_dictionary),
        buffer_size=_BUFFER,
        page_checksum_verification=checksums,
        thrift_string_size_limit=16 * _BUFFER,
        thrift_container_size_limit=1 << 20,
    ) as opened:
        for batch in opened.iter_batches(batch_size=bounds.rows, use_threads=False):
            yield from _parts(batch)


def _parts(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """A batch in parts that unpack to `PART` bytes, or are one row."""
    waiting = [batch]
    while waiting:
        part = waiting.pop()
        if len(part) <= 1 or sum(_unpacked(column) for column in part.columns) <= PART:
            yield part
        else:
            half = len(part) // 2
            waiting += [part.slice(half), part.slice(0, half)]


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch without dictionaries at the top."""
    columns = [column.dictionary_decode() if pa.types.is_dictionary(column.type) else column for column in batch]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _unpacked(array: Any) -> int:
    """Bytes that an array takes as Python's values, roughly and rather too many."""
    kind = array.type
    total = _EACH * len(array)
    if pa.types.is_dictionary(kind):
        sizes = pc.fill_null(pc.binary_length(array.dictionary), 0).cast(pa.int64())
        return total + (pc.sum(sizes.take(array.indices)).as_py() or 0)
    if pa.types.is_struct(kind):
        return total + sum(_unpacked(child) for child in array.flatten())
    if pa.types.is_map(kind):
        offsets = array.offsets
        first, last = (offsets[0].as_py(), offsets[len(array)].as_py()) if len(array) else (0, 0)
        return total + sum(_unpacked(side.slice(first, last - first)) for side in (array.keys, array.items))
    if pa.types.is_nested(kind):
        return total + _unpacked(array.flatten())
    return total + array.nbytes
