"""``eval --contamination``: which questions of a benchmark stand in a training file, and what that does to scores."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.errors import InputError
from innerloop.input_files import expanded, opened, text_lines
from innerloop.progress import progress
from innerloop.schema import Question
from innerloop.store import write_file

if TYPE_CHECKING:
    from innerloop.evaluate.contamination import Index, Overlap

log = logging.getLogger("innerloop")

TEXT = (".txt", ".md", ".tex")
_PARAGRAPH = 2000  # lines of plain text taken as one text at most
_EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class Example:
    """A question and the longest run of words that a training text shares with it."""

    question_id: str
    longest: int
    words: int
    where: str
    text: str


@dataclass(frozen=True, kw_only=True)
class BenchmarkOverlap:
    """One benchmark. ``contaminated`` questions share ``ngram`` words in a row, which stock phrases can do too.

    Of them, ``half`` are those half of whose words stand in shared runs, ``whole`` those that stand there in full.
    ``too_short`` questions are neither contaminated nor clean.
    """

    benchmark: str
    ngram: int
    questions: int
    contaminated: int
    half: int
    whole: int
    too_short: int
    examples: tuple[Example, ...]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A comparison that is not written yet: its result, each question's verdict (None: too short), the file's text."""

    result: Contamination
    verdicts: Mapping[str, bool | None]
    table: str

    def write(self) -> Path:
        """The file with every question's row, in a folder that is there or is made."""
        self.result.file.parent.mkdir(parents=True, exist_ok=True)
        return write_file(self.result.file, self.table.encode())


@dataclass(frozen=True, kw_only=True)
class Contamination:
    """What ``texts`` of the training data share with the benchmarks; every question's row is in ``file``."""

    training: str
    texts: int
    benchmarks: tuple[BenchmarkOverlap, ...]
    file: Path


def contamination(
    training: str, questions: Sequence[Question], benchmarks: Mapping[str, str], out: Path, *, ngram: int | None
) -> Compared:
    """Look for the questions in all texts of ``training``; the file will be ``contamination.csv`` in ``out``."""
    from innerloop.evaluate.contamination import Index

    groups: dict[str, dict[str, str]] = {}
    for question in questions:
        groups.setdefault(benchmarks.get(question.id, "questions"), {})[question.id] = question.question
    indexes = {name: Index(own, ngram=ngram) for name, own in groups.items()}
    texts = 0
    with progress("reading training data", amount(training), "lines or rows") as shown:
        for place, where, text in _placed_texts(training):
            for index in indexes.values():
                index.meet(text, where)
            texts += 1
            shown.advance(place - shown.done, f"{texts} texts")
    if not texts:
        raise InputError(f"{training}: holds no texts; check the file")
    rows = [_summary(name, index) for name, index in indexes.items()]
    return Compared(
        result=Contamination(training=training, texts=texts, benchmarks=tuple(rows), file=out / "contamination.csv"),
        verdicts={name: own.contaminated for index in indexes.values() for name, own in index.overlaps.items()},
        table=_table(indexes),
    )


def training_texts(source: str) -> Iterator[tuple[str, str]]:
    """Every text of a training file with its place, one at a time.

    JSONL, CSV, Parquet, JSON (all texts of a row, however deep, each by itself), plain text (paragraphs), and all other
    sources of questions (question and worked solution).
    """
    return ((where, text) for _, where, text in _placed_texts(source))


def amount(source: str) -> int | None:
    """How many lines or rows there are to read, where counting them is quick: of local files but JSON."""
    path, kind = _file(source)
    if kind == ".parquet" and path.is_file():
        from innerloop.parquet_bounds import rows_in

        with path.open("rb") as stream:
            return rows_in(stream)
    if kind not in (*TEXT, ".csv", ".jsonl") or not path.is_file():
        return None
    with path.open("rb") as stream:
        count, last = 0, b"\n"
        while piece := stream.read(1 << 20):
            count, last = count + piece.count(b"\n"), piece[-1:]
    return count + (last != b"\n")


