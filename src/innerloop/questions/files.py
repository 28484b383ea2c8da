"""Questions from a file: one JSON object per line, a JSON list, CSV or Parquet.

Columns: ``id, question, answer`` and optionally ``solution, domain, level, verifier, candidates, prompt_template,
system_turn``; others are kept as JSON in ``metadata``. ``prompt_template`` is a name of `innerloop.prompts` or a text
with ``{question}`` in it; with ``verifier`` code and ``tests`` the answer may be missing. Text is UTF-8, with or
without a byte order mark, with any line ends. A row without an id is called after the file and its number from 0:
``gsm8k_test-0``.

Files come from anywhere, so nothing in them decides how much is read at once (`innerloop.input_files`,
`innerloop.plain_json`, `innerloop.parquet`), and a key or column that is there twice is refused: readers differ on
which one counts.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from innerloop import plain_json
from innerloop.errors import InputError, first_line
from innerloop.input_files import LONGEST, opened, text_lines
from innerloop.nearest import nearest
from innerloop.questions.rows import Row, collect, numbered
from innerloop.schema import Question


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
