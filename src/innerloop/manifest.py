"""``run.json``: what was run, with what, and how it ended; read as something that anybody may have written.

Everything that a verb or the page looks up in it is checked here once, so that what they find is of the kind they
expect. What is not known here may be of any kind: a newer version may have written it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from innerloop import plain_json
from innerloop.atomic import is_file, read_file
from innerloop.errors import InputError, first_line

NAME = "run.json"
FORMAT = 1  # of run.json and the shards; raise it when an older reader would misread a newer run
STATUSES = ("running", "complete", "interrupted", "failed")
_LARGEST = 1 << 26  # bytes
_LONGEST_NUMBER = 1 << 63

Manifest = dict[str, Any]
_Kind = tuple[str, Callable[[Any], bool]]  # in words, and the check


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _are(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _values_are(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


_TEXT: _Kind = ("a text", _is_text)
_TEXTS: _Kind = ("a list of texts", _are(_is_text))
_COUNT: _Kind = ("a whole number from 0 up", _is_count)
_NUMBER: _Kind = ("a number", _is_number)
_OBJECT: _Kind = ("an object", _is_object)

# Of each verb's entry, by the fields that lead to it; every one may be missing or null.
_KNOWN: dict[tuple[str, ...], _Kind] = {
    ("status",): (f"one of {', '.join(STATUSES)}", lambda value: value in STATUSES),
    ("command",): _TEXTS,
    ("configuration",): _OBJECT,
    ("changes",): ("a list of objects", _are(_is_object)),
    ("versions",): ("an object of texts", _values_are(_is_text)),
    ("seed",): _COUNT,
    ("model",): _OBJECT,
    ("notes",): _OBJECT,
    ("started",): _TEXT,
    ("finished",): _TEXT,
    ("model", "name"): _TEXT,
    ("model", "parameters"): _COUNT,
    ("model", "dtype"): _TEXT,
    ("model", "fingerprint"): _TEXT,
    ("configuration", "questions"): ("a text, or a list of texts", lambda value: _is_text(value) or _TEXTS[1](value)),
    ("configuration", "k"): ("a list of whole numbers from 1 up", _are(lambda value: _is_count(value) and value > 0)),
    ("configuration", "tau"): ("a list of numbers from 0 to 1", _are(lambda v: _is_number(v) and 0 <= v <= 1)),
    ("configuration", "compare"): _TEXTS,
    ("configuration", "trained_on"): _TEXTS,
    ("configuration", "verdicts"): _TEXT,
    ("configuration", "seed"): _COUNT,
    ("notes", "series"): _TEXTS,
    ("notes", "compared"): _COUNT,
    ("notes", "no_control"): ("an object of texts", _values_are(_is_text)),
    ("notes", "prompts"): ("an object of whole numbers", _values_are(_is_count)),
    ("notes", "rows"): _COUNT,
    ("notes", "dropped"): _COUNT,
    ("notes", "trained"): ("true or false", lambda value: isinstance(value, bool)),
    ("notes", "ended_after_minutes"): _NUMBER,
    ("notes", "stopped"): _TEXT,
    ("notes", "engine"): _TEXT,
    ("notes", "api"): _TEXT,
}


def read(folder: Path) -> Manifest:
    """The manifest of a run folder. `InputError` says in one line what is wrong with it."""
    path = folder / NAME
    try:
        text = read_file(path, most=_LARGEST).decode("utf-8")
        manifest = plain_json.loads(text)
    except InputError:
        raise
    except (ValueError, OSError) as error:
        said = first_line(error, 200)
        raise InputError(f"{path}: cannot be read ({said}); restore it or choose another folder") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("stages"), dict):
        raise InputError(f"{path}: not a run's manifest (no 'stages'); restore it or choose another folder")
    if manifest.get("format") != FORMAT or isinstance(manifest["format"], bool):
        raise InputError(
            f"{path}: format {str(manifest.get('format'))[:40]}, but this version of innerloop reads format {FORMAT}; "
            f"use the version that wrote it"
        )
    for verb, entry in manifest["stages"].items():
        _check(entry, f"{path}: stages, {verb[:40]}")
    return manifest


def there(folder: Path) -> bool:
    """Whether a folder holds a manifest."""
    return is_file(folder / NAME)


def _check(entry: Any, where: str) -> None:
    """`InputError` for a field that is not of its kind."""
    if not isinstance(entry, dict):
        raise InputError(f"{where}: not an object but a {type(entry).__name__}; {_REMEDY}")
    for names, (words, check) in _KNOWN.items():
        value: Any = entry
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None and not check(value):
            raise InputError(f"{where}, {', '.join(names)}: is {str(value)[:40]!r} and must be {words}; {_REMEDY}")
    if _has_long_number(entry):
        raise InputError(f"{where}: holds a number of more than 64 bits; {_REMEDY}")


_REMEDY = "restore run.json, or choose another folder"


def _has_long_number(value: Any) -> bool:
    waiting = [value]
    while waiting:
        own = waiting.pop()
        if isinstance(own, dict):
            waiting += own.values()
        elif isinstance(own, list):
            waiting += own
        elif isinstance(own, int) and abs(own) >= _LONGEST_NUMBER:
            return True
    return False
