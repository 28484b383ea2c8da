"""Processes that live inside a sandbox and answer many requests there: the workers of ``pool``.

Such a process has what a sandboxed program has, and beside it the sources of this package and of those that judge,
read-only. It cannot start another process. It ends with the program that started it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from innerloop.evaluate.verify.sandbox import bubblewrap
from innerloop.evaluate.verify.sandbox.limits import Limits
from innerloop.evaluate.verify.sandbox.parts import command, compiled, own_users
from innerloop.evaluate.verify.sandbox.process import rlimits
from innerloop.evaluate.verify.sandbox.sandbox import Kind

_JUDGING = (
    "innerloop",
    "reasoning_gym",
    "math_verify",
    "latex2sympy2_extended",
    "sympy",
    "pint",
    "cyclopts",
    "pydantic",
)
_FOLDERS = ("site-packages", "dist-packages")
_LIMITS = Limits()
_FILES = 256  # that may be open; some families leave theirs open
_PARTS = ("inside", "landlock")
_own_user = own_users(1_900_000_000)  # beyond those of sandboxed programs
_lock = threading.Lock()
_starter: ThreadPoolExecutor | None = None


def start(kind: Kind, time: float, memory: int, errors: IO[bytes], folder: str | None) -> subprocess.Popen[bytes]:
    """A worker with ``time`` seconds per job and ``memory`` MiB, in a sandbox of that kind.

    ``folder`` is a private one for the weaker kind, which has none of its own; imports want a place for their caches.
    """
    weaker = kind is Kind.WEAKER
    shown = sources()
    limits = rlimits(_LIMITS, 0) | {"RLIMIT_AS": memory << 20, "RLIMIT_NPROC": 0, "RLIMIT_NOFILE": _FILES}
    del limits["RLIMIT_CPU"]  # it lives on, job after job
    user = _own_user()
    if folder is not None and user is not None:
        os.chown(folder, user, user)
    folder = folder or bubblewrap.FOLDER
    order = {
        "parts": {name: compiled(name) for name in _PARTS},
        "weaker": weaker,
        "user": user,
        "folder": folder,
        "readable": [sys.base_prefix],
        "paths": list(dict.fromkeys((*shown.values(), *bubblewrap.packages()))),
        "limits": limits,
        "time": time,
        "memory": memory,
    }
    process = _launched(command("serve", _LIMITS, weaker=weaker, also=list(shown)), errors, folder)
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:  # it ended at once; whoever reads its first line finds out
        pass
    return process


def sources() -> dict[str, str]:
    """The folders that a worker reads beside those of installed packages, and where each is imported from."""
    found = {path: path for path in sys.path if Path(path).name in _FOLDERS and Path(path).is_dir()}
    known = {*found, *bubblewrap.packages()}
    for name in _JUDGING:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            package = Path(spec.origin).parent
            if not any(package.is_relative_to(path) for path in known):
                found[str(package)] = str(package.parent)
    return found


def _launched(command: list[str], errors: IO[bytes], folder: str) -> subprocess.Popen[bytes]:
    """Started from a thread that lives as long as the program.

    The kernel ends a child that asked to die with its parent once the *thread* that started it has ended.
    """
    global _starter
    with _lock:
        if _starter is None:
            _starter = ThreadPoolExecutor(1, thread_name_prefix="starter")
        starter = _starter
    return starter.submit(
        subprocess.Popen,
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": folder, "TMPDIR": folder, "OMP_NUM_THREADS": "1"},
        cwd="/",
        start_new_session=True,
    ).result()


def _forget() -> None:
    """A forked child has no thread of its parent's."""
    global _starter, _lock
    _starter, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
