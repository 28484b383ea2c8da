"""The worker process: one job per line on standard input, two answers per job on the pipe that was standard output.

The first answer, ``{"ready": true}``, says that the imports are done, so that they do not count against the item's
time; the second is the reply. A line before all others, ``{"up": true}``, says that the process itself started.
Started by ``pool`` as ``python -c …``, in a sandbox where there is one, and never imported by the program itself.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

from innerloop.evaluate.verify.job import Reply

_PRINTED = 16 << 20  # bytes that a job may print


def main(time_limit: float, memory_limit: int, guard: Callable[[], None] | None = None) -> None:
    """Serves until standard input ends; ``guard`` is called once, before the first job that has to be inside."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get among the replies
    _limit("RLIMIT_AS", memory_limit << 20)
    _limit("RLIMIT_FSIZE", _PRINTED)
    _send(replies, {"up": True})
    for line in sys.stdin.buffer:
        job = json.loads(line)
        _forget_prints()
        _serve(job, replies, time_limit, guard)
        guard = None if job["inside"] else guard


def _serve(job: dict[str, Any], replies: BinaryIO, time_limit: float, guard: Callable[[], None] | None) -> None:
    try:
        module = importlib.import_module(job["module"])
        module.prepare()
        if guard is not None and job["inside"]:
            guard()
    except ImportError as error:
        _send(replies, {"ready": True})
        _send(replies, Reply(outcome="undecided", reason=f"the verifier cannot be imported ({error})", keep="no"))
        return
    _send(replies, {"ready": True})
    _alarm(2 * time_limit + 5)
    _send(replies, _run(module, job["payload"]))
    _alarm(0)


def _run(module: Any, payload: dict[str, Any]) -> Reply:
    try:
        return module.run(payload)
    except MemoryError:
        return Reply(outcome="undecided", reason="memory limit", keep="run")
    except Exception as error:  # noqa: BLE001  # scorers and sympy raise anything; that is a reason, not our failure
        text = " ".join(str(error).split())[:160]
        return Reply(outcome="undecided", reason=f"the verifier failed: {type(error).__name__}: {text}")


def _send(replies: BinaryIO, message: Any) -> None:
    replies.write(json.dumps(message).encode() + b"\n")
    replies.flush()


def _limit(name: str, value: int) -> None:
    with contextlib.suppress(ImportError, AttributeError, ValueError, OSError):  # no such limit on this system
        import resource

        kind = getattr(resource, name)
        resource.setrlimit(kind, (value, value))


def _forget_prints() -> None:
    """Empties the file that standard error is, which this process may write for days."""
    with contextlib.suppress(OSError):
        os.ftruncate(2, 0)
        os.lseek(2, 0, os.SEEK_SET)


def _alarm(seconds: float) -> None:
    """Ends this process after a while, should its parent be gone and a job hang; 0 calls that off."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)
