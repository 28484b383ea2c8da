"""What a Parquet file says about itself, checked before anything is allocated for it.

A file of a kilobyte may hold gigabytes: pages are compressed, and one value of a dictionary may be meant by every row.
Here the footer and the heads of all pages are read, which is quick, and refused where they go beyond what a reader can
hold. `innerloop.parquet` unpacks what passes, a bounded part at a time.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from innerloop.thrift import Reader, Struct, ThriftError

LARGEST_FOOTER = 1 << 23  # bytes
AT_ONCE = 1 << 28  # bytes that the rows read together may take, beside two pages of each column
_ROWS = 1024  # read together
_MOST_VALUES = 1 << 22  # in the footer
_DEEPEST = 32  # of nested columns
_PEEK = 1 << 12  # bytes read where the head of a page is expected; with statistics it may be longer
_LONGEST_HEAD = 1 << 20
_MAGIC = b"PAR1"
_TEXT, _FIXED = 6, 7  # physical types; the schema says the length of the second
_WIDTHS = {0: 1, 1: 4, 2: 8, 3: 12, 4: 4, 5: 8, _TEXT: 4}  # bytes of a value, at least, by physical type
_DICTIONARY_PAGE = 2
_REPEATED = 2
_BY_DICTIONARY = (2, 8)  # encodings
# Readers make room for as many lengths as such a page says, before they look whether they are there.
_REFUSED = {6: "DELTA_LENGTH_BYTE_ARRAY", 7: "DELTA_BYTE_ARRAY"}
_CODECS = {1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}
_SMALLER = "write it with smaller row groups (row_group_size=100)"


class BoundsError(ValueError):
    """A file that goes beyond what can be held, or names a column twice; the message is for the user, in one line."""


class BrokenError(ValueError):
    """A file that is no Parquet, is cut off or contradicts itself."""


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A column as it is stored: one of the schema's leaves."""

    path: tuple[str, ...]
    physical: int
    width: int  # bytes of a value, at least
    repeated: bool

    @property
    def name(self) -> str:
        """As pyarrow names it."""
        return ".".join(self.path)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How many ``rows`` of a file may be read together, with which columns kept as dictionaries of their values."""

    rows: int
    by_dictionary: tuple[str, ...]


@dataclass
class _Extent:
    """How much a column takes, at most over the row groups."""

    page: int = 0  # bytes of the largest
    per_value: float = 0.0
    longest: int = 0  # bytes of a value that rows may share


@dataclass
class _Chunk:
    """A column's pages in one row group."""

    page: int = 0  # bytes of the largest
    bytes: int = 0  # of all
    per_value: float = 0.0  # bytes, in the page where they are most
    shared: int = 0  # values that stand in the dictionary
    dictionary: Struct = field(default_factory=dict)  # the head of its page
    place: int = 0  # of what follows that head


def check(file: BinaryIO, *, page: int, together: int) -> Bounds:
    """Look at a whole file; it may be read at any place afterwards. Raises `BoundsError` and `BrokenError`.

    ``page`` and ``together`` are the most bytes of a page, unpacked, and of what has to be held at the same time: a
    page of each column, or all values of a column with lists in one row group.
    """
    try:
        return _check(file, page, together)
    except ThriftError as error:
        raise BrokenError(str(error)) from error


def rows_in(file: BinaryIO) -> int | None:
    """How many rows a file says that it has; None where it says nothing that can be read."""
    try:
        rows = _number(_footer(file, file.seek(0, os.SEEK_END)), 3, -1)
    except (ThriftError, BoundsError, BrokenError):
        return None
    return rows if rows >= 0 else None


