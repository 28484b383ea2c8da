"""Whole checkpoints of a training, and which of them to go on from.

The last file of a checkpoint is ``whole.json``: the seconds of training until then, and of every other file its size
and a digest. It is written when all others are on the disk, so without it a kill came in between. Whatever is found to
be damaged later (a disk that lost a part, a copy that was cut off) is set aside, and the one before is used.

A checkpoint may come from somebody else. Weights are read from safetensors alone; what transformers keeps as pickles is
read by ``torch.load(weights_only=True)``, which builds tensors and plain values and calls nothing else. What only a
plain unpickling reads (DeepSpeed's, sharded FSDP's) is taken from nobody but the user who wrote it
(`innerloop.outer.seal`).
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import zipfile
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from innerloop import plain_json
from innerloop.atomic import is_file, names_in, read_file, refuse_links, remove_folder, rename, write_file
from innerloop.errors import InputError, first_line
from innerloop.outer import seal

log = logging.getLogger("innerloop")

_MARK = "whole.json"
_FOLDER = re.compile(r"checkpoint-([0-9]{1,12})", re.ASCII)
_DIGESTED_WHOLE = 1 << 26  # bytes of a file that is digested in full; of larger ones both ends are
_END = 1 << 20
_LARGEST_MARK = 1 << 24
_LARGEST_STATE = 1 << 28
_LARGEST_PICKLE = 1 << 26  # of a file of tensors: their names and shapes
_NEVER_READ = "training_args.bin"  # a pickle that transformers writes into each checkpoint
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors", "pytorch_model_fsdp.bin")
_TENSORS = (".pt", ".pth", ".bin")


def mark(folder: Path, seconds: float) -> None:
    """Mark a checkpoint, in a run's ``checkpoints``, as whole, once all of its files are on the disk."""
    files = {}
    for name in _files(folder):
        handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        files[name] = _about(folder / name)
    content: dict[str, Any] = {"seconds": seconds, "files": files}
    if _unpickled(files):
        content["seal"] = seal.of(files)
    write_file(folder / _MARK, json.dumps(content).encode(), root=folder.parent.parent)


def last_whole(folder: Path, root: Path) -> tuple[Path | None, float]:
    """The newest whole checkpoint of a run folder (``root``), and its seconds of training.

    What a kill left half written is removed, damaged ones are set aside with a warning. `InputError` where there are
    only damaged ones, and for links and pipes.
    """
    refuse_links(folder, root)
    numbers = {int(match[1]): name for name in names_in(folder, root) if (match := _FOLDER.fullmatch(name))}
    damaged: list[tuple[Path, str]] = []
    for number, name in sorted(numbers.items(), reverse=True):
        checkpoint = folder / name
        if not is_file(checkpoint / _MARK, root=root):
            remove_folder(checkpoint, root)
            continue
        try:
            seconds = _checked(checkpoint, number)
        except (ValueError, OSError) as error:
            damaged.append((checkpoint, first_line(error, 200)))
            continue
        for other, reason in damaged:
            aside = f"damaged-{other.name}"
            remove_folder(folder / aside, root)
            rename(other, aside, root)
            log.warning("%s is damaged (%s): kept as %s, the training goes on from %s", other, reason, aside, name)
        return checkpoint, seconds
    if damaged:
        told = "; ".join(f"{checkpoint.name}: {reason}" for checkpoint, reason in damaged)
        raise InputError(
            f"{folder}: no checkpoint is whole ({told}); restore one, or remove {folder} to train from the first step"
        )
    return None, 0.0


def any_there(folder: Path, root: Path) -> bool:
    """Whether a run folder holds a checkpoint of transformers' trainers, whole or not."""
    return any(_FOLDER.fullmatch(name) for name in names_in(folder, root))


