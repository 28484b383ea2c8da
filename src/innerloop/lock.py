"""One writer at a time in a folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from innerloop.atomic import cannot_write
from innerloop.errors import InputError


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the folder for this process; the kernel lets go when the process dies, however it dies."""
    try:
        handle = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        cannot_write(path, error)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
            raise InputError(
                f"{path}: in use by another innerloop process (pid {holder}); wait for it or choose another --out"
            ) from error
        except OSError as error:
            cannot_write(path / ".lock", error)
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
