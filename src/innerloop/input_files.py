"""Files that a user names, opened and read line by line: whatever stands there, a line has a bound and an end."""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from innerloop.errors import InputError

LONGEST = 1 << 28  # characters of a line of JSON or a row of CSV, bytes of a .json file
_UNDECODED = re.compile("[\udc80-\udcff]")  # what a byte that is not UTF-8 becomes
_PACKED = {  # the first bytes of what is no text
    b"\x1f\x8b": "is compressed by gzip; unpack it first",
    b"PK\x03\x04": "is a zip archive; unpack it first",
    b"\x28\xb5\x2f\xfd": "is compressed by zstd; unpack it first",
    b"BZh": "is compressed by bzip2; unpack it first",
    b"\xfd7zXZ": "is compressed by xz; unpack it first",
    b"PAR1": "is Parquet; name it .parquet",
}
_WIDE = (b"\xff\xfe", b"\xfe\xff")  # byte order marks of UTF-16, and of UTF-32


def opened(path: Path) -> BinaryIO:
    """A file to read; `InputError` for what is none: a folder, a pipe, a device without an end."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            what = "a folder; name a file in it" if stat.S_ISDIR(mode) else "no file but a device or pipe; name a file"
            raise InputError(f"{path}: is {what}")
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def expanded(name: str) -> Path:
    """A path with ``~`` resolved, where there is such a home."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def text_lines(path: Path, file: BinaryIO, newline: str) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers from 1; ``newline`` as in ``open``. `InputError` names the line."""
    first = file.read(6)
    file.seek(0)
    for magic, what in _PACKED.items():
        if first.startswith(magic):
            raise InputError(f"{path}: {what}")
    if first.startswith(_WIDE):
        raise InputError(f"{path}, line 1: not UTF-8 text but UTF-16 or UTF-32; save the file as UTF-8")
    # Bytes that are not UTF-8 become half characters, which UTF-8 has none of: so the line is known.
    with io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline=newline) as stream:
        number = 0
        while line := stream.readline(LONGEST + 1):
            number += 1
            if len(line) > LONGEST:
                raise InputError(f"{path}, line {number}: longer than {LONGEST >> 20} MiB; check the line ends")
            if not line.isascii() and _UNDECODED.search(line):
                raise InputError(f"{path}, line {number}: not UTF-8 text; save the file as UTF-8")
            yield number, line
