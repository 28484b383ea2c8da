"""Starting a sandboxed program, watching it, and ending it with all that it started."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import selectors
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from innerloop.evaluate.verify.sandbox import tree
from innerloop.evaluate.verify.sandbox.cgroup import Group
from innerloop.evaluate.verify.sandbox.limits import ENTRIES, Ended, Limits, Stop

_TICK = 0.05  # seconds between two looks at memory and processes
_GRACE = 20.0  # seconds that a loaded machine may need to start the interpreter; its time counts from there
_CHUNK = 65536


def rlimits(limits: Limits, others: int) -> dict[str, int]:
    """The limits that the kernel holds; ``others`` is how many processes its user has beside the sandbox's."""
    return {
        "RLIMIT_CPU": int(limits.time) + 2,
        "RLIMIT_AS": limits.memory << 20,
        "RLIMIT_FSIZE": limits.file << 20,
        "RLIMIT_NPROC": limits.processes + others,
        "RLIMIT_NOFILE": 64,
        "RLIMIT_CORE": 0,
    }


class Process:
    """One run. ``command`` starts ``inside.py``; ``order`` is what it is told, without token and pipe.

    ``tests`` are pairs of input and output, to be read there one by one; ``limits.time`` is that of the whole run.
    ``folder`` is a folder of the host to keep an eye on, None where the program has a file system of its own at
    ``inner``. ``group`` is the memory group that it is to join, if there is one.
    """

    def __init__(
        self,
        command: Sequence[str],
        order: Mapping[str, Any],
        limits: Limits,
        folder: Path | None = None,
        *,
        inner: str = "",
        group: Group | None = None,
        tests: Iterable[tuple[str, str]] = (),
    ) -> None:
        self.limits = limits
        self.folder = folder
        self.inner = inner
        self.group = group
        self._token = secrets.token_hex(16)
        self._closed = threading.Event()
        self._told = b""
        self._output = bytearray()
        reading, writing = os.pipe()
        self._reports = reading
        handed = {"pipe": writing, "group": None if group is None else group.members}
        try:
            with tempfile.TemporaryFile() as stream:
                _frame(stream, json.dumps({**order, **handed, "token": self._token}))
                for test in tests:
                    for part in test:
                        _frame(stream, part)
                stream.flush()
                stream.seek(0)
                self._process = subprocess.Popen(
                    command,
                    stdin=stream,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=[handle for handle in handed.values() if handle is not None],
                    env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(order["folder"])},
                    cwd="/",
                    start_new_session=True,
                )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)

    def close(self) -> None:
        """Ends the run from another thread."""
        self._closed.set()

    def wait(self) -> Ended:
        """Watches the program to its end; nothing that it started is left afterwards."""
        try:
            stop, last = self._watch()
        finally:
            tree.end(self._process)
            assert self._process.stdout is not None
            self._read(self._process.stdout.fileno())  # what was printed last
            self._process.stdout.close()
            os.close(self._reports)
        if self.group is not None and self.group.exceeded():
            stop = stop or Stop.MEMORY
        output = self._output.decode(errors="replace")
        started = bool(last.get("started"))
        if stop is not None and (started or stop is Stop.CLOSED):
            return Ended(finished=False, started=started, stop=stop, output=output)
        if last.get("finished"):
            return Ended(finished=True, output=output)
        error = last.get("error") or self._end_of(last)
        if last.get("stop") in tuple(Stop):
            return Ended(finished=False, stop=Stop(last["stop"]), error=error, output=output)
        if error.startswith("MemoryError"):
            return Ended(finished=False, stop=Stop.MEMORY, output=output)
        return Ended(finished=False, started=started, error=error, output=output)

    def _end_of(self, last: Mapping[str, Any]) -> str:
        code = last.get("ended", self._process.returncode)
        if code is not None and (code < 0 or code > 128):
            number = -code if code < 0 else code - 128
            with contextlib.suppress(ValueError):
                return f"killed by {signal.Signals(number).name}"
        if last.get("started"):
            return "ended before its end was reached"
        said = self._output.decode(errors="replace").strip().rpartition("\n")[2]
        return said[:200] or f"did not start (status {code})"

    def _watch(self) -> tuple[Stop | None, dict[str, Any]]:
        """What stopped the program from outside, and all that was reported."""
        assert self._process.stdout is not None
        said: dict[str, Any] = {}
        deadline = time.monotonic() + _GRACE
        look = 0.0
        with selectors.DefaultSelector() as selector:
            for stream in (self._process.stdout.fileno(), self._reports):
                os.set_blocking(stream, False)
                selector.register(stream, selectors.EVENT_READ)
            while True:
                over = self._process.poll() is not None  # before the look, so that its last reports are seen by it
                ready = {key.fd for key, _ in selector.select(_TICK)}
                if not selector.get_map():  # it closed both, and goes on
                    time.sleep(_TICK)
                for stream in ready:
                    if not self._read(stream):
                        selector.unregister(stream)
                began = "started" in said
                self._take_reports(said)
                if not began and "started" in said:
                    deadline = time.monotonic() + self.limits.time
                if {"finished", "error", "ended"} & said.keys():
                    return None, said
                if len(self._output) >= self.limits.output << 10:
                    return Stop.OUTPUT, said
                if over and not ready:
                    return None, said
                if self._closed.is_set():
                    return Stop.CLOSED, said
                if (now := time.monotonic()) > deadline:
                    return Stop.TIME, said
                if now > look:
                    look = now + _TICK
                    if (stop := self._over("started" in said)) is not None:
                        return stop, said

    def _read(self, stream: int) -> bool:
        """Takes what there is; False at the end of the stream."""
        try:
            data = os.read(stream, _CHUNK)
        except BlockingIOError:
            return True
        if stream == self._reports:
            self._told = (self._told + data)[-4 * _CHUNK :]
        else:
            self._output += data[: max((self.limits.output << 10) - len(self._output), 0)]
        return bool(data)

    def _take_reports(self, said: dict[str, Any]) -> None:
        *lines, self._told = self._told.split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError, RecursionError):
                report = json.loads(line)
                if isinstance(report, dict) and report.get("token") == self._token:
                    said.update(report)

    def _over(self, began: bool) -> Stop | None:
        """The limit that all processes together are over. The kernel's limits hold for each one alone."""
        pids = tree.descendants(self._process.pid)
        if len(pids) > self.limits.processes + 4:  # beside the launcher's own
            return Stop.PROCESSES
        buffers = tree.buffers(pids) if self.inner else 0
        if tree.held(pids) + buffers > self.limits.memory << 20:
            return Stop.MEMORY
        if self.folder is not None and _holds_more(self.folder, self.limits.folder << 20, ENTRIES):
            return Stop.FILES
        if self.inner and began and tree.entries(pids, self.inner) > ENTRIES:
            return Stop.FILES
        return None


def _frame(stream: IO[bytes], text: str) -> None:
    """A text behind its length, as inside.py reads it."""
    data = text.encode("utf-8", "surrogatepass")
    stream.write(b"%016d" % len(data) + data)


def _holds_more(folder: Path, limit: int, most: int) -> bool:
    """Whether a folder holds more bytes than that, or more entries than anybody needs (each costs a look)."""
    total, entries, folders = 0, 0, [folder]
    while folders:
        try:
            with os.scandir(folders.pop()) as found:
                for entry in found:
                    entries += 1
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if total > limit or entries > most:
                        return True
        except OSError:  # gone meanwhile
            continue
    return False
