"""``probe``: the answer loss along trajectories, given or sampled, and along their controls."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from innerloop.errors import InputError
from innerloop.evaluate.exactness import Exactness, exactness
from innerloop.progress import progress
from innerloop.schema import Curve, Question, Trajectory
from innerloop.store import Run
from innerloop.verbs.cluster_settings import MeasuringSettings
from innerloop.verbs.shards import Shards
from innerloop.verbs.shared import (
    about,
    at_least,
    configuration,
    free_fields,
    out_folder,
)
from innerloop.verbs.trajectories import gather, rivals
from innerloop.verbs.work import TrajectorySettings, Work

if TYPE_CHECKING:
    from innerloop.cluster.work import Unit
    from innerloop.inner.probe import ProbeItem
    from innerloop.models import LoadedModel

log = logging.getLogger("innerloop")

_SIZE = re.compile(r"\s*+(\d++(?:\.\d++)?)\s*+([kmgt]?)(?:i?b)?\s*+", re.IGNORECASE)
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


@dataclass(frozen=True, kw_only=True)
class ProbeSettings(TrajectorySettings, MeasuringSettings):
    """Which trajectories to measure, with which model, and how finely."""

    every: int | Literal["all", "sentence"] = field(
        default="all", metadata=about("Measure at every N-th token, at sentence ends, or at all tokens.")
    )
    candidates: Literal["none", "question", "answers"] = field(
        default="none",
        metadata=about(
            "Rival answers to measure beside the reference: the question's own candidates, or the other final "
            "answers found in the trajectories."
        ),
    )
    method: Literal["shared", "cached", "plain"] = field(
        default="shared", metadata=about("shared is fastest; plain, a full forward per position, is the definition.")
    )
    scored: Literal["answer", "sequence"] = field(
        default="answer",
        metadata=about(
            "What the loss is over: the answer's own tokens, as in RaML's code; sequence: suffix, answer and closing "
            "brace, as in its text, where every prefix is run afresh; e.g. --scored sequence --every sentence.",
            later=True,
        ),
    )
    memory: int | str | None = field(
        default=None,
        metadata=about("Memory to use beside the weights, e.g. 2GiB; by default most of what is free.", free=True),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.every, int):
            at_least("every", self.every, 1)
        parse_memory(self.memory)


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """What was measured. ``groups`` and ``differences`` are the numbers of the page, with 95 % intervals.

    ``new_curves`` of the ``trajectories`` were measured now, the others before; ``skipped`` names those that cannot be
    measured, with the reason. ``exactness``: how far losses are from the definition, where both were measured.
    """

    run: Path
    model: str
    questions: int
    trajectories: int
    new_curves: int
    exactness: Exactness
    skipped: dict[str, str]
    groups: tuple[dict[str, Any], ...]
    differences: tuple[dict[str, Any], ...]


def probe(settings: ProbeSettings, *, command: Sequence[str] | None = None) -> ProbeResult:
    """Measure the answer loss along trajectories into a run folder (RaML alg. 3); goes on where an earlier run ended.

    Without missing curves the model is not even loaded. Raises `InputError` for unusable input; ``command`` is what
    the manifest records as the command line.
    """
    from innerloop.evaluate.aggregate import aggregate
    from innerloop.evaluate.rows import rows

    out = out_folder("probe", settings)
    questions, given = gather(settings.questions, settings.trajectories, **settings.which())
    questions = settings.worded(questions)
    with Run.start(out, "probe", configuration(settings), command=command, free=free_fields(settings)) as run:
        work = Work(run, settings, questions, given)
        done = run.done("curves")
        missing = [trajectory for trajectory in work.wanted if trajectory.id not in done]
        new = _measure(work, run, settings, missing) if missing else 0
        if not missing:
            work.keep_inputs()
            log.info("nothing to do: %s holds all %d curves of this command", out, len(work.wanted))
    held = Run.open(out)
    curves = held.curves()
    seen = rows(aggregate(curves, held.trajectories(), held.questions()))
    return ProbeResult(
        run=out,
        model=settings.model,
        questions=len(questions),
        trajectories=len(work.wanted),
        new_curves=new,
        exactness=exactness(curves),
        skipped=work.skipped,
        groups=tuple(seen["groups"]),
        differences=tuple(seen["differences"]),
    )


def _measure(work: Work, run: Run, settings: ProbeSettings, missing: Sequence[Trajectory]) -> int:
    """Probe the missing trajectories, and write their curves as they come; how many there were."""
    speaker = work.speaker  # a misspelt name is told before torch is imported
    from innerloop.inner.probe import position_count

    items = [
        replace(
            work.item(trajectory, _candidates(work, settings, work.questions[trajectory.question_id])),
            whole=settings.scored == "sequence",
        )
        for trajectory in missing
    ]
    total = sum(position_count(speaker, item, settings.every) for item in items)
    if settings.on_cluster:
        from innerloop.verbs.on_cluster import measured

        by_id = {item.trajectory_id: item for item in items}
        found = measured(run, settings, partial(in_worker, settings), by_id, probe_groups(settings), work.skipped)
    else:
        found = _curves(settings, work.loaded, items, lambda positions: shown.advance(positions))
    count = 0
    with progress("probing", total, "positions") as shown, Shards(run, "curves", Curve) as shards:
        for count, curve in enumerate(found, start=1):
            if count == 1:
                work.keep_inputs()
            shards.add(curve)
            if settings.on_cluster:
                shown.advance(len(curve.position))
    return count


def _curves(
    settings: ProbeSettings, loaded: LoadedModel, items: Sequence[ProbeItem], on_progress: Callable[[int], None]
) -> Iterator[Curve]:
    from innerloop.inner.probe import probe as curves

    memory = parse_memory(settings.memory)
    return curves(loaded, items, every=settings.every, method=settings.method, memory=memory, on_progress=on_progress)


def in_worker(settings: ProbeSettings, loaded: LoadedModel, items: Sequence[ProbeItem]) -> Iterator[tuple[str, Curve]]:
    """The curves with their trajectories' ids, as a worker gives them."""
    return ((curve.trajectory_id, curve) for curve in _curves(settings, loaded, items, lambda _: None))


