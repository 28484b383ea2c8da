"""Worker processes with hard limits of time and memory per job.

Why not ``multiprocessing`` or a pool library on top of it: those start a worker by importing the user's main script
once more, which fails in every script without an ``if __name__ == "__main__"`` guard, and they exchange pickles, while
what comes back here was computed from a model's untrusted output. A worker here is ``python -c`` with lines of JSON.
Workers start when the first job comes, are used again, and are killed when a job exceeds its limit.

Workers live in a sandbox where there is one (``sandbox.service``), although what they do is not meant to run anything
of what they read. Where there is none, or they cannot start in it, they do without, but for jobs that must be
``inside``: those are undecided, with what to install.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, cast

import innerloop
from innerloop.evaluate.verify.job import CLOSED, NOT_SCORED, WORKER, Job, Reply
from innerloop.evaluate.verify.sandbox import Choice, Kind, choose, service, tree

_LOG = logging.getLogger("innerloop")
_START_LIMIT = 120.0  # seconds for the imports of a worker; slow on a cold network disk
_KILLS = 5  # of workers over one job, after which it is given up
_LOOK = 0.1  # seconds between two looks at a worker's memory
_LONGEST = 1 << 16  # bytes of a reply
_OUTCOMES = ("right", "wrong", "undecided")
_KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "HOME", "TMPDIR", "TEMP", "SYSTEMROOT")  # no keys of servers
_BOOT = """
import sys
sys.path.append({root!r})
from innerloop.evaluate.verify.worker import main
main({time}, {memory})
"""


class Pool:
    """``count`` workers; ``time_limit`` in seconds per job, ``memory_limit`` in MiB per worker.

    The memory limit is one of address space where the system has such a limit. Everywhere, a worker that is seen to
    hold more of real memory is killed. ``find`` says which sandbox there is; it is asked when the first jobs come.
    """

    def __init__(self, count: int, time_limit: float, memory_limit: int, find: Callable[[], Choice] = choose) -> None:
        self.workers = [Worker(time_limit, memory_limit, find) for _ in range(count)]

    def run(self, jobs: Sequence[Job]) -> list[Reply]:
        """The replies in the order of the jobs. An interrupt kills the workers and passes on."""
        idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self.workers:
            idle.put(worker)

        def ask(job: Job) -> Reply:
            worker = idle.get()
            try:
                return worker.ask(job)
            finally:
                idle.put(worker)

        # The threads only wait for their processes; all judging happens there.
        with ThreadPoolExecutor(min(len(self.workers), max(len(jobs), 1))) as threads:
            futures = [threads.submit(ask, job) for job in jobs]
            try:
                return [future.result() for future in futures]
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                self.close()
                raise

    def close(self) -> None:
        """Ends all workers; a closed pool answers no more."""
        for worker in self.workers:
            worker.close()


class Worker:
    """One worker process, started when first asked and replaced when it had to be killed."""

    def __init__(self, time_limit: float, memory_limit: int, find: Callable[[], Choice] = choose) -> None:
        self.time_limit = time_limit
        self.memory_limit = memory_limit
        self.closed = False
        self._find = find
        self._sandbox: Choice | None = None
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def ask(self, job: Job) -> Reply:
        """The reply to one job; undecided where the worker hung, died again and again, or could not start."""
        message = json.dumps({"module": job.module, "inside": job.inside, "payload": job.payload}).encode() + b"\n"
        deaths = Counter[bool]()  # by whether somebody killed it (for want of memory, say): then the job is done again
        while not self.closed:
            if self._refuses(job):
                break
            process = self._running()
            if self._refuses(job):  # it could not start in the sandbox
                break
            reply, stopped = self._exchange(process, message, _START_LIMIT)
            said = "starts too slowly" if stopped else "did not start"
            if reply is not None:
                reply, stopped = self._exchange(process, b"", self.time_limit)
                if stopped:
                    self._end("")
                if reply is not None and reply.get("outcome") in _OUTCOMES:
                    return cast(Reply, reply)
                if stopped:
                    return Reply(outcome="undecided", reason=stopped, keep="run")
                said = "died"
            deaths[_killed(process)] += 1
            reason = self._end(f"{WORKER} {said}")
            if stopped or deaths[False] > 1 or deaths[True] > _KILLS:
                return _accident(reason)
        if self.closed:
            return _accident(CLOSED)
        return _accident(f"{NOT_SCORED}: {self._choice().reason}")

    def _refuses(self, job: Job) -> bool:
        return job.inside and self._choice().kind is None

    def close(self) -> None:
        """Kills the process; later jobs are answered undecided."""
        self.closed = True
        self._end("")

    def _choice(self) -> Choice:
        if self._sandbox is None:
            self._sandbox = self._find()
        return self._sandbox

    def _running(self) -> subprocess.Popen[bytes]:
        """The process; started where there is none, in the sandbox if it can."""
        while (process := self._process) is None:
            process = self._started()
            up, stopped = self._exchange(process, b"", _START_LIMIT)
            if up is not None or self._choice().kind is None or self.closed or (not stopped and _killed(process)):
                break
            said = self._end("it starts too slowly" if stopped else "it does not start")
            self._sandbox = replace(self._choice(), kind=None, reason=f"no worker can run in the sandbox: {said}")
            _warn(self._sandbox.reason)
        return process

    def _started(self) -> subprocess.Popen[bytes]:
        kind = self._choice().kind
        errors = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        if kind is Kind.WEAKER:
            self._folder = tempfile.TemporaryDirectory(prefix="innerloop-worker-", ignore_cleanup_errors=True)
        if kind is not None:
            folder = self._folder.name if self._folder is not None else None
            process = service.start(kind, self.time_limit, self.memory_limit, errors, folder)
        else:
            root = str(Path(innerloop.__file__).parents[1])
            code = _BOOT.format(root=root, time=self.time_limit, memory=self.memory_limit)
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", code],  # -P: a file in the user's folder must not shadow a module
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={name: os.environ[name] for name in _KEPT if name in os.environ} | {"OMP_NUM_THREADS": "1"},
                start_new_session=True,  # Ctrl-C is for the program; it then ends its workers
            )
        self._process, self._errors = process, errors
        if self.closed:  # meanwhile
            self._end("")
        return process

    def _exchange(
        self, process: subprocess.Popen[bytes], message: bytes, limit: float
    ) -> tuple[dict[str, Any] | None, str]:
        """Sends a line and reads one; None where nothing whole came, and why the process was killed if it was."""
        assert process.stdin is not None
        assert process.stdout is not None
        done = threading.Event()
        stopped: list[str] = []
        watch = threading.Thread(target=self._watch, args=(process, limit, done, stopped), daemon=True)
        watch.start()
        try:
            if message:
                process.stdin.write(message)
                process.stdin.flush()
            line = process.stdout.readline(_LONGEST)
        except (BrokenPipeError, ValueError):  # ended by itself, or closed by an interrupt
            line = b""
        finally:
            done.set()
            watch.join()
        return _message(line), stopped[0] if stopped else ""

    def _watch(self, process: subprocess.Popen[bytes], limit: float, done: threading.Event, stopped: list[str]) -> None:
        """Kills the process after ``limit`` seconds, or once it holds more memory than it may; says which."""
        end = time.monotonic() + limit
        while not done.wait(max(min(_LOOK, end - time.monotonic()), 0)):
            if time.monotonic() >= end:
                stopped.append(f"time limit of {self.time_limit:g} s")
            elif tree.held([process.pid, *tree.descendants(process.pid)]) > self.memory_limit << 20:
                stopped.append("memory limit")
            else:
                continue
            tree.end(process)
            return

    def _end(self, reason: str) -> str:
        """Kills and forgets the process; ``reason`` with the last line that it wrote to standard error."""
        with self._lock:  # an interrupt may end it from another thread
            process, errors, folder = self._process, self._errors, self._folder
            self._process = self._errors = self._folder = None
        if process is None or errors is None:
            return reason
        if process.poll() is None:
            tree.end(process)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        if folder is not None:
            folder.cleanup()
        errors.seek(max(errors.seek(0, os.SEEK_END) - 500, 0))
        said = errors.read().decode(errors="replace").strip().rpartition("\n")[2]
        errors.close()
        return f"{reason} ({said[:200]})" if said else reason


def _message(line: bytes) -> dict[str, Any] | None:
    """What a line says; None where it is no whole message."""
    if not line.endswith(b"\n"):
        return None
    with contextlib.suppress(ValueError, RecursionError):
        message = json.loads(line)
        return message if isinstance(message, dict) else None
    return None


def _killed(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process that has just ended was killed by somebody else; bubblewrap passes that on as a status."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(1) in (-signal.SIGKILL, 128 + signal.SIGKILL)
    return False


def _accident(reason: str) -> Reply:
    return Reply(outcome="undecided", reason=reason, keep="no")


@lru_cache
def _warn(reason: str) -> None:
    _LOG.warning("answers are judged outside of the sandbox (%s)", reason)
