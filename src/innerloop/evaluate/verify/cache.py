"""Replies kept by content, so that the same answer to the same reference is judged once.

The key is a digest of all that a reply depends on: the verifier, the payload (reference and answer, or the program),
the limits where they decide, and the versions of Python and of the packages that judge. In memory always; in a file
too where one is named, which several processes and many runs may share.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import platform
import sqlite3
import threading
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from innerloop.evaluate.verify.job import Job, Program, Reply

_LOG = logging.getLogger("innerloop")
_JUDGING = ("innerloop", "math-verify", "latex2sympy2_extended", "sympy", "reasoning-gym", "pint")
_MOST = 200_000  # replies in memory, about 100 MB
_TABLE = "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL)"
_BUSY = 30.0  # seconds to wait for another process that writes to the file


def key(work: Job | Program, surroundings: Mapping[str, Any]) -> str:
    """A digest of the work and of what else decides on its reply."""
    if isinstance(work, Job):
        content: list[Any] = [work.module, work.payload]
    else:
        content = ["code", work.sources, surroundings, work.tests.digest if work.tests else None]
    text = json.dumps([_versions(), content], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@lru_cache
def _versions() -> tuple[str, ...]:
    found = [platform.python_version()]
    for name in _JUDGING:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    return tuple(found)


class Cache:
    """Replies by key. A file that cannot be used is named in a warning, once, and done without."""

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self.hits = 0
        self._memory: dict[str, Reply] = {}
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        if file is not None:
            with self._usable():
                file.parent.mkdir(parents=True, exist_ok=True)
                self._connection = sqlite3.connect(file, timeout=_BUSY, check_same_thread=False)
                self._connection.execute(_TABLE)

    def get(self, name: str) -> Reply | None:
        """The reply that was kept, or None."""
        with self._lock:
            reply = self._memory.get(name)
            if reply is None and self._connection is not None:
                with self._usable():
                    row = self._connection.execute("SELECT reply FROM replies WHERE key = ?", (name,)).fetchone()
                    if row is not None:
                        reply = self._memory[name] = cast(Reply, json.loads(row[0]))
            self.hits += reply is not None
            return reply

    def put(self, replies: Mapping[str, Reply]) -> None:
        """Keeps replies, for as long as each of them says."""
        with self._lock:
            for name, reply in replies.items():
                if reply.get("keep") != "no":
                    self._memory[name] = reply
            for name in list(self._memory)[: max(len(self._memory) - _MOST, 0)]:
                del self._memory[name]
            lasting = [(name, json.dumps(reply)) for name, reply in replies.items() if "keep" not in reply]
            if self._connection is not None and lasting:
                with self._usable(), self._connection:
                    self._connection.executemany("INSERT OR REPLACE INTO replies VALUES (?, ?)", lasting)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    @contextlib.contextmanager
    def _usable(self) -> Any:
        try:
            yield
        except (sqlite3.Error, OSError, ValueError) as error:
            _LOG.warning("%s: verdicts are not kept there (%s); they are judged anew", self.file, error)
            if self._connection is not None:
                self._connection.close()
            self._connection = None
