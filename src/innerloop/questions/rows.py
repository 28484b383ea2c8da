"""From a row, whatever source it came from, to a checked ``Question``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from innerloop import plain_json
from innerloop.errors import InputError, first_line
from innerloop.nearest import closest
from innerloop.prompts import resolve
from innerloop.schema import Question

FIELDS = (
    *("id", "question", "answer", "solution", "domain", "level", "verifier", "candidates", "metadata"),
    "prompt_template",  # a name of `innerloop.prompts`, or a template
    "system_turn",
)
_TESTS = ("tests", "public_test_cases", "private_test_cases")  # where they judge code, an answer may be missing

MOST = 10_000_000  # rows that are taken; a small file may hold more

Row = tuple[str, Mapping[str, Any]]  # where it stands ("data.jsonl, line 3"), and what stands there


def collect(rows: Iterable[Row], prefix: str, limit: int | None) -> list[Question]:
    """The first ``limit`` questions; a row without an id is called ``PREFIX-N``, N counting all rows from 0.

    Rows after the limit are not looked at. ``InputError`` for a row that is no question and for an id met twice.
    """
    check_limit(limit)
    questions: list[Question] = []
    seen: dict[str, str] = {}
    for number, (where, row) in enumerate(rows):
        question = build(row, where, f"{prefix}-{number}")
        if question.id in seen:
            raise InputError(
                f"{where}: the id '{question.id}' is already that of {seen[question.id]}; give each row its own id"
            )
        seen[question.id] = where
        questions.append(question)
        if len(questions) > MOST:
            raise InputError(f"{where}: more than {MOST:,} questions; take fewer with --limit")
        if len(questions) == limit:
            break
    return questions


def check_limit(limit: int | None) -> None:
    """``InputError`` for a limit that takes nothing."""
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}: give a number of questions from 1 up, or leave it out to take all")


def build(row: Mapping[str, Any], where: str, default_id: str) -> Question:
    """One checked question; fields that a question does not have are kept as JSON in ``metadata``."""
    check_row(row, where)
    question = text_in(row, "question", where)
    answer = text_in(row, "answer", where)
    verifier = _optional(row, "verifier", where)
    tested = verifier == "code" and any(row.get(name) for name in _TESTS)
    if tested and answer is None:
        answer = ""
    for name, value in (("question", question), ("answer", answer)):
        if value is None:
            raise InputError(f"{where}: no {name}{_alias(name, row)}; every row needs a question and an answer")
        if not value.strip() and not (tested and name == "answer"):
            raise InputError(f"{where}: the {name} is empty; fill it in or take the row out")
    assert question is not None
    assert answer is not None
    template = _optional(row, "prompt_template", where)
    prompt = None if template is None else resolve(template, f"{where}: prompt_template")
    system = _optional(row, "system_turn", where)
    return Question(
        id=_optional(row, "id", where) or default_id,
        question=question,
        answer=answer if verifier == "code" else answer.strip(),  # in code, the indentation is part of it
        solution=_optional(row, "solution", where),
        domain=_optional(row, "domain", where),
        level=_optional(row, "level", where),
        verifier=verifier,
        candidates=_candidates(row.get("candidates"), where),
        metadata=_metadata(row, where),
        prompt_template=None if prompt is None else prompt.template,
        system_turn=prompt.system if prompt is not None and system is None else system,
    )


def check_row(row: Any, where: str) -> None:
    """``InputError`` for what is no row with named fields."""
    if not isinstance(row, Mapping):
        raise InputError(f"{where}: not an object but a {type(row).__name__}; write a row as an object with fields")
    if any(not isinstance(name, str) for name in row):
        raise InputError(f"{where}: more cells than the header has columns; quote the cells that contain commas")


def scalar_text(value: Any) -> str | None:
    """A text, or a number as text: 18 → "18", 18.0 → "18" (tables turn whole numbers into floats), 0.5 → "0.5".

    ``None`` for what is neither, and for numbers that are not written out.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    try:
        return str(value) if isinstance(value, int) or math.isfinite(value) else None
    except ValueError:  # Python writes no integer of more than 4300 digits; a Decimal may be no number
        return None


