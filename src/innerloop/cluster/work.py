"""What a cluster works on: units with names, in groups that one worker takes together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from innerloop.errors import InputError

WorkT = TypeVar("WorkT")
ResultT = TypeVar("ResultT", covariant=True)


@dataclass(frozen=True, kw_only=True)
class Unit(Generic[WorkT]):
    """The smallest piece of work: what is done or not done, and done again when a worker dies over it."""

    id: str
    work: WorkT


@dataclass(frozen=True, kw_only=True)
class Done(Generic[ResultT]):
    """A unit's result; without one, ``reason`` says why there is none."""

    id: str
    result: ResultT | None = None
    reason: str | None = None


class Held(Protocol[WorkT, ResultT]):
    """What a worker holds when it is ready: a model, and how to use it."""

    def run(self, units: Sequence[Unit[WorkT]]) -> Iterator[tuple[str, ResultT]]:
        """The id and result of every unit, each as soon as it is there, in any order.

        `InputError` and others end the whole run; ``ConnectionError`` only this worker, which is replaced.
        """
        ...


class Job(Protocol[WorkT, ResultT]):
    """What travels to the workers. It is pickled, so its class must be importable on every machine."""

    def open(self, threads: int) -> tuple[Held[WorkT, ResultT], dict[str, Any]]:
        """Loads what the worker holds, to compute with that many threads, and describes it.

        A ``fingerprint`` in the description must be the same from all workers.
        """
        ...


def shrinking(units: Sequence[Unit[WorkT]], workers: int, least: int = 1) -> list[list[Unit[WorkT]]]:
    """Groups of neighbouring units: large at first and small in the end, so that all workers end together.

    A group is half of an equal share of what is left, rounded up to a multiple of ``least``, the number of units that
    a worker takes on at once: large groups leave it few moments in which it has less than that (guided self-scheduling,
    Polychronopoulos & Kuck 1987).
    """
    if workers < 1 or least < 1:
        raise InputError(f"{workers} workers, {least} units: both must be 1 or more")
    groups = []
    start = 0
    while start < len(units):
        share = -(-(len(units) - start) // (2 * workers))
        size = -(-share // least) * least
        groups.append(list(units[start : start + size]))
        start += size
    return groups