def _checked(folder: Path, number: int) -> float:
    """The seconds that a whole checkpoint says. ``ValueError`` and ``OSError`` say what is wrong with it."""
    try:
        about = plain_json.loads(read_file(folder / _MARK, most=_LARGEST_MARK).decode())
    except ValueError as error:
        raise ValueError(f"{_MARK} cannot be read: {first_line(error, 100)}") from error
    seconds = about.get("seconds") if isinstance(about, dict) else None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not (0 <= seconds < math.inf):
        raise ValueError(f"{_MARK} says no seconds")
    there = set(_files(folder))
    files = about.get("files")
    if files is not None:
        _compare(folder, files, there)
    elif missing := [name for name in ("optimizer.pt", "scheduler.pt") if name not in there and not _unpickled(there)]:
        raise ValueError(f"{missing[0]} is missing")  # an older version noted no files
    if _unpickled(there) and not (isinstance(files, dict) and seal.holds(files, about.get("seal"))):
        raise ValueError("it holds pickles that can run code, and was not written here by you")
    if not there.intersection(_WEIGHTS) and not _unpickled(there):
        raise ValueError(f"it has no weights ({', '.join(_WEIGHTS[:3])})")
    for name in sorted(there):
        _look_into(folder / name, name)
    _check_state(folder, number)
    return float(seconds)


def _compare(folder: Path, files: Any, there: set[str]) -> None:
    """``ValueError`` where a file is not as it was when the checkpoint was marked."""
    if not isinstance(files, dict):
        raise ValueError(f"{_MARK} names no files")
    for name, noted in files.items():
        if name not in there:
            raise ValueError(f"{name} is missing")
        found = _about(folder / name)
        if not isinstance(noted, dict) or found["size"] != noted.get("size"):
            was = noted.get("size") if isinstance(noted, dict) else None
            raise ValueError(f"{name} has {found['size']} bytes and had {was}")
        if found["digest"] != noted.get("digest"):
            raise ValueError(f"{name} is not as it was written")


def _files(folder: Path) -> Iterator[str]:
    """The files of a checkpoint by their paths in it, but for the mark."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = (Path(place) / name).relative_to(folder)
            if str(path) != _MARK:
                yield path.as_posix()


def _about(path: Path) -> dict[str, Any]:
    """Size and digest of a file; what pickles are read from is digested in full, and so are small files."""
    digest = sha256()
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        whole = size <= _DIGESTED_WHOLE or path.parent.name.startswith("global_step") or path.suffix == ".distcp"
        while piece := file.read(_END):
            digest.update(piece)
            if not whole and file.tell() == _END:
                file.seek(size - _END)
    return {"size": size, "digest": digest.hexdigest()}


def _unpickled(names: Iterable[str]) -> bool:
    """Whether there is something among the files of a checkpoint that is read by plain unpickling."""
    return any(part == ".metadata" or part.startswith("global_step") for name in names for part in name.split("/"))


def _look_into(path: Path, name: str) -> None:
    """``ValueError`` for a file that cannot be loaded; tensors are looked at, not read."""
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                file.keys()
        except SafetensorError as error:
            raise ValueError(f"{name} cannot be read: {first_line(error, 100)}") from error
    elif path.suffix in _TENSORS and "/" not in name and name != _NEVER_READ:
        _look_into_tensors(path, name)


def _look_into_tensors(path: Path, name: str) -> None:
    import pickle

    import torch
    from transformers.trainer_pt_utils import safe_globals

    try:
        with zipfile.ZipFile(path) as packed:
            for entry in packed.infolist():
                if entry.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"{name} is compressed, and torch does not do that")
                if entry.filename.endswith("data.pkl") and entry.file_size > _LARGEST_PICKLE:
                    raise ValueError(f"{name} describes its tensors in {entry.file_size >> 20} MiB")
        with safe_globals():
            torch.load(path, weights_only=True, mmap=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise ValueError(f"{name} holds something else than tensors and plain values; none of it was run") from error
    except (zipfile.BadZipFile, RuntimeError, EOFError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{name} cannot be read: {first_line(error, 100)}") from error


def _check_state(folder: Path, number: int) -> None:
    """``ValueError`` where the trainer's own account of the training is not that of this checkpoint."""
    name = "trainer_state.json"
    try:
        state = plain_json.loads(read_file(folder / name, most=_LARGEST_STATE).decode())
    except FileNotFoundError:
        raise ValueError(f"{name} is missing") from None
    except ValueError as error:
        raise ValueError(f"{name} cannot be read: {first_line(error, 100)}") from error
    history = state.get("log_history") if isinstance(state, dict) else None
    if not isinstance(history, list) or not all(isinstance(step, dict) for step in history):
        raise ValueError(f"{name} has no log_history")
    if state.get("global_step") != number:
        raise ValueError(f"{name} is of step {str(state.get('global_step'))[:20]}")
