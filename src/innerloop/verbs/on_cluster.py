"""Measuring with the workers of a Ray cluster: each holds the model; this process alone reads inputs and writes."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from innerloop.cluster.crew import Crew
from innerloop.cluster.work import Unit
from innerloop.store import Run

if TYPE_CHECKING:
    from innerloop.models import LoadedModel
    from innerloop.verbs.probe import ProbeSettings
    from innerloop.verbs.update import UpdateSettings

log = logging.getLogger("innerloop")

WorkT = TypeVar("WorkT")
FoundT = TypeVar("FoundT")
Measure = Callable[["LoadedModel", Sequence[WorkT]], Iterator[tuple[str, FoundT]]]


@dataclass(frozen=True, kw_only=True)
class _Measurer(Generic[WorkT, FoundT]):
    """A model in a worker, and what is done with it."""

    loaded: LoadedModel
    measure: Measure[WorkT, FoundT]

    def run(self, units: Sequence[Unit[WorkT]]) -> Iterator[tuple[str, FoundT]]:
        return self.measure(self.loaded, [unit.work for unit in units])


@dataclass(frozen=True, kw_only=True)
class Measuring(Generic[WorkT, FoundT]):
    """The workers' job."""

    settings: ProbeSettings | UpdateSettings
    measure: Measure[WorkT, FoundT]

    def open(self, threads: int) -> tuple[_Measurer[WorkT, FoundT], dict[str, Any]]:
        """The model of the settings, and what a manifest says of it."""
        loaded = dataclasses.replace(self.settings, threads=threads).load(suffix=self.settings.suffix)
        return _Measurer(loaded=loaded, measure=self.measure), loaded.describe()


def measured(
    run: Run,
    settings: ProbeSettings | UpdateSettings,
    measure: Measure[WorkT, FoundT],
    work: dict[str, WorkT],
    groups: Callable[[list[Unit[WorkT]], int, bool], Sequence[Sequence[Unit[WorkT]]]],
    skipped: dict[str, str],
) -> Iterator[FoundT]:
    """What ``measure`` finds for every piece of work, by trajectory id, in any order; waits for the first worker.

    ``measure`` and the work are pickled. ``groups`` shares the units out to so many workers, told whether these compute
    on CPUs. What killed several workers goes to ``skipped``, with the reason, and is tried again by the next start.
    """
    job = Measuring(settings=settings, measure=measure)
    crew: Crew[WorkT, FoundT] = Crew(job, settings.cluster()).open()

    def results() -> Iterator[FoundT]:
        with closing(crew):
            run.record_model(crew.description)
            units = [Unit(id=id_, work=piece) for id_, piece in work.items()]
            on_cpu = str(crew.description["device"]) == "cpu"
            for done in crew.run(groups(units, crew.team.workers, on_cpu)):
                if done.result is not None:
                    yield done.result
                else:
                    skipped[done.id] = str(done.reason)
                    log.warning("%s is left out: %s; the same command again tries it again", done.id, done.reason)

    return results()
