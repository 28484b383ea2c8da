"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import pyarrow as pa

from innerloop.errors import InputError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_file(path: Path, content: bytes | pa.Buffer) -> Path:
    """Write a file whole or not at all: a temporary name in the same folder, fsync, rename.

    Raises ``InputError`` when the disk is full or the folder cannot be written, and leaves nothing behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            try:
                rest = memoryview(content)
                while rest:
                    rest = rest[os.write(handle, rest) :]
                os.fsync(handle)
            finally:
                os.close(handle)
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        cannot_write(path, error)
    return path


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are missing."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        cannot_write(path, error)


def cannot_write(path: Path, error: OSError) -> NoReturn:
    """Raise the ``InputError`` that says why something cannot be written there, and what to do."""
    reason = error.strerror or str(error)
    if error.errno in _NO_SPACE:
        remedy = "free some space and run the same command again, what was finished is kept"
        raise InputError(f"{path}: cannot write, {reason}; {remedy}") from error
    raise InputError(f"{path}: cannot write, {reason}; choose a folder that can be written with --out") from error


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are as safe as the files themselves."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