def probe_groups(
    settings: ProbeSettings,
) -> Callable[[list[Unit[ProbeItem]], int, bool], list[list[Unit[ProbeItem]]]]:
    """Trajectories that the probe would hold at the same time go to one worker together: then it rounds as it would."""

    def groups(units: list[Unit[ProbeItem]], workers: int, on_cpu: bool) -> list[list[Unit[ProbeItem]]]:
        from innerloop.inner.shared import plenty, waves

        if settings.method != "shared":
            return [[unit] for unit in units]
        lengths = [len(unit.work.prompt) + len(unit.work.trajectory) for unit in units]
        prefix = plenty(lengths, on_cpu=on_cpu)
        if not on_cpu:  # what fills a GPU may be all there is
            prefix = max(*lengths, min(prefix, sum(lengths) // (4 * workers)))
        found = [[units[i] for i in wave] for wave in waves(lengths, prefix)]
        return sorted(found, key=lambda own: -_cost(own))  # long ones first, so that all workers end together

    return groups


def _cost(units: Sequence[Unit[ProbeItem]]) -> int:
    return sum(len(unit.work.trajectory) for unit in units)


def _candidates(work: Work, settings: ProbeSettings, question: Question) -> tuple[str, ...]:
    """The reference answer and its rivals, or nothing where there is no rival."""
    others: Sequence[str] = ()
    if settings.candidates == "question":
        others = question.candidates
    elif settings.candidates == "answers":
        others = [answer for answer in rivals(work.wanted, question) if work.speaker.encode(answer)]
    others = [answer for answer in others if answer != question.answer]
    return (question.answer, *others) if others else ()


def parse_memory(memory: int | str | None) -> int | None:
    """Bytes of ``2GiB``, ``500 MB`` or a plain number; powers of 1024. `InputError` for anything else."""
    if memory is None:
        return None
    match = _SIZE.fullmatch(str(memory))
    size = int(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
    if size < 1:
        raise InputError(f"--memory {memory}: write a size such as 2GiB or 500MiB")
    return size
