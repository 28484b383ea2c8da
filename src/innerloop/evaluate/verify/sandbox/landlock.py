"""File rules that the kernel holds for a process that asked for them: Landlock, Linux 5.13 and later.

The file also runs as text inside a sandbox that sees no file of ours, so it imports nothing but the standard library.
Landlock governs opening, listing, making, renaming and removing files, whichever way a program takes to it. It does not
govern what is asked about a file (``stat``), nor its permissions and times: `seccomp` refuses to change those.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every machine
_PATH_BENEATH = 1
_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_ALL = ((1 << 13) - 1, 1 << 13, 1 << 14, 1 << 15)  # as of version 1, then REFER (2), TRUNCATE (3), IOCTL_DEV (5)
_SINCE = (1, 2, 3, 5)
_EXECUTE = 1 << 0
_OF_FILES = _WRITE_FILE | _READ_FILE | 1 << 14
_NETWORK, _SCOPES = 0b11, 0b11  # binding and connecting of TCP (4); abstract sockets and signals (6)


def prepare(readable: Iterable[str], writable: Iterable[str]) -> int | None:
    """Opens a set of rules: reading below the first paths, all but running programs below the second.

    Paths that do not exist are left out. None where the kernel knows no Landlock.
    """
    version = _call(_CREATE, None, ctypes.c_size_t(0), 1) if sys.platform == "linux" else -1
    if version < 1:
        return None
    handled = sum(right for right, since in zip(_ALL, _SINCE) if version >= since)  # noqa: B905  # as many
    fields = [handled, *([_NETWORK] if version >= 4 else []), *([_SCOPES] if version >= 6 else [])]
    rules = _call(_CREATE, struct.pack(f"={len(fields)}Q", *fields), ctypes.c_size_t(8 * len(fields)), 0)
    if rules < 0:
        return None
    for paths, rights in ((readable, _READ_FILE | _READ_DIR), (writable, handled & ~_EXECUTE)):
        for path in paths:
            with contextlib.suppress(FileNotFoundError, PermissionError, NotADirectoryError):
                _allow(rules, path, rights & handled)
    return rules


def enforce(rules: int) -> None:
    """Holds the rules for this thread and all that it starts from now on; there is no way back."""
    _no_new_privileges()
    if _call(_RESTRICT, rules, 0):
        raise OSError(ctypes.get_errno(), "the kernel does not take its own Landlock rules")
    os.close(rules)


def _allow(rules: int, path: str, rights: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= _OF_FILES
        _call(_ADD, rules, _PATH_BENEATH, struct.pack("=Qi", rights, place), 0)
    finally:
        os.close(place)


def _no_new_privileges() -> None:
    zero = ctypes.c_ulong(0)
    ctypes.CDLL(None).prctl(38, ctypes.c_ulong(1), zero, zero, zero)


def _call(number: int, *arguments: object) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    return int(library.syscall(ctypes.c_long(number), *arguments))
