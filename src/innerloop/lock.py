"""One writer at a time in a folder."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from innerloop.atomic import cannot_write, linked
from innerloop.errors import InputError

_OPENING = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the folder for this process; the kernel lets go when the process dies, however it dies."""
    file = path / ".lock"
    try:
        handle = os.open(file, _OPENING, 0o666)
    except OSError as error:
        if file.is_symlink():
            linked(file)
        cannot_write(path, error)
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise InputError(f"{file}: is no file but a pipe or device; remove it")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
            raise InputError(
                f"{path}: in use by another innerloop process (pid {holder}); wait for it or choose another --out"
            ) from error
        except OSError as error:
            cannot_write(file, error)
        if about.st_nlink == 1:  # what has another name elsewhere may be somebody's file
            with suppress(OSError):  # the pid only helps the reader of a message
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        _release_in_forked_workers()
        _held.add(handle)
        yield
    finally:
        _held.discard(handle)
        os.close(handle)


_held: set[int] = set()


@cache
def _release_in_forked_workers() -> None:
    """A forked worker must not keep the folder locked after its parent was killed."""

    def release() -> None:
        while _held:
            os.close(_held.pop())

    os.register_at_fork(after_in_child=release)
