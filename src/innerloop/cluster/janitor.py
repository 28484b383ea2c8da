"""Cleans up after a cluster of our own: a process that outlives whoever started the cluster, however that ended.

Run as ``python janitor.py FOLDER PARENT`` by `innerloop.cluster.private`. Told by a byte on its standard input that the
cluster was closed, it removes the folder. When its parent is gone without a word, it first ends the processes that
still have files of the folder open, as all of Ray's have. It imports nothing of the package, so that it is there at
once and stays small.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
import time
from pathlib import Path

import psutil

_LOOK = 0.5  # seconds between two looks at the parent
_PATIENCE = 5.0  # seconds in which processes may end by themselves
_ROUNDS = 20  # a killed process may have started another one


def closed(parent: int) -> bool:
    """Wait; True when told that the cluster was closed, False when the process that started this one is gone.

    The end of the input alone says nothing: that process may still be there, and has files of the folder open, too.
    """
    listening = True
    while os.getppid() == parent:
        if not listening:
            time.sleep(_LOOK)
        elif select.select([sys.stdin.buffer], [], [], _LOOK)[0]:
            if os.read(sys.stdin.fileno(), 1):
                return True
            listening = False
    return False


def users_of(folder: Path) -> list[psutil.Process]:
    """The processes, apart from this one, that have a file of the folder open."""
    inside = f"{folder}{os.sep}"
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and any(file.path.startswith(inside) for file in process.open_files()):
                found.append(process)
    return found


def end_users(folder: Path, patience: float) -> None:
    """End the folder's processes, those that do not end by themselves."""
    end = time.monotonic() + patience
    while users_of(folder) and time.monotonic() < end:
        time.sleep(0.1)
    for _ in range(_ROUNDS):
        if not (left := users_of(folder)):
            break
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=1)


if __name__ == "__main__":
    own = Path(sys.argv[1])
    if not closed(int(sys.argv[2])):
        end_users(own, _PATIENCE)
    shutil.rmtree(own, ignore_errors=True)
