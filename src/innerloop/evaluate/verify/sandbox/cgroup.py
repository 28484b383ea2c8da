"""A memory control group for each run, where this machine lets us make one: it counts what no process is seen to hold.

Files in memory, buffers of pipes and sockets, page tables and the kernel's records of files count in it, as well as
pages that many processes share, once. Version 1 and 2 of the kernel's interface; which place works is found by trying.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import time
from functools import lru_cache
from pathlib import Path

_PREFIX = "innerloop-"
_LIMITS = (  # by version: the limit, that of memory and swap together, the file that counts kills
    ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.oom_control"),
    ("memory.max", "memory.swap.max", "memory.events"),
)
_numbers = itertools.count()


class Group:
    """A memory group below ``place`` with a limit in bytes; ``members`` is open to be joined by writing a 0."""

    def __init__(self, place: Path, limit: int) -> None:
        self._folder = place / f"{_PREFIX}{os.getpid()}-{next(_numbers)}"
        self._folder.mkdir()
        try:
            version = int((self._folder / _LIMITS[1][0]).exists())
            most, swap, self._events = _LIMITS[version]
            (self._folder / most).write_text(str(limit))
            with contextlib.suppress(OSError):  # the kernel may not count swap
                (self._folder / swap).write_text("0" if version else str(limit))
            self.members = os.open(self._folder / "cgroup.procs", os.O_WRONLY)
        except BaseException:
            self._folder.rmdir()
            raise

    def exceeded(self) -> bool:
        """Whether the kernel killed a process for the limit."""
        with contextlib.suppress(OSError, ValueError):
            words = (self._folder / self._events).read_text().split()
            return int(words[words.index("oom_kill") + 1]) > 0
        return False

    def close(self) -> None:
        """Removes the group, whose processes have ended."""
        os.close(self.members)
        for wait in (0.0, 0.001, 0.01, 0.1):
            time.sleep(wait)
            with contextlib.suppress(OSError):
                return self._folder.rmdir()
        return None


@lru_cache
def place() -> Path | None:
    """Where groups can be made and joined, or None. Empty groups that a killed run left there are removed."""
    for folder in _candidates(Path("/proc/self/cgroup"), Path("/proc/self/mountinfo")):
        if _works(folder):
            _remove_left(folder)
            return folder
    return None


def _candidates(own: Path, mounts: Path) -> list[Path]:
    """Places to try, the nearest first: in version 2, a group that has processes cannot have limited groups below."""
    try:
        lines = own.read_text().splitlines()
        mounted = [line.partition(" - ")[::2] for line in mounts.read_text().splitlines()]
    except OSError:
        return []
    found: list[Path] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        kind = "cgroup2" if not controllers else "cgroup"
        for front, back in mounted:
            name, _, settings = back.split(" ", 2)
            memory = "memory" in controllers.split(",") and "memory" in settings.split()[-1].split(",")
            if name == kind and (memory or kind == "cgroup2"):
                root, point = front.split()[3:5]
                inner = Path(point, os.path.relpath(path, root)) if path.startswith(root) else Path(point)
                ways = [inner] if kind == "cgroup" else [inner.parent, inner]
                found += [way for way in (*ways, Path(point)) if way.is_relative_to(point)]
    return [way for way in dict.fromkeys(found) if way.is_dir()]


def _works(folder: Path) -> bool:
    """Whether a group can be made there, limited and joined, by trying it with a process that waits."""
    try:
        group = Group(folder, 1 << 26)
    except OSError:
        return False
    try:
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as waiting:
            os.write(group.members, str(waiting.pid).encode())
        return True
    except OSError:
        return False
    finally:
        group.close()


def _remove_left(folder: Path) -> None:
    for left in folder.glob(f"{_PREFIX}*-*"):
        pid = left.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            with contextlib.suppress(OSError):
                left.rmdir()
