"""The files of a model folder: real ones, inside the folder, of no unreasonable size."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

from innerloop import plain_json
from innerloop.errors import InputError

_MOST_FILES = 10_000
_MIB = 1 << 20
_READ = (".json", ".jinja", ".safetensors", ".model", ".tiktoken", ".txt")  # what libraries open of themselves
_LARGE = {  # the longest that are in use have a third of it
    "tokenizer": 128 * _MIB,
    "vocab": 64 * _MIB,
    "merges": 64 * _MIB,
    "tekken": 64 * _MIB,
    "model.safetensors.index": 64 * _MIB,
}
_USUAL = 4 * _MIB  # of a configuration or a template


def check(folder: Path) -> None:
    """InputError for a link out of the folder, for what is no file, and for a file that is too large to be one."""
    inside = _roots(folder)
    for number, entry in enumerate(sorted(folder.iterdir())):
        if number >= _MOST_FILES:
            raise InputError(f"model folder {str(folder)!r} has more than {_MOST_FILES:,} files; name the model's own")
        if entry.suffix in _READ:
            _check_file(entry, inside)
        elif entry.name == "additional_chat_templates" and entry.is_dir():
            for template in sorted(entry.iterdir())[:_MOST_FILES]:
                _check_file(template, inside)
    if (folder / "adapter_config.json").exists():
        raise InputError(
            f"model folder {str(folder)!r} holds an adapter (adapter_config.json), and adapters are not loaded because "
            "they name other models; merge it where you trust it (merge_and_unload, save_pretrained)"
        )


def read_json(file: Path) -> dict[str, Any]:
    """The object that a file holds. InputError for anything else."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be loaded as text ({error}); fetch the file again") from error
    try:
        found = plain_json.loads(text, halves=True)
    except ValueError as error:
        raise InputError(f"{file}: cannot be loaded as JSON ({error}); fetch the file again") from error
    if not isinstance(found, dict):
        raise InputError(f"{file}: cannot be loaded, it is no JSON object; fetch the file again")
    return found


def _roots(folder: Path) -> tuple[Path, ...]:
    """Where files may lie: in the folder; of a snapshot of the hub's cache also in its repository's store."""
    real = folder.resolve()
    return (real, real.parent.parent) if real.parent.name == "snapshots" else (real,)


def _check_file(file: Path, inside: tuple[Path, ...]) -> None:
    try:
        real = file.resolve()
        state = real.stat()
    except (OSError, RuntimeError) as error:
        raise InputError(f"{file}: cannot be read ({error}); fetch the file again") from error
    if not any(real.is_relative_to(root) for root in inside):
        raise InputError(f"{file}: is a link out of its folder; put the file itself there")
    if not stat.S_ISREG(state.st_mode):
        raise InputError(f"{file}: is no regular file; put the file itself there")
    most = _most(file.name)
    if most is not None and state.st_size > most:
        raise InputError(f"{file}: has {state.st_size:,} bytes, and more than {most:,} are not read; fetch it again")


def _most(name: str) -> int | None:
    """The bytes that a file may have; None for weights."""
    if name.endswith(".safetensors"):
        return None
    if name.endswith((".json", ".txt", ".model", ".tiktoken")):
        return next((most for begin, most in _LARGE.items() if name.startswith(begin)), _USUAL)
    return _USUAL
