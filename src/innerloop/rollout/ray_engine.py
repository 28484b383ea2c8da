"""Sampling on many machines: workers of a Ray cluster that hold an engine each.

What is sampled is what the inner engine samples: requests and seeds are the same, and which worker takes which request
changes only who is computed beside whom. So what the inner engine's module says of neighbours holds here too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from innerloop.cluster.crew import Crew
from innerloop.cluster.options import ClusterOptions
from innerloop.cluster.work import Unit, shrinking
from innerloop.rollout.engine import Completion, Engine, Request, Sampling
from innerloop.schema import Status


@dataclass(frozen=True, kw_only=True)
class _Holding:
    """An engine in a worker."""

    engine: Engine

    def run(self, units: Sequence[Unit[tuple[Request, Sampling]]]) -> Iterator[tuple[str, Completion]]:
        """The completions of requests that all have the same sampling."""
        sampling = units[0].work[1]
        for completion in self.engine.generate([unit.work[0] for unit in units], sampling):
            yield completion.id, completion


@dataclass(frozen=True, kw_only=True)
class _Sampling:
    """The workers' job."""

    opener: Callable[[int], tuple[Engine, dict[str, Any]]]

    def open(self, threads: int) -> tuple[_Holding, dict[str, Any]]:
        engine, description = self.opener(threads)
        return _Holding(engine=engine), description | {"samples_as": engine.name}


class RayEngine:
    """Engines in the workers of a Ray cluster, as one engine.

    ``opener`` makes the inner engine in a worker, to compute with so many threads, and what a manifest says of it; it
    is pickled, so it must be importable on every machine. ``streams``: requests that an inner engine takes on at once;
    groups of work are multiples of it. The constructor waits for the first worker of the ``crew``.
    """

    def __init__(
        self, opener: Callable[[int], tuple[Engine, dict[str, Any]]], options: ClusterOptions, *, streams: int
    ) -> None:
        self._streams = streams
        self.crew: Crew[tuple[Request, Sampling], Completion] = Crew(_Sampling(opener=opener), options).open()

    @property
    def name(self) -> str:
        """The inner engine's."""
        return str(self.crew.description["samples_as"])

    def describe(self) -> dict[str, Any]:
        """What a run's manifest says about the model: what the first worker says."""
        return {name: value for name, value in self.crew.description.items() if name != "samples_as"}

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        """One completion per request, each as soon as it is done, in any order.

        A request over which several workers died is an error completion. ``ConnectionError`` when the cluster is gone.
        """
        units = [Unit(id=request.id, work=(request, sampling)) for request in requests]
        for done in self.crew.run(shrinking(units, self.crew.team.workers, self._streams)):
            if done.result is None:
                yield Completion(id=done.id, token_ids=(), text="", status=Status.ERROR, reason=done.reason)
            else:
                yield done.result

    def close(self) -> None:
        """Stops the workers."""
        self.crew.close()
