"""Questions from a file: one JSON object per line, a JSON list, CSV or Parquet.

Columns: ``id, question, answer`` and optionally ``solution, domain, level, verifier, candidates, prompt_template``;
others are kept as JSON in ``metadata``. ``prompt_template`` is a name of `innerloop.prompts` or a text with
``{question}`` in it; with ``verifier`` code and ``tests`` the answer may be missing. Text is UTF-8, with or without a
byte order mark, with any line ends. A row without an id is called after the file and its number from 0:
``gsm8k_test-0``.

Files come from anywhere, so nothing in them decides how much is read at once (``LONGEST``, `innerloop.plain_json`,
`innerloop.parquet`), and a key or column that is there twice is refused, since readers differ on which one counts.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from innerloop import plain_json
from innerloop.errors import InputError, first_line
from innerloop.nearest import nearest
from innerloop.questions.rows import Row, collect, numbered
from innerloop.schema import Question

LONGEST = 1 << 28  # characters of a line of JSON or a row of CSV, bytes of a .json file
_UNDECODED = re.compile("[\udc80-\udcff]")  # what a byte that is not UTF-8 becomes
_PACKED = {  # the first bytes of what is no text
    b"\x1f\x8b": "compressed by gzip",
    b"PK\x03\x04": "a zip archive",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
    b"PAR1": "Parquet; name it .parquet,",
}
_WIDE = (b"\xff\xfe", b"\xfe\xff")  # byte order marks of UTF-16, and of UTF-32


def load(path: Path, limit: int | None = None) -> list[Question]:
    """The questions of a file, in its order; ``limit`` takes the first N and reads no further."""
    questions = collect(rows(path), path.stem, limit)
    if not questions:
        raise InputError(f"{path}: holds no questions; write one row per question with the fields question and answer")
    return questions


def rows(path: Path) -> Iterator[Row]:
    """The rows of a file as they stand there, each with its place. ``InputError`` names the line."""
    reader = READERS.get(path.suffix.lower())
    if not os.path.exists(path):  # noqa: PTH110  # Path.exists raises where a name is too long
        raise InputError(f"{path}: no such file{_where(path)}")
    if reader is None:
        raise InputError(f"{path}: cannot read '{path.suffix}' files; use {', '.join(READERS)}")
    try:
        with opened(path) as file:
            yield from reader(path, file)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the file") from error


def opened(path: Path) -> BinaryIO:
    """A file to read; `InputError` for what is none: a folder, a pipe, a device without an end."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            what = "a folder; name a file in it" if stat.S_ISDIR(mode) else "no file but a device or pipe; name a file"
            raise InputError(f"{path}: is {what}")
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def expanded(name: str) -> Path:
    """A path with ``~`` resolved, where there is such a home."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def text_lines(path: Path, file: BinaryIO, newline: str) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers from 1; ``newline`` as in ``open``. `InputError` names the line."""
    first = file.read(6)
    file.seek(0)
    for magic, what in _PACKED.items():
        if first.startswith(magic):
            raise InputError(f"{path}: is not text but {what} whatever it is called; unpack it first")
    if first.startswith(_WIDE):
        raise InputError(f"{path}, line 1: not UTF-8 text but UTF-16 or UTF-32; save the file as UTF-8")
    # Bytes that are not UTF-8 become half characters, which UTF-8 has none of: so the line is known.
    with io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline=newline) as stream:
        number = 0
        while line := stream.readline(LONGEST + 1):
            number += 1
            if len(line) > LONGEST:
                raise InputError(f"{path}, line {number}: longer than {LONGEST >> 20} MiB; check the line ends")
            if not line.isascii() and _UNDECODED.search(line):
                raise InputError(f"{path}, line {number}: not UTF-8 text; save the file as UTF-8")
            yield number, line


def _where(path: Path) -> str:
    try:
        if path.parent.is_dir():
            return nearest(path.name, [entry.name for entry in path.parent.iterdir()]) or "; check the path"
    except OSError:
        return "; check the path"
    return f" (there is no folder {path.parent}); check the path"