def _check(file: BinaryIO, page: int, together: int) -> Bounds:
    size = file.seek(0, os.SEEK_END)
    footer = _footer(file, size)
    leaves = _leaves(_list(footer, 2))
    extents = [_Extent() for _ in leaves]
    for group in _list(footer, 4):
        chunks = _list(group, 1)
        if len(chunks) != len(leaves):
            raise BrokenError("a row group has other columns than the schema")
        for leaf, extent, about in zip(leaves, extents, chunks, strict=True):
            _take(file, size, leaf, about, extent, together)
            if extent.page > page:
                unpacked = f"unpacks to {extent.page >> 20} MiB, and {page >> 20} are read at most"
                raise BoundsError(f"column {leaf.name!r} has a page that {unpacked}; {_SMALLER}")
    if (pages := sum(extent.page for extent in extents)) > together:
        raise BoundsError(f"its columns have pages of {pages >> 20} MiB, which must be read together; {_SMALLER}")
    by_dictionary = []
    per_row = 0.0
    for leaf, extent in zip(leaves, extents, strict=True):
        per_row += extent.per_value
        # pyarrow can keep shared values once, not inside of nested columns; that is slower, and rarely needed.
        if len(leaf.path) == 1 and extent.longest * _ROWS > AT_ONCE // 4:
            by_dictionary.append(leaf.name)
        else:
            per_row += extent.longest
    return Bounds(rows=max(1, min(_ROWS, int(AT_ONCE / max(per_row, 1)))), by_dictionary=tuple(by_dictionary))


def _footer(file: BinaryIO, size: int) -> Struct:
    if size < 12:
        raise BrokenError("it is too short")
    file.seek(size - 8)
    tail = file.read(8)
    if tail[4:] != _MAGIC:
        raise BrokenError("its end is not that of a Parquet file")
    length = int.from_bytes(tail[:4], "little")
    if length > size - 8:
        raise BrokenError("its footer is longer than the file")
    if length > LARGEST_FOOTER:
        raise BoundsError(f"its footer has {length:,} bytes, and {LARGEST_FOOTER:,} are read at most; {_SMALLER}")
    file.seek(size - 8 - length)
    return Reader(file.read(length), most=_MOST_VALUES).struct()


def _leaves(schema: list[Any]) -> list[Leaf]:
    """The leaves of a schema, which is a tree written as a list: each node followed by its children."""
    leaves: list[Leaf] = []
    above: list[list[Any]] = []  # path, whether repeated, children to come, their names
    for node in schema:
        path: tuple[str, ...] = ()
        repeated = False
        if above or leaves:  # the first node is the root
            while above and above[-1][2] == 0:
                above.pop()
            if not above:
                raise BrokenError("its schema contradicts itself")
            if len(above) > _DEEPEST:
                raise BoundsError(f"its columns are nested deeper than {_DEEPEST} levels")
            above[-1][2] -= 1
            path = (*above[-1][0], _name(node, above[-1][3]))
            repeated = above[-1][1] or _number(node, 3, 0) == _REPEATED
        children = _number(node, 5, 0)
        if children or not path:
            above.append([path, repeated, children, set()])
        else:
            physical = _number(node, 1, 0)
            width = max(1, _number(node, 2, 1)) if physical == _FIXED else _WIDTHS.get(physical, 1)
            leaves.append(Leaf(path=path, physical=physical, width=width, repeated=repeated))
    if not leaves or any(left for _, _, left, _ in above):
        raise BrokenError("its schema contradicts itself")
    return leaves


def _name(node: Any, names: set[str]) -> str:
    raw = node.get(4) if isinstance(node, dict) else None
    try:
        name = raw.decode() if isinstance(raw, bytes) else ""
    except UnicodeDecodeError:
        raise BoundsError(f"the name of a column is not UTF-8 text ({str(raw)[:80]})") from None
    if name in names:
        raise BoundsError(f"the column {name[:80]!r} is there twice; rename or remove one of them")
    names.add(name)
    return name


def _take(file: BinaryIO, size: int, leaf: Leaf, chunk: Any, extent: _Extent, most: int) -> None:
    """Look at a column's pages in one row group."""
    about = chunk.get(3) if isinstance(chunk, dict) else None
    if not isinstance(about, dict) or chunk.get(1):
        raise BrokenError(f"column {leaf.name!r} is not in the file itself")
    values = _number(about, 5, 0)
    if values <= 0:  # nobody reads its pages
        return
    found = _pages(file, size, leaf, about)
    extent.page = max(extent.page, found.page)
    if leaf.repeated:  # one row may hold all of them
        together = found.bytes + values * (leaf.width if leaf.physical == _FIXED else 8)
        if leaf.physical == _TEXT and together + found.shared * found.page > most:
            together += found.shared * _longest(file, about, found)
        if together > most:
            raise BoundsError(
                f"column {leaf.name!r} may unpack to {together >> 20} MiB in a single row; {_SMALLER}, or as .jsonl"
            )
        return
    extent.per_value = max(extent.per_value, found.per_value, float(leaf.width))
    if leaf.physical == _TEXT and found.shared:
        extent.longest = max(extent.longest, _longest(file, about, found))