def _placed_texts(source: str) -> Iterator[tuple[int, str, str]]:
    """`training_texts`, each behind the number of lines or rows read until then, as `amount` counts them."""
    path, kind = _file(source)
    if kind in TEXT:
        yield from _paragraphs(path)
    elif kind in (".csv", ".jsonl", ".json", ".parquet"):
        from innerloop.questions import files

        rows = files.rows(path)
        yield from _by_line(rows) if kind == ".csv" else _numbered(rows)
    elif source.startswith("hf:"):
        from innerloop.questions import hub

        yield from _numbered(hub.rows(*hub.parse(source)))
    else:
        from innerloop.questions import load

        for number, question in enumerate(load(source), start=1):
            yield number, f"{question.id}: question", question.question
            if question.solution:
                yield number, f"{question.id}: solution", question.solution


def _file(source: str) -> tuple[Path, str]:
    """The source as a file, and which kind of file it is; none for NAME@FILE and other sources of questions."""
    path = expanded(source)
    return path, path.suffix.lower() if path.exists() or "@" not in source else ""


def _numbered(rows: Iterable[tuple[str, Any]]) -> Iterator[tuple[int, str, str]]:
    for number, (where, row) in enumerate(rows, start=1):
        for place, text in _texts(row, where):
            yield number, place, text


def _by_line(rows: Iterable[tuple[str, Any]]) -> Iterator[tuple[int, str, str]]:
    """The same for rows of which one may take several lines: their places end in the number of the last."""
    for where, row in rows:
        for place, text in _texts(row, where):
            yield int(where.rpartition(" ")[2]), place, text


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """All texts in a row, with the names of the fields that lead to them. Not recursive: rows may be hostile."""
    waiting = [("", value)]
    while waiting:
        name, own = waiting.pop()
        if isinstance(own, str):
            yield f"{where}: {name}" if name else where, own
        elif isinstance(own, Mapping):
            waiting += [(f"{name}.{key}" if name else str(key), part) for key, part in reversed(list(own.items()))]
        elif isinstance(own, list | tuple):
            waiting += [(f"{name}[{i}]", part) for i, part in reversed(list(enumerate(own)))]


def _paragraphs(path: Path) -> Iterator[tuple[int, str, str]]:
    lines: list[str] = []
    first = number = 1
    try:
        with opened(path) as file:
            for number, line in text_lines(path, file, ""):
                if line.strip():
                    if not lines:
                        first = number
                    lines.append(line)
                if lines and (not line.strip() or len(lines) == _PARAGRAPH):
                    yield number, f"{path}, line {first}", "".join(lines)
                    lines = []
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if lines:
        yield number, f"{path}, line {first}", "".join(lines)


def _summary(name: str, index: Index) -> BenchmarkOverlap:
    own = list(index.overlaps.values())
    worst = sorted((overlap for overlap in own if overlap.texts), key=lambda overlap: -overlap.longest)
    return BenchmarkOverlap(
        benchmark=name,
        ngram=index.ngram,
        questions=len(own),
        contaminated=len(worst),
        half=sum(overlap.share >= 0.5 for overlap in own),
        whole=sum(overlap.whole for overlap in own),
        too_short=sum(overlap.ngram == 0 for overlap in own),
        examples=tuple(
            Example(
                question_id=overlap.question_id,
                longest=overlap.longest,
                words=len(overlap.words),
                where=overlap.where or "",
                text=_cut(overlap),
            )
            for overlap in worst[:_EXAMPLES]
        ),
    )


def _cut(overlap: Overlap) -> str:
    return overlap.text if len(overlap.text) <= 300 else overlap.text[:299] + "…"


def _table(indexes: Mapping[str, Index]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = "benchmark question_id words ngram contaminated whole longest start share texts where text"
    writer.writerow(header.split())
    for name, index in indexes.items():
        for own in index.overlaps.values():
            verdict = "too short" if own.contaminated is None else "yes" if own.contaminated else "no"
            numbers = (own.longest, "" if own.start is None else own.start, f"{own.share:.4g}", own.texts)
            whole = "yes" if own.whole else "no"
            about = (name, own.question_id, len(own.words), own.ngram, verdict, whole)
            writer.writerow([*about, *numbers, own.where or "", _cut(own)])
    return text.getvalue()
