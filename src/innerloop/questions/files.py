"""Questions from a file: one JSON object per line, a JSON list, CSV or Parquet.

Columns: ``id, question, answer`` and optionally ``solution, domain, level, verifier, candidates, prompt_template``;
others are kept as JSON in ``metadata``. ``prompt_template`` is a name of `innerloop.prompts` or a text with
``{question}`` in it; with ``verifier`` code and ``tests`` the answer may be missing. Text is UTF-8, with or without a
byte order mark, with any line ends. A row without an id is called after the file and its number from 0:
``gsm8k_test-0``.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from innerloop.errors import InputError
from innerloop.nearest import nearest
from innerloop.questions.rows import Row, collect, numbered
from innerloop.schema import Question

_BOM = b"\xef\xbb\xbf"


def load(path: Path, limit: int | None = None) -> list[Question]:
    """The questions of a file, in its order; ``limit`` takes the first N and reads no further."""
    questions = collect(rows(path), path.stem, limit)
    if not questions:
        raise InputError(f"{path}: holds no questions; write one row per question with the fields question and answer")
    return questions


def rows(path: Path) -> Iterator[Row]:
    """The rows of a file as they stand there, each with its place. ``InputError`` names the line."""
    reader = READERS.get(path.suffix.lower())
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        where = "" if path.parent.is_dir() else f" (there is no folder {path.parent})"
        raise InputError(f"{path}: no such file{where}{nearest(path.name, siblings) or '; check the path'}")
    if reader is None:
        raise InputError(f"{path}: cannot read '{path.suffix}' files; use {', '.join(READERS)}")
    if not path.is_file():
        raise InputError(f"{path}: is a folder; name a file in it")
    try:
        yield from reader(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the file") from error


def _jsonl(path: Path) -> Iterator[Row]:
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            text = _decode(raw.removeprefix(_BOM) if number == 1 else raw, path, number).strip()
            if not text:
                continue
            row = _parse(text, path, number, "write one JSON object per line")
            if isinstance(row, list) and number == 1:
                raise InputError(f"{path}, line 1: a JSON list; write one object per line, or name the file .json")
            yield f"{path}, line {number}", row


def _json(path: Path) -> Iterator[Row]:
    raw = path.read_bytes().removeprefix(_BOM)
    text = _decode(raw, path, 1)
    if not text.strip():
        return
    table = _parse(text, path, 1, "write a list of objects, or one object per line and name it .jsonl")
    if not isinstance(table, list):
        raise InputError(f"{path}: not a list but a {type(table).__name__}; write a list of objects, one per row")
    yield from numbered(table, str(path))


def _csv(path: Path) -> Iterator[Row]:
    text = _decode(path.read_bytes().removeprefix(_BOM), path, 1)
    # newline="" leaves line ends inside quoted cells as they are, as the csv module asks
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            # an empty cell says nothing; a question or answer that is empty is told so by the row's check
            yield (
                f"{path}, line {reader.line_num}",
                {k: v for k, v in row.items() if v or k in ("question", "answer") or not isinstance(k, str)},
            )
    except csv.Error as error:
        place = f"{path}, line {reader.line_num + 1}"  # the line that cannot be read is not counted yet
        raise InputError(f"{place}: not CSV ({error}); long texts fit better in .jsonl") from error


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            table_rows = (row for batch in file.iter_batches(batch_size=1024) for row in batch.to_pylist())
            yield from numbered(table_rows, str(path))
    except pa.ArrowException as error:
        raise InputError(f"{path}: not a whole Parquet file ({_first_line(error)}); write it again") from error


def _decode(raw: bytes, path: Path, line: int) -> str:
    """Bytes that begin at ``line`` of the file as text."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line += raw.count(b"\n", 0, error.start)
        raise InputError(f"{path}, line {line}: not UTF-8 text; save the file as UTF-8") from error


def _parse(text: str, path: Path, line: int, remedy: str) -> Any:
    """The JSON value of a text that begins at ``line`` of the file."""
    try:
        return json.loads(text, strict=False)  # not strict: raw tabs and NUL bytes inside a text are taken as they are
    except json.JSONDecodeError as error:
        line += error.lineno - 1
        raise InputError(f"{path}, line {line}: not JSON ({error.msg} at column {error.colno}); {remedy}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; brackets nested without end
        raise InputError(f"{path}, line {line}: JSON that cannot be read ({_first_line(error)}); {remedy}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