def missing(value: Any) -> bool:
    """Whether a row's field says nothing; NaN is a table's way to do so."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def text_in(row: Mapping[str, Any], name: str, where: str) -> str | None:
    """A field as text, None where it says nothing. ``InputError`` for one that is no text and for half characters."""
    value = row.get(name)
    if missing(value):
        return None
    text = scalar_text(value)
    if text is None:
        raise InputError(f"{where}: {name} is a {type(value).__name__} ({shown(value)}); write it as text in quotes")
    return _whole(text, name, where)


def shown(value: Any) -> str:
    """The beginning of any value, for a message."""
    try:
        return str(value)[:40]
    except (ValueError, RecursionError):
        return "…"


def _whole(text: str, name: str, where: str) -> str:
    """The text itself, where every character of it can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{where}: {name} holds half a character (a lone \\ud800…); write the whole one") from None
    return text


def _optional(row: Mapping[str, Any], name: str, where: str) -> str | None:
    text = text_in(row, name, where)
    return text if text and text.strip() else None


def _alias(name: str, row: Mapping[str, Any]) -> str:
    """A hint where another field of the row seems to be the one that is missing."""
    alike = {"question": ("problem", "prompt", "query", "input"), "answer": ("final_answer", "expected_answer", "gold")}
    others = [field for field in row if field not in FIELDS]
    alias = next((field for field in others if field.lower() in alike[name]), None) or closest(name, others)
    return f" (rename its field '{alias}'?)" if alias else ""


def _candidates(value: Any, where: str) -> tuple[str, ...]:
    """A list of texts or numbers; in a CSV cell the list stands as JSON."""
    if missing(value) or value == "":
        return ()
    if isinstance(value, str):
        try:
            value = plain_json.loads(value)
        except ValueError:
            raise InputError(f'{where}: candidates is no list; write it as JSON, e.g. ["12", "14"]') from None
    texts = [scalar_text(item) for item in value] if isinstance(value, list | tuple) else [None]
    if not all(text and text.strip() for text in texts):
        raise InputError(f'{where}: candidates must be a list of answers that are not empty, e.g. ["12", "14"]')
    return tuple(_whole(text, "candidates", where) for text in texts if text)


def _metadata(row: Mapping[str, Any], where: str) -> str | None:
    extra = {name: value for name, value in row.items() if name not in FIELDS and not missing(value)}
    own = row.get("metadata")
    if missing(own) or own == "":
        return _json(extra, where) if extra else None
    if isinstance(own, str):
        text = _whole(own, "metadata", where)
        try:
            own = plain_json.loads(text)
        except json.JSONDecodeError:
            if not extra:
                return text  # nothing that reads metadata makes anything of it
            raise InputError(f"{where}: metadata is not JSON; write an object, or rename the field") from None
        except ValueError as error:
            raise InputError(f"{where}: metadata cannot be read ({first_line(error, 200)}); write it anew") from None
        if not extra:
            return text
    own = own if isinstance(own, Mapping) else {"metadata": own}
    twice = next((name for name in extra if name in own and own[name] != extra[name]), None)
    if twice is not None:
        raise InputError(f"{where}: metadata holds another {twice!r} than the field of that name; take one of them out")
    return _json({**own, **extra}, where)


def _json(value: Any, where: str) -> str:
    """A value as text that `plain_json` reads."""
    try:
        text = json.dumps(value, default=str, sort_keys=True)
        plain_json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(
            f"{where}: fields that cannot be kept ({first_line(error, 200)}); take them out, or write them as text"
        ) from None
    return text


def numbered(rows: Iterable[Mapping[str, Any]], name: str, start: int = 1) -> Iterator[Row]:
    """Rows with their place, ``NAME, row N``."""
    return ((f"{name}, row {number}", row) for number, row in enumerate(rows, start=start))
