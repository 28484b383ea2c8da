"""The worker process: one job per line on standard input, two answers per job on the pipe that was standard output.

The first answer, ``{"ready": true}``, says that the imports are done, so that they do not count against the item's
time; the second is the reply. Started by ``pool`` as ``python -c …``, never imported by the program itself.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
from typing import Any, BinaryIO

from innerloop.evaluate.verify.job import Reply


def main(time_limit: float, memory_limit: int) -> None:
    """Serves until standard input ends."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get among the replies
    _limit_memory(memory_limit)
    for line in sys.stdin.buffer:
        job = json.loads(line)
        _serve(job["module"], job["payload"], replies, time_limit)


def _serve(name: str, payload: dict[str, Any], replies: BinaryIO, time_limit: float) -> None:
    try:
        module = importlib.import_module(name)
        module.prepare()
    except ImportError as error:
        _send(replies, {"ready": True})
        _send(replies, Reply(outcome="undecided", reason=f"the verifier cannot be imported ({error})", keep="no"))
        return
    _send(replies, {"ready": True})
    _alarm(2 * time_limit + 5)
    _send(replies, _run(module, payload))
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


def _limit_memory(mebibytes: int) -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # no such limit on this system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (mebibytes << 20, mebibytes << 20))


def _alarm(seconds: float) -> None:
    """Ends this process after a while, should its parent be gone and a job hang; 0 calls that off."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)
