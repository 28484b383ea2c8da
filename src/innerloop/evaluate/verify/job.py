"""What goes to a worker process or a sandbox, and what comes back; all of it crosses the pipe as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict


@dataclass(frozen=True, kw_only=True)
class Job:
    """Work for a worker process: it calls ``module``'s ``prepare()`` and ``run(payload)``, which returns a ``Reply``.

    ``answer`` is the final answer as it was written.
    """

    module: str
    answer: str
    payload: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Program:
    """Work for the sandbox: the first of the Python ``sources`` that can be compiled. ``answer`` is the code in it."""

    sources: tuple[str, ...]
    answer: str


class Reply(TypedDict):
    """A worker's word: ``right``, ``wrong``, or ``undecided`` with its reason.

    ``keep`` says how long the reply may stand for others of the same content: ``run`` for one that met a limit, which
    another machine may not meet, ``no`` for an accident; without it, always.
    """

    outcome: str
    reason: NotRequired[str]
    keep: NotRequired[Literal["run", "no"]]
