r"""LiveCodeBench's rows: their fields, and its tests, which are packed.

A row has ``question_title, question_content, platform, question_id, contest_id, contest_date, starter_code,
difficulty, public_test_cases, private_test_cases, metadata``. A test is ``{"input", "output", "testtype"}``; of type
``stdin`` it is what a program reads and prints, of type ``functional`` the arguments of the function
``metadata.func_name``, one JSON value per line, and its result. The private tests are a JSON list too, or that list
pickled, compressed and in base64. Nothing is ever unpickled: the pickle is read as a stream of operations, and refused
unless all that it does is to say one text.
"""

from __future__ import annotations

import base64
import binascii
import pickletools
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from innerloop import plain_json
from innerloop.errors import InputError, first_line
from innerloop.prompts import PROMPTS
from innerloop.questions.rows import scalar_text

LARGEST = 1 << 29  # bytes that a question's private tests may have when they are unpacked; the real ones stay below
_TEXT = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
_MOST_OPERATIONS = 16  # of a pickle that says one text; half of the bytes that it may have would take minutes to read
_AROUND = {"PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT", "STOP"}
_KEPT = ("platform", "contest_id", "contest_date", "question_title")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One test: what goes in and what has to come out, as the row says it."""

    input: str
    output: str


def read(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Our fields. The tests stay packed in the question; they are unpacked once here, so that bad ones are told."""
    for name in ("question_content", "public_test_cases", "private_test_cases"):
        if not isinstance(row.get(name), str):
            raise InputError(f"{where}: no text in the field {name}; give LiveCodeBench's own rows")
    function = _function(row, where)
    tests = {name: row[name] for name in ("public_test_cases", "private_test_cases")}
    kinds = {kind for kind, _ in cases(tests, where)}
    if len(kinds) != 1:
        raise InputError(f"{where}: {'several kinds of' if kinds else 'no'} tests; a question needs tests of one kind")
    if ("functional" in kinds) != (function is not None):
        raise InputError(f"{where}: tests of kind {kinds.pop()} {'with' if function else 'without'} metadata.func_name")
    starter = str(row.get("starter_code") or "").rstrip()
    question = row["question_content"].strip()
    return {
        "id": f"lcb-{scalar_text(row.get('question_id')) or where}",
        "question": f"{question}\n\nBegin with this code:\n\n```python\n{starter}\n```" if starter else question,
        "level": row.get("difficulty"),
        "prompt_template": PROMPTS["function" if function else "program"].template,
        "func_name": function,
        **tests,
        **{name: str(row[name]) for name in _KEPT if row.get(name)},
    }


def cases(parts: Mapping[str, Any], where: str) -> Iterator[tuple[str, Case]]:
    """The tests of a question's metadata, public ones first, each with its kind (``stdin`` or ``functional``).

    `InputError` that begins with ``where`` for what is no list of tests.
    """
    for name in ("public_test_cases", "private_test_cases"):
        text = parts.get(name) or "[]"
        if not isinstance(text, str):
            raise InputError(f"{where}: {name} is no text; take the row out or get the file again")
        if not text[:100].lstrip().startswith("["):
            text = unpack(text, f"{where}: {name}")
        try:
            found = plain_json.loads(text)
        except ValueError as error:
            raise InputError(
                f"{where}: {name} is no JSON ({first_line(error, 100)}); take the row out or get the file again"
            ) from error
        if not isinstance(found, list):
            raise InputError(f"{where}: {name} is no list of tests; take the row out or get the file again")
        for test in found:
            kind = test.get("testtype") if isinstance(test, dict) else None
            if kind not in ("stdin", "functional") or not all(
                isinstance(test.get(x), str) for x in ("input", "output")
            ):
                raise InputError(
                    f"{where}: {name} holds something else than tests with input, output and testtype (stdin or "
                    "functional); take the row out or get the file again"
                )
            yield kind, Case(input=test["input"], output=test["output"])


def unpack(text: str, where: str, *, largest: int = LARGEST) -> str:
    """The one text in a pickle, compressed and in base64. `InputError` for anything that is not exactly this."""
    remedy = "nothing in it was run; take the row out or get the file again"
    try:
        raw = base64.b64decode(text, validate=True)
        engine = zlib.decompressobj()
        pickled = engine.decompress(raw, largest)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise InputError(f"{where} is neither a JSON list nor compressed tests ({error}); {remedy}") from error
    if not engine.eof:
        fault = f"more than {largest >> 20} MiB" if engine.unconsumed_tail else "cut off"
        raise InputError(f"{where}: the compressed tests are {fault}; {remedy}")
    return _one_text(pickled, f"{where}: the pickle in it", remedy)


def _one_text(pickled: bytes, where: str, remedy: str) -> str:
    texts: list[str] = []
    other: str | None = None
    try:
        for number, (operation, argument, _) in enumerate(pickletools.genops(pickled)):
            if number > _MOST_OPERATIONS:
                other = f"more than {_MOST_OPERATIONS} operations"
                break
            if operation.name in _TEXT and isinstance(argument, str) and not texts:
                texts.append(argument)
            elif operation.name not in _AROUND:
                other = operation.name
                break
    except (ValueError, OverflowError) as error:
        raise InputError(f"{where} cannot be read ({str(error)[:100]}); {remedy}") from error
    if other is not None:
        raise InputError(f"{where} does more than to say one text ({other}); {remedy}")
    if not texts:
        raise InputError(f"{where} says no text; {remedy}")
    return texts[0]


def _function(row: Mapping[str, Any], where: str) -> str | None:
    """``metadata.func_name``; the metadata is JSON text."""
    metadata = row.get("metadata") or "{}"
    try:
        metadata = plain_json.loads(metadata) if isinstance(metadata, str) else metadata
    except ValueError as error:
        raise InputError(f"{where}: metadata is no JSON; take the row out or get the file again") from error
    name = metadata.get("func_name") if isinstance(metadata, Mapping) else None
    if name is not None and not (isinstance(name, str) and name.isidentifier()):
        raise InputError(f"{where}: metadata.func_name is no name of a function; take the row out")
    return name
