"""What goes to a worker process and what comes back; both cross the pipe as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict


@dataclass(frozen=True, kw_only=True)
class Job:
    """Work for a worker process: it calls ``module``'s ``prepare()`` and ``run(payload)``, which returns a ``Reply``.

    ``answer`` is the final answer as it was written.
    """

    module: str
    answer: str
    payload: dict[str, Any]


class Reply(TypedDict):
    """A worker's word: ``right``, ``wrong``, or ``undecided`` with its reason."""

    outcome: str
    reason: NotRequired[str]
