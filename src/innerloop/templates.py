"""Chat templates: programs that come with a model, rendered in a process of their own that can be ended.

Jinja's sandbox keeps a template away from files and from Python, but not from looping for ever or from filling the
memory: ``{{ "x" * 10**10 }}`` is enough. So templates are rendered by a process (`innerloop.template_process`) that may
take so much processor time, memory and output for one prompt, and is ended where it takes more. It is started for the
first prompt and serves all that follow, each in a fraction of a millisecond.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

LONGEST_TEMPLATE = 1_000_000  # characters; the longest in use have some 100,000
_LIMITS = {"seconds": 3, "memory": 1 << 29, "characters": 20_000_000}  # processor time and output of one prompt
_PATIENCE = 120.0  # seconds of wall-clock time, on a machine that is busy with other things
_ANSWER = 8 * _LIMITS["characters"]  # bytes of an answer: a character takes 6 where it is escaped
_PASSED = ("TZ", "LD_LIBRARY_PATH", "SYSTEMROOT")  # of the environment; the rest, keys among it, stays here


class TemplateFailedError(Exception):
    """A template raised something or broke a limit; the message is one line."""


def writes_date(template: str) -> bool:
    """Whether a template asks for the day."""
    return "strftime_now" in template


def render(template: str, variables: dict[str, Any], date: str | None = None) -> str:
    """What a template makes of JSON-able variables on a day (ISO 8601, by default today).

    Raises `TemplateFailedError`.
    """
    global _process  # one for all templates of this process
    with _lock:
        if _process is None:
            _process = _Process()
        try:
            answer = _process.ask(template, variables, date or datetime.now().isoformat())
        except BaseException as error:  # an interrupt too: what is asked next must not get this answer
            _process.close()
            _process = None
            if isinstance(error, _EndedError):
                raise TemplateFailedError(str(error)) from None
            raise
    if "text" not in answer:
        raise TemplateFailedError(str(answer.get("error")))
    return str(answer["text"])


class _EndedError(Exception):
    """The process is not to be used any more."""


class _Process:
    """The rendering process, from this side."""

    def __init__(self) -> None:
        folders = [folder for folder in sys.path if folder and Path(folder).is_dir()]
        script = Path(__file__).with_name("template_process.py")
        self._popen = subprocess.Popen(  # -I -S: nothing of the user's environment is imported
            [sys.executable, "-I", "-S", str(script), json.dumps(_LIMITS), *folders],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in _PASSED if name in os.environ},
            cwd="/",
            start_new_session=True,  # Ctrl-C is for us; it ends when its input does
            bufsize=0,
        )

    def ask(self, template: str, variables: dict[str, Any], date: str) -> dict[str, Any]:
        """One request and its answer. Raises `_EndedError` where the process had to be ended."""
        key = hashlib.blake2b(template.encode(errors="surrogatepass"), digest_size=16).hexdigest()
        request = {"template": key, "variables": variables, "date": date}
        answer = self._said(request)
        if "unknown" in answer:  # the process has not seen this template, or has seen many since
            answer = self._said(request | {"source": template})
        return answer

    def _said(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            self._write(json.dumps(request).encode() + b"\n")
            answer = json.loads(self._read())
        except (OSError, ValueError, RecursionError):  # it ended, or says what it never says by itself
            raise _EndedError(self._why()) from None
        if not isinstance(answer, dict):
            raise _EndedError(self._why())
        return answer

    def _write(self, request: bytes) -> None:
        assert self._popen.stdin is not None
        rest = memoryview(request)
        while rest:
            rest = rest[self._popen.stdin.write(rest) or 0 :]

    def _read(self) -> bytes:
        """The next line, of limited length and within limited time."""
        assert self._popen.stdout is not None
        handle = self._popen.stdout.fileno()
        waiting = select.poll()
        waiting.register(handle, select.POLLIN)
        until = time.monotonic() + _PATIENCE
        got = bytearray()
        while not got.endswith(b"\n"):
            if not waiting.poll(max(0.0, until - time.monotonic()) * 1000):
                raise TimeoutError
            part = os.read(handle, 1 << 20)
            got += part
            if not part or len(got) > _ANSWER:
                raise ValueError
        return bytes(got)

    def _why(self) -> str:
        """Why the process is of no use any more."""
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(1)
        status = self._popen.returncode
        if status == -signal.SIGPROF:
            return f"it takes more than {_LIMITS['seconds']} seconds of processor time for one prompt"
        if status is None:
            return f"its process gave no answer within {_PATIENCE:g} seconds"
        return f"its process ended with status {status}"

    def close(self) -> None:
        """Ends the process, where it has not ended."""
        self._popen.kill()
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


_process: _Process | None = None
_lock = threading.Lock()


@atexit.register
def _close() -> None:
    global _process
    if _process is not None:
        _process.close()
        _process = None


def _forget() -> None:
    """In a forked process: the rendering process belongs to the one that was forked."""
    global _process, _lock
    if _process is not None:
        _process._popen.returncode = 0  # not ours to wait for, nor to warn about
        for pipe in (_process._popen.stdin, _process._popen.stdout):
            if pipe is not None:
                pipe.close()
    _process, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)
