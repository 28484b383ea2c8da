"""What goes to a worker process or a sandbox, and what comes back; all of it crosses the pipe as JSON."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

# How reasons begin that say nothing about the answer: no sandbox was there, a worker died, it was interrupted. What was
# left undecided for one of them is judged again at the next opportunity.
NOT_RUN, NOT_SCORED, WORKER, CLOSED, SANDBOX = (
    "code was not run",
    "the scorer was not run",
    "the worker process",
    "the verifier is closed",
    "the sandbox failed",
)


@dataclass(frozen=True, kw_only=True)
class Job:
    """Work for a worker process: it calls ``module``'s ``prepare()`` and ``run(payload)``, which returns a ``Reply``.

    ``answer`` is the final answer as it was written. ``inside``: only a worker inside a sandbox may do it, because what
    ``run`` calls can evaluate text.
    """

    module: str
    answer: str
    payload: dict[str, Any]
    inside: bool = False


@dataclass(frozen=True, kw_only=True)
class Tests:
    """Inputs and the outputs that have to follow, as a question of LiveCodeBench packs them.

    ``function`` is what is called with the inputs; None where the program reads and prints.
    """

    function: str | None
    public: str
    private: str

    @property
    def digest(self) -> str:
        """The same for the same tests."""
        text = json.dumps([self.function, self.public, self.private])
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Program:
    """Work for the sandbox: the first of the Python ``sources`` that can be compiled. ``answer`` is the code in it.

    With ``tests`` it is run once for each of them, in a process of its own.
    """

    sources: tuple[str, ...]
    answer: str
    tests: Tests | None = None


class Reply(TypedDict):
    """A worker's word: ``right``, ``wrong``, or ``undecided`` with its reason.

    ``keep`` says how long the reply may stand for others of the same content: ``run`` for one that met a limit, which
    another machine may not meet, ``no`` for an accident; without it, always.
    """

    outcome: str
    reason: NotRequired[str]
    keep: NotRequired[Literal["run", "no"]]
