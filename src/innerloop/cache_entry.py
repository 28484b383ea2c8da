"""A folder of the model cache: sealed when it is written, and held against its seal each time it is used.

The seal lists every file with its size, time of change and digest. A folder of links, one that another user wrote or
could change, and one whose files are not as they were written is not used. Large files are read again only where their
time of change is another one, so that a start does not wait for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

from innerloop.errors import InputError

SEAL = "innerloop.json"
_READ_ANYWAY = 1 << 24  # bytes of a file whose digest is looked at each time


def seal(folder: Path, origin: dict[str, Any]) -> None:
    """Write the seal of a finished folder, and let nobody else change it."""
    files = {}
    for file in sorted(folder.iterdir()):
        if file.name != SEAL:
            file.chmod(0o644)
            state = file.stat()
            files[file.name] = [state.st_size, state.st_mtime_ns, _digest(file)]
    (folder / SEAL).write_text(json.dumps({**origin, "files": files}, indent=1) + "\n", encoding="utf-8")
    (folder / SEAL).chmod(0o644)
    folder.chmod(0o755)


def is_whole(folder: Path) -> bool:
    """Whether the folder is there, as it was sealed. InputError where it is there and is not."""
    try:
        state = folder.lstat()
    except OSError:
        return False
    if not stat.S_ISDIR(state.st_mode):
        _refuse(folder, "is no folder")
    _check_owner(folder, folder)
    files = _sealed(folder)
    if set(files) | {SEAL} != {file.name for file in folder.iterdir()}:
        _refuse(folder, "is damaged")
    for name, (size, changed, digest) in files.items():
        _check_owner(folder, folder / name)
        now = (folder / name).lstat()
        known = now.st_size == size and (now.st_mtime_ns == changed and size > _READ_ANYWAY)
        if not known and (now.st_size != size or _digest(folder / name) != digest):
            _refuse(folder, f"is damaged ({name} has changed)")
    return True


def _sealed(folder: Path) -> dict[str, tuple[int, int, str]]:
    """What the seal says of each file."""
    try:
        _check_owner(folder, folder / SEAL)
        said = json.loads((folder / SEAL).read_text(encoding="utf-8"))["files"]
        return {str(name): (int(size), int(changed), str(digest)) for name, (size, changed, digest) in said.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        _refuse(folder, "is damaged")


def _check_owner(folder: Path, path: Path) -> None:
    """A file or folder of this user, or of root, that nobody else can write."""
    state = path.lstat()
    if stat.S_ISLNK(state.st_mode) or not (stat.S_ISREG(state.st_mode) or path == folder):
        _refuse(folder, f"is damaged ({path.name} is no file)")
    if state.st_uid not in (os.geteuid(), 0) or state.st_mode & 0o022:
        _refuse(folder, f"is not yours alone ({path.name} can be changed by others)")


def _refuse(folder: Path, why: str) -> NoReturn:
    raise InputError(f"the model cache {str(folder)!r} {why}; delete that folder and try again")


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=20)).hexdigest()