def _pages(file: BinaryIO, size: int, leaf: Leaf, about: Struct) -> _Chunk:
    begin = _number(about, 9, 0)
    if 0 < (dictionary := _number(about, 11, 0)) < begin:
        begin = dictionary
    end = begin + _number(about, 7, 0)
    if not 0 <= begin <= end <= size:
        raise BrokenError(f"column {leaf.name!r} is said to lie beyond the end of the file")
    found = _Chunk()
    while begin < end:
        head, length = _page_head(file, begin, end)
        unpacked, packed = _sizes(head, leaf)
        found.page = max(found.page, unpacked)
        found.bytes += unpacked
        if _number(head, 1, 0) == _DICTIONARY_PAGE:
            found.dictionary, found.place = head, begin + length
        else:
            values, encoding = _page_of_data(head, leaf)
            found.per_value = max(found.per_value, unpacked / max(1, values))
            found.shared += values if encoding in _BY_DICTIONARY else 0
        begin += length + packed
    return found


def _page_head(file: BinaryIO, begin: int, end: int) -> tuple[Struct, int]:
    peek = _PEEK
    while True:
        file.seek(begin)
        data = file.read(min(peek, end - begin))
        reader = Reader(data)
        try:
            return reader.struct(), reader.at
        except ThriftError:
            if len(data) < peek or peek >= _LONGEST_HEAD:
                raise
        peek *= 16


def _sizes(head: Struct, leaf: Leaf) -> tuple[int, int]:
    """Bytes of a page, unpacked and as it is stored."""
    unpacked, packed = _number(head, 2, -1), _number(head, 3, -1)
    if unpacked < 0 or packed < 0:
        raise BrokenError(f"column {leaf.name!r} has a page of no size")
    if _number(head, 1, 0) == _DICTIONARY_PAGE and not 0 <= _number(head.get(7), 1, -1) * leaf.width <= unpacked:
        raise BrokenError(f"column {leaf.name!r} has a dictionary of more values than bytes")
    return unpacked, packed


def _page_of_data(head: Struct, leaf: Leaf) -> tuple[int, int]:
    """Values of a page, and how they are encoded."""
    first, second = head.get(5), head.get(8)
    values = _number(first, 1, 0) or _number(second, 1, 0)
    encoding = _number(first, 2, 0) or _number(second, 4, 0)
    if values < 0:
        raise BrokenError(f"column {leaf.name!r} has a page of no values")
    if encoding in _REFUSED:
        raise BoundsError(f"column {leaf.name!r} is encoded as {_REFUSED[encoding]}, which is not read; write it PLAIN")
    return values, encoding


def _longest(file: BinaryIO, about: Struct, chunk: _Chunk) -> int:
    """Bytes of the longest value in a column's dictionary; of all, where they cannot be told apart."""
    import pyarrow as pa

    unpacked, packed = _number(chunk.dictionary, 2, 0), _number(chunk.dictionary, 3, 0)
    file.seek(chunk.place)
    data = file.read(packed)
    codec = _number(about, 4, 0)
    if codec and codec not in _CODECS:
        return unpacked
    try:
        data = pa.Codec(_CODECS[codec]).decompress(data, unpacked, asbytes=True) if codec else data
    except (pa.ArrowException, OSError):  # who reads it says what is wrong
        return unpacked
    longest = place = 0
    while place + 4 <= len(data):
        length = int.from_bytes(data[place : place + 4], "little")
        longest = max(longest, length)
        place += 4 + length
    return min(longest, unpacked)


def _number(struct: Any, number: int, default: int) -> int:
    value = struct.get(number, default) if isinstance(struct, dict) else default
    return value if isinstance(value, int) else default


def _list(struct: Any, number: int) -> list[Any]:
    value = struct.get(number) if isinstance(struct, dict) else None
    return value if isinstance(value, list) else []
