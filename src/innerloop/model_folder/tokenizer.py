"""tokenizer.json and what stands beside it: nothing in it may make a short text long, or take for ever."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from innerloop.errors import InputError
from innerloop.model_folder.files import read_json
from innerloop.model_folder.sentencepiece import check_pieces
from innerloop.model_folder.split_regex import SlowError
from innerloop.model_folder.split_regex import check as check_regex

_MOST_TOKENS, _MOST_ADDED = 1 << 21, 1 << 17
_LONGEST_PIECE, _LONGEST_ADDED, _LONGEST_REPLACEMENT = 4096, 4096, 1024  # characters
_MOST_STEPS, _MOST_MARKS = 64, 64
_GROWTH = 64  # times: how much longer all replacements together may make a text
_FIXED = 1 << 20  # tokens of padding
_WORD = 10_000  # characters of a word that is looked up letter by letter
_CHARSMAP = 128  # bytes that one character may be replaced by
_FILE = re.compile(r"tokenizer[\w.-]*\.json")
_CLASS = re.compile(r"(?!Auto)\w{1,80}(?:Tokenizer|TokenizerFast|Backend)", re.ASCII)


class _RefusedError(ValueError):
    """What a file must not hold; the message names the field."""


def check(folder: Path) -> None:
    """InputError names the file and the field that no tokenizer is to be made from."""
    for name in ("tokenizer_config.json", "config.json"):
        if (folder / name).exists():
            _run(_check_settings, folder / name)
    full = [file for file in sorted(folder.glob("tokenizer*.json")) if file.name != "tokenizer_config.json"]
    for file in full:
        _run(_check_full, file)
    if not full:
        for file in sorted(folder.glob("*.model")):
            try:
                check_pieces(file.read_bytes(), _MOST_TOKENS, _LONGEST_PIECE)
            except (OSError, ValueError) as error:
                raise InputError(f"{file}: {error}; fetch the file again") from error


def _run(checked: Any, file: Path) -> None:
    try:
        checked(read_json(file))
    except _RefusedError as error:
        raise InputError(f"{file}: {error}; fetch the file again, or use another tokenizer") from error
    except (TypeError, AttributeError, LookupError) as error:
        raise InputError(f"{file}: it is not made as such files are ({error}); fetch the file again") from error


def _check_settings(found: dict[str, Any]) -> None:
    """Which class makes the tokenizer, and from which files."""
    name = found.get("tokenizer_class")
    if name is not None and not (isinstance(name, str) and _CLASS.fullmatch(name)):
        raise _RefusedError(f"tokenizer_class is {str(name)[:60]!r}, which is no class of tokenizers")
    if found.get("gguf_file") is not None:
        raise _RefusedError(f"gguf_file is {str(found['gguf_file'])[:60]!r}: name the GGUF file itself as the model")
    files = found.get("fast_tokenizer_files") or []
    if not isinstance(files, list) or not all(_FILE.fullmatch(str(file)) for file in files):
        raise _RefusedError("fast_tokenizer_files names what is no tokenizer*.json")
    added = found.get("added_tokens_decoder") or {}
    extra = found.get("extra_special_tokens") or found.get("additional_special_tokens") or []
    if not isinstance(added, dict) or not isinstance(extra, dict | list):
        raise _RefusedError("added_tokens_decoder is no object, or extra_special_tokens no list")
    _check_added([*added.values(), *(extra.values() if isinstance(extra, dict) else extra)])


def _check_full(found: dict[str, Any]) -> None:
    model = found.get("model")
    if not isinstance(model, dict):
        raise _RefusedError("it has no model")
    _check_model(model)
    _check_added(found.get("added_tokens") or [])
    padding, truncation = found.get("padding") or {}, found.get("truncation") or {}
    strategy = padding.get("strategy") if isinstance(padding, dict) else None
    if isinstance(strategy, dict) and not _small(strategy.get("Fixed"), _FIXED):
        raise _RefusedError(f"padding is to {str(strategy)[:60]} tokens")
    for name, value in (*_items(padding), *_items(truncation)):
        if name in ("pad_to_multiple_of", "stride") and not _small(value, _FIXED):
            raise _RefusedError(f"{name} is {str(value)[:40]}")
    parts = {name: list(_steps(found.get(name))) for name in ("normalizer", "pre_tokenizer", "decoder")}
    for name, steps in parts.items():
        _check_steps(name, steps)
    for step in _steps(found.get("post_processor")):
        _check_marks(step)


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _small(value: Any, most: int) -> bool:
    return value is None or (type(value) is int and 0 <= value <= most)


def _check_model(model: dict[str, Any]) -> None:
    vocabulary, merges = model.get("vocab") or {}, model.get("merges") or []
    if not isinstance(vocabulary, dict | list) or not isinstance(merges, list):
        raise _RefusedError("vocab is no object and no list, or merges is no list")
    if max(len(vocabulary), len(merges)) > _MOST_TOKENS:
        raise _RefusedError(f"it has {len(vocabulary):,} tokens and {len(merges):,} merges")
    pieces = vocabulary if isinstance(vocabulary, dict) else [str(entry[0]) for entry in vocabulary if entry]
    if (longest := max(map(len, pieces), default=0)) > _LONGEST_PIECE:
        raise _RefusedError(f"vocab holds a piece of {longest:,} characters")
    for name in ("continuing_subword_prefix", "end_of_word_suffix", "unk_token"):
        if len(str(model.get(name) or "")) > _LONGEST_REPLACEMENT:
            raise _RefusedError(f"{name} has {len(str(model[name])):,} characters")
    if not _small(model.get("max_input_chars_per_word"), _WORD):
        raise _RefusedError(f"max_input_chars_per_word is {str(model['max_input_chars_per_word'])[:40]}")


def _check_added(added: Any) -> None:
    if not isinstance(added, list) or len(added) > _MOST_ADDED:
        raise _RefusedError(f"it adds no list of at most {_MOST_ADDED:,} tokens")
    for token in added:
        text = token.get("content") if isinstance(token, dict) else token
        if not isinstance(text, str) or len(text) > _LONGEST_ADDED:
            raise _RefusedError(f"it adds the token {str(text)[:40]!r}, which is no text of a token's length")


def _steps(part: Any) -> Iterator[dict[str, Any]]:
    """The steps of a part, those of sequences one by one."""
    if not isinstance(part, dict):
        return
    yield part
    for name in ("normalizers", "pretokenizers", "decoders", "processors"):
        inner = part.get(name)
        for step in inner if isinstance(inner, list) else ():
            yield from _steps(step)


def _check_steps(name: str, steps: list[dict[str, Any]]) -> None:
    """Expressions that end, and replacements that do not pile up."""
    if len(steps) > _MOST_STEPS:
        raise _RefusedError(f"{name} has {len(steps):,} steps")
    growth = 1.0
    for step in steps:
        pattern = step.get("pattern")
        if isinstance(pattern, dict) and isinstance(expression := pattern.get("Regex"), str):
            try:
                check_regex(expression)
            except SlowError as error:
                raise _RefusedError(f"the expression {expression[:60]!r} in its {name} {error}") from error
        growth *= _growth(step, pattern)
    if growth > _GROWTH:
        raise _RefusedError(f"{name} may make a text {growth:,.0f} times as long")


def _growth(step: dict[str, Any], pattern: Any) -> float:
    """How many times as long a step may make a text, at most."""
    for name in ("content", "prepend", "replacement", "prefix", "suffix"):
        if isinstance(text := step.get(name), str) and len(text) > _LONGEST_REPLACEMENT:
            raise _RefusedError(f"{name} of {step.get('type')} has {len(text):,} characters")
    if isinstance(charsmap := step.get("precompiled_charsmap"), str):
        _check_charsmap(charsmap)
    if step.get("type") != "Replace":
        return 1.0
    text, replaced = step.get("content") or "", pattern.get("String") if isinstance(pattern, dict) else pattern
    if isinstance(replaced, str) and replaced:
        return max(1.0, len(str(text).encode()) / len(replaced.encode()))
    return 1.0 + len(str(text).encode())  # an expression may match between all characters


def _check_charsmap(charsmap: str) -> None:
    """sentencepiece's table of replacements: the length of an index, the index, and texts that end with NUL."""
    try:
        data = base64.b64decode(charsmap, validate=True)
    except ValueError:
        raise _RefusedError("precompiled_charsmap is no base64") from None
    index = int.from_bytes(data[:4], "little")
    if data and not (index % 4 == 0 and 4 + index <= len(data)):
        raise _RefusedError(f"precompiled_charsmap has an index of {index:,} bytes in {len(data):,}")
    if (longest := max(map(len, data[4 + index :].split(b"\0")))) > _CHARSMAP:
        raise _RefusedError(f"precompiled_charsmap replaces a character by {longest:,} bytes")


def _check_marks(step: dict[str, Any]) -> None:
    """What is put before and behind every text."""
    special = step.get("special_tokens")
    marks = [entry["ids"] for _, entry in _items(special) if isinstance(entry, dict)]
    count = sum(map(len, marks))
    count += sum(len(step[name]) for name in ("single", "pair") if isinstance(step.get(name), list))
    if count > _MOST_MARKS:
        raise _RefusedError(f"post_processor puts {count:,} tokens around every text")