def _jsonl(path: Path, file: BinaryIO) -> Iterator[Row]:
    for number, line in text_lines(path, file, "\n"):
        text = line.strip()
        if not text:
            continue
        row = _parse(text, path, number, "write one JSON object per line")
        if isinstance(row, list) and number == 1:
            raise InputError(f"{path}, line 1: a JSON list; write one object per line, or name the file .json")
        yield f"{path}, line {number}", row


def _json(path: Path, file: BinaryIO) -> Iterator[Row]:
    if os.fstat(file.fileno()).st_size > LONGEST:
        raise InputError(f"{path}: larger than {LONGEST >> 20} MiB; write one object per line and name it .jsonl")
    text = "".join(line for _, line in text_lines(path, file, "\n"))
    if not text.strip():
        return
    table = _parse(text, path, 1, "write a list of objects, or one object per line and name it .jsonl")
    if not isinstance(table, list):
        raise InputError(f"{path}: not a list but a {type(table).__name__}; write a list of objects, one per row")
    yield from numbered(table, str(path))


def _csv(path: Path, file: BinaryIO) -> Iterator[Row]:
    taken = 0

    def lines() -> Iterator[str]:
        nonlocal taken
        # newline="" leaves line ends inside quoted cells as they are, as the csv module asks
        for number, line in text_lines(path, file, ""):
            taken += len(line)
            if taken > LONGEST:
                raise InputError(f"{path}, line {number}: a row of more than {LONGEST >> 20} MiB; check the quotes")
            yield line

    reader = csv.reader(lines())
    header: list[str] | None = None
    try:
        for cells in reader:
            taken = 0
            if header is None:
                header = _header(cells, f"{path}, line {reader.line_num}") if cells else None
            elif cells:
                yield f"{path}, line {reader.line_num}", _row(header, cells)
    except csv.Error as error:
        place = f"{path}, line {reader.line_num}"
        raise InputError(f"{place}: not CSV ({error}); long texts fit better in .jsonl") from error


def _header(names: Sequence[str], where: str) -> list[str]:
    twice = next((name for place, name in enumerate(names) if name and name in names[:place]), None)
    if twice is not None:
        raise InputError(f"{where}: the column {twice[:80]!r} is there twice; rename or remove one of them")
    return list(names)


def _row(header: Sequence[str], cells: Sequence[str]) -> dict[Any, Any]:
    """Cells by their columns' names; one column may have none, as the index that pandas writes.

    An empty cell says nothing; a question or answer that is empty is told so by the row's check. Cells for which there
    is no column are under None.
    """
    row: dict[Any, Any] = {}
    surplus = list(cells[len(header) :])
    for name, cell in zip(header, cells, strict=False):
        if cell or name in ("question", "answer"):
            if name in row:
                surplus.append(cell)
            else:
                row[name] = cell
    return row | {None: surplus} if surplus else row


def _parquet(path: Path, file: BinaryIO) -> Iterator[Row]:
    import pyarrow as pa

    from innerloop.parquet import batches
    from innerloop.parquet_bounds import BoundsError, BrokenError

    number = 0
    try:
        for batch in batches(file):
            for row in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", row
    except BoundsError as error:
        raise InputError(f"{path}: Parquet that is not read, {error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}, after row {number}: a text that is not UTF-8; write the column as text") from error
    except (BrokenError, pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a whole Parquet file ({first_line(error, 200)}); write it again") from error
    except (ValueError, OverflowError, LookupError, TypeError, MemoryError) as error:  # dates beyond any calendar …
        raise InputError(
            f"{path}, after row {number}: a value that Python has none for ({first_line(error, 200)}); write it as text"
        ) from error


def _parse(text: str, path: Path, line: int, remedy: str) -> Any:
    """The JSON value of a text that begins at ``line`` of the file."""
    try:
        return plain_json.loads(text, halves=True)  # the row's check names the field
    except json.JSONDecodeError as error:
        line += error.lineno - 1
        raise InputError(f"{path}, line {line}: not JSON ({error.msg} at column {error.colno}); {remedy}") from error
    except ValueError as error:  # a number of thousands of digits; brackets nested without end; a key that is twice
        said = first_line(error, 200)
        raise InputError(f"{path}, line {line}: JSON that cannot be read ({said}); {remedy}") from error


READERS: dict[str, Callable[[Path, BinaryIO], Iterator[Row]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
