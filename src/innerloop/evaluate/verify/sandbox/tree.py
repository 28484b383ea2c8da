"""The processes below one: counting, measuring and ending them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

_ROUNDS = 200
_PROC = Path("/proc")
_PROC_IS_THERE = (_PROC / "self" / "stat").exists()
_HELD = (b"VmRSS:", b"VmSwap:", b"VmPTE:", b"HugetlbPages:")


def descendants(pid: int) -> list[int]:
    """The processes that ``pid`` started, directly or not; without itself."""
    parents = _parents()
    found: list[int] = []
    frontier = {pid}
    while frontier:
        frontier = {child for child, parent in parents.items() if parent in frontier}
        found += frontier
    return found


def _parents() -> dict[int, int]:
    """Process → parent, for all that can be seen."""
    if not _PROC_IS_THERE:
        import psutil

        return {process.pid: process.info["ppid"] for process in psutil.process_iter(["ppid"])}
    parents = {}
    for name in os.listdir(_PROC):  # noqa: PTH208  # names are enough, twenty times a second
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                # the command in brackets may hold anything; the state and the parent stand behind the last one
                parents[int(name)] = int((_PROC / name / "stat").read_text().rpartition(")")[2].split()[1])
    return parents


def held(pids: Iterable[int]) -> int:
    """Bytes of memory that the processes hold together; pages that they share count each time.

    That is what is resident, swapped out, in huge pages, and in page tables: a program that maps single pages far apart
    has more of those than of anything else.
    """
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            if not _PROC_IS_THERE:
                import psutil

                with contextlib.suppress(psutil.Error):
                    total += psutil.Process(pid).memory_info().rss
                continue
            for line in (_PROC / str(pid) / "status").read_bytes().splitlines():
                if line.startswith(_HELD):
                    total += int(line.split()[1]) << 10
    return total


def buffers(pids: Iterable[int]) -> int:
    """The most bytes that the sockets in the network namespace of the processes may hold."""
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            used = (_PROC / str(pid) / "net" / "sockstat").read_text().split()[2]
            return int(used) * int((_PROC / "sys/net/core/wmem_default").read_text())
    return 0


def entries(pids: Iterable[int], folder: str) -> int:
    """How many files the file system at ``folder`` has, as the processes see it; 0 where that cannot be seen."""
    for pid in pids:
        with contextlib.suppress(OSError):
            found = os.statvfs(f"{_PROC}/{pid}/root{folder}")
            return found.f_files - found.f_ffree
    return 0


def end(process: subprocess.Popen[bytes]) -> None:
    """Kills the process and all below it, however fast they multiply.

    All are stopped first, until no new one turns up: stopped processes still count against the limit of processes, so
    a fork bomb comes to rest. Then they are killed.
    """
    pids: set[int] = set()
    for _ in range(_ROUNDS):
        now = set(descendants(process.pid))
        new = now - pids
        pids |= new
        if not new:
            break
        _signal(new, signal.SIGSTOP)
    # The launcher goes last: while it lives, nothing below it can get lost.
    for _ in range(_ROUNDS):
        late = {pid for pid in descendants(process.pid) if not _dead(pid)}
        if not late:
            break
        _signal(late, signal.SIGKILL)
        time.sleep(0.002)
    process.kill()
    process.wait()


def _dead(pid: int) -> bool:
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (OSError, IndexError):
        return True


def _signal(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
