"""A sandbox that was tried before it is used."""

from __future__ import annotations

import logging
import os
import platform
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

from innerloop.evaluate.verify.sandbox import bubblewrap, cgroup, probe
from innerloop.evaluate.verify.sandbox.limits import ENTRIES, Ended, Limits
from innerloop.evaluate.verify.sandbox.parts import command, compiled, own_users

_LOG = logging.getLogger("innerloop")
_own_user = own_users(1_800_000_000)
_OWN = 32  # MiB for the sandbox's own interpreter


class Kind(StrEnum):
    """How code is contained."""

    BUBBLEWRAP = "bubblewrap"
    WEAKER = "weaker"


DOORS = {  # what inside.py closes
    Kind.BUBBLEWRAP: ("seccomp",),
    Kind.WEAKER: ("namespaces", "landlock", "seccomp", "hook"),
}
_PARTS = ("landlock", "seccomp", "on_inputs")  # files that run inside beside inside.py


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What there is on this machine: a kind that held when it was tried, or None with the reason.

    ``gaps`` are the protections that the weaker kind was seen not to give, or not for certain.
    """

    kind: Kind | None
    reason: str = ""
    gaps: tuple[str, ...] = ()

    def describe(self) -> str:
        """One line for logs and records."""
        if self.kind is None:
            return f"no sandbox: {self.reason}"
        if self.kind is Kind.BUBBLEWRAP:
            return "sandbox: bubblewrap"
        return f"weaker sandbox ({self.reason}); not guaranteed: {', '.join(self.gaps)}"


def choose(*, weaker: bool = False) -> Choice:
    """The sandbox that works here, found by trying; ``weaker`` allows the one without bubblewrap.

    Takes a fraction of a second the first time, in which a small program tries to get out.
    """
    if sys.platform == "win32":
        return Choice(kind=None, reason="there is none for Windows (use the Windows Subsystem for Linux)")
    missing = _fault(Kind.BUBBLEWRAP)
    if missing is None:
        return Choice(kind=Kind.BUBBLEWRAP)
    if not weaker:
        remedy = "install bubblewrap (apt-get install bubblewrap), or allow the weaker sandbox (--weaker-sandbox)"
        return Choice(kind=None, reason=f"{missing}; {remedy}")
    fault = _fault(Kind.WEAKER)
    if fault is not None:
        return Choice(kind=None, reason=f"{missing}; and the weaker one does not hold either: {fault}")
    choice = Choice(kind=Kind.WEAKER, reason=missing, gaps=_gaps())
    _warn(choice.describe())
    return choice


@lru_cache
def _warn(text: str) -> None:
    _LOG.warning("code runs in a %s", text)


@lru_cache
def _fault(kind: Kind) -> str | None:
    """Why this kind is of no use here, or None."""
    if kind is Kind.BUBBLEWRAP and sys.platform != "linux":
        return "bubblewrap is for Linux only"
    if kind is Kind.BUBBLEWRAP and bubblewrap.find() is None:
        return "bubblewrap is not installed"
    deep = kind is Kind.BUBBLEWRAP
    got = _tried(Sandbox(kind, probe.LIMITS), deep=deep)
    if isinstance(got, str):
        return f"{kind} does not work here ({got[:200]})"
    if kind is Kind.WEAKER and not got:  # an audit hook alone would be too little for these
        got = tuple(gap for gap in _gaps() if gap in probe.ESSENTIAL)
    elif deep:
        got = tuple(name for name in got if name != probe.PROGRAMS)
    return f"{kind} does not contain {', '.join(got)}" if got else None


@lru_cache
def _gaps() -> tuple[str, ...]:
    """What the kernel does not hold in the weaker kind: what a program gets at that goes around the audit hook."""
    got = _tried(Sandbox(Kind.WEAKER, probe.LIMITS, without=["hook"]), deep=True)
    return (got,) if isinstance(got, str) else got


def _tried(sandbox: Sandbox, *, deep: bool) -> tuple[str, ...] | str:
    """What a program got at that should not, or why it could not run."""
    with probe.bait() as bait:
        ended = sandbox.run([probe.program(bait, deep=deep)])
    got = probe.escapes(ended.output) if ended.finished else None
    return got if got is not None else ended.error or str(ended.stop or ended.output.strip())


class Sandbox:
    """Runs programs in a sandbox of one kind. Calls from several threads run side by side.

    ``without`` leaves some of the inner doors open, as on a machine that has none, to see what holds all the same.
    """

    def __init__(self, kind: Kind, limits: Limits | None = None, *, without: Sequence[str] = ()) -> None:
        self.kind = kind
        self.doors = [door for door in DOORS[kind] if door not in without]
        self.limits = limits or Limits()
        self.closed = False
        self._running: set[Any] = set()
        self._lock = threading.Lock()

    def run(
        self, sources: Sequence[str], tests: Sequence[tuple[str, str]] = (), *, function: str | None = None
    ) -> Ended:
        """Runs the first of the Python sources that can be compiled, in a fresh interpreter and an empty folder.

        With ``tests`` it runs once for each, in a process of its own that knows the input but not the output: as a
        program that reads the one and prints the other, or as one that defines ``function`` (or a class ``Solution``
        with it), which is called with the JSON values in the lines of the input and gives that of the output. A
        program's output is compared line by line, without space at the ends, numbers as numbers.
        """
        from innerloop.evaluate.verify.sandbox.process import Process, rlimits

        weaker = self.kind is Kind.WEAKER
        user = _own_user()
        with self._folder(user) if weaker else nullcontext() as folder:
            order = {
                "sources": list(sources),
                "weaker": weaker,
                "doors": self.doors,
                "user": user,
                "folder": str(folder) if weaker else bubblewrap.FOLDER,
                "size": self.limits.folder,
                "entries": ENTRIES,
                "paths": bubblewrap.packages(),
                "readable": [sys.base_prefix],
                "limits": rlimits(self.limits, _others(weaker)),
                "tests": len(tests),
                "parts": {name: compiled(name) for name in _PARTS if name in self.doors or name == "on_inputs"},
                "function": function,
                "time": self.limits.time,
                "output": self.limits.output << 10,
            }
            whole = replace(self.limits, time=self.limits.total) if tests else self.limits
            with self._group() as group:
                with self._lock:
                    if self.closed:
                        return Ended(finished=False, started=False, error="the verifier is closed")
                    process = Process(
                        *(command("inside", self.limits, weaker=weaker), order, whole, folder),
                        inner="" if weaker else bubblewrap.FOLDER,
                        group=group,
                        tests=tests,
                    )
                    self._running.add(process)
                try:
                    return process.wait()
                finally:
                    self._running.discard(process)

    def close(self) -> None:
        """Ends what runs; later programs are not started."""
        with self._lock:
            self.closed = True
            for process in list(self._running):
                process.close()

    @contextmanager
    def _group(self) -> Iterator[cgroup.Group | None]:
        """A memory group for one run, where there can be one. Files count in it, and the sandbox's own beginnings."""
        place = cgroup.place()
        group = None
        if place is not None:
            with suppress(OSError):
                group = cgroup.Group(place, self.limits.memory + self.limits.folder + _OWN << 20)
        try:
            yield group
        finally:
            if group is not None:
                group.close()

    @contextmanager
    def _folder(self, user: int | None) -> Iterator[Path]:
        folder = Path(tempfile.mkdtemp(prefix="innerloop-code-"))
        try:
            if user is not None:
                os.chown(folder, user, user)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _others(weaker: bool) -> int:
    """How many processes and threads the sandbox's user has outside of it, as far as the kernel counts them in.

    As root, each run has a user of its own. In a user namespace, Linux counts from zero since 5.14.
    """
    if os.geteuid() == 0 or (not weaker and _linux() >= (5, 14)):
        return 0
    import psutil

    own, count = os.getuid(), 0
    for process in psutil.process_iter(["uids", "num_threads"]):
        uids = process.info["uids"]
        if uids is not None and uids.real == own:
            count += process.info["num_threads"] or 1
    return count


def _linux() -> tuple[int, ...]:
    numbers = platform.release().split("-")[0].split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdigit())
