"""``update``: the inner loop's weights along trajectories, checked against the gradient, and saved as adapters."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

from innerloop.errors import InputError
from innerloop.ids import apart, file_names
from innerloop.progress import progress
from innerloop.schema import Trajectory, Update
from innerloop.store import Run
from innerloop.verbs.cluster_settings import MeasuringSettings
from innerloop.verbs.shards import Shards
from innerloop.verbs.shared import about, configuration, free_fields, out_folder
from innerloop.verbs.trajectories import gather
from innerloop.verbs.work import TrajectorySettings, Work

if TYPE_CHECKING:
    from innerloop.cluster.work import Unit
    from innerloop.inner.probe import ProbeItem
    from innerloop.inner.update import TrajectoryUpdate
    from innerloop.models import LoadedModel

log = logging.getLogger("innerloop")

_REPEATED = re.compile(r"(every|parts):([1-9]\d*)")
_LISTED = re.compile(r"\d+(,\d+)*")


@dataclass(frozen=True, kw_only=True)
class UpdateSettings(TrajectorySettings, MeasuringSettings):
    """Which trajectories to turn into weights, at which positions, and how."""

    positions: str = field(
        default="every:8",
        metadata=about(
            "After how many tokens the update is computed: end, all, every:N, parts:N (the ends of N equal parts), or "
            "a LIST such as 0,10,20."
        ),
    )
    gauge: Literal["attention", "mlp", "paper"] = field(
        default="attention",
        metadata=about(
            "Which weights are patched: attention's output projection; the MLP's; or queries, keys and values as in "
            "the proof of RaML prop. 2.1, which is an approximation."
        ),
    )
    scope: Literal["weights", "answer"] = field(
        default="weights",
        metadata=about("weights: every token passes through the patched weights; answer: only suffix and answer do."),
    )
    placement: Literal["kept", "contiguous"] = field(
        default="kept",
        metadata=about("Position ids of suffix and answer: as behind the trajectory, or right behind the question."),
    )
    alignment: Literal["all", "first", "none"] = field(
        default="all",
        metadata=about(
            "Compare with the gradient of the answer loss. first: at the model's own weights; all: also from each "
            "position to the next, and with the layer-causal gradient."
        ),
    )
    untrained: bool = field(
        default=False,
        metadata=about(
            "Also measure the trajectories, without their controls, on an untrained model of the same shape."
        ),
    )
    save_adapter: Path | None = field(
        default=None,
        metadata=about(
            "Also save the weights at each trajectory's end as PEFT adapters: into this folder, or one folder each "
            "in it where there are several.",
            free=True,
        ),
    )
    merge: bool = field(
        default=False,
        metadata=about("Save one adapter per question, merged from all its trajectories.", free=True),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_positions(self.positions)
        if self.gauge == "paper" and self.scope != "weights":
            raise InputError("--scope answer: gauge paper changes the question's keys and values; use --scope weights")
        if self.merge and self.save_adapter is None:
            raise InputError("--merge: say with --save-adapter DIR where the merged adapter goes")
        if self.save_adapter is not None and self.gauge == "paper":
            raise InputError("--save-adapter: gauge paper is no exact patch; use --gauge attention or mlp")


@dataclass(frozen=True, kw_only=True)
class SavedAdapter:
    """One adapter that was written, and what it is made of.

    ``residual`` is max |Δ log p| between its weights and the full runs of its ``trajectories``, in nats; ``apart`` the
    part of the wanted change that merging several trajectories lost (0 for one).
    """

    path: Path
    trajectories: tuple[str, ...]
    residual: float
    apart: float


@dataclass(frozen=True, kw_only=True)
class UpdateResult:
    """What was measured. ``alignment`` holds a row per kind of trajectory, as the page shows them.

    ``residual`` is the largest max |Δ log p| between patched and full run, in nats; ``relative`` the median of
    ‖θ'ᵢ − θ‖ / ‖θ‖. ``new`` of the ``trajectories`` were measured now, the others before.
    """

    run: Path
    model: str
    gauge: str
    questions: int
    trajectories: int
    positions: int
    new: int
    residual: float | None
    relative: float | None
    alignment: tuple[Any, ...]
    adapters: tuple[SavedAdapter, ...]
    skipped: dict[str, str]


def update(settings: UpdateSettings, *, command: Sequence[str] | None = None) -> UpdateResult:
    """Compute θ'ᵢ − θ along trajectories into a run folder (RaML eq. 4); goes on where an earlier run ended.

    Raises `InputError` for unusable input; ``command`` is what the manifest records as the command line.
    """
    out = out_folder("update", settings)
    questions, given = gather(settings.questions, settings.trajectories, **settings.which())
    questions = settings.worded(questions)
    with Run.start(out, "update", configuration(settings), command=command, free=free_fields(settings)) as run:
        work = Work(run, settings, questions, given)
        targets = _adapter_folders(work, settings)
        done = run.done("updates")
        kinds = (False, True) if settings.untrained else (False,)
        if settings.untrained:
            wanted = _wanted(work, untrained=True)
            apart(
                (_unit(t, untrained=True) for t in wanted), {t.id for t in work.wanted}, "an untrained model's update"
            )
        missing = {
            kind: [t for t in _wanted(work, untrained=kind) if _unit(t, untrained=kind) not in done] for kind in kinds
        }
        for untrained, trajectories in missing.items():
            if trajectories:
                _measure(work, run, settings, trajectories, untrained=untrained)
        if not any(missing.values()):
            work.keep_inputs()
            log.info("nothing to do: %s holds the updates of all %d trajectories", out, len(work.wanted))
        adapters = tuple(_save(work, settings, targets))
    return _result(out, settings, work, new=len(missing[False]), adapters=adapters)


def parse_positions(text: str, length: int = 0) -> tuple[int, ...]:
    """The positions that ``text`` means for a trajectory of ``length`` tokens, rising; `InputError` for other texts.

    A list is taken as it is, whether or not the trajectory is that long.
    """
    if text == "end":
        return (length,)
    if text == "all":
        return tuple(range(length + 1))
    if (match := _REPEATED.fullmatch(text)) is not None:
        n = int(match[2])
        if match[1] == "every":
            return tuple(sorted({*range(0, length + 1, n), length}))
        return tuple(sorted({length * part // n for part in range(1, n + 1)}))
    if _LISTED.fullmatch(text):
        return tuple(sorted({int(part) for part in text.split(",")}))
    raise InputError(f"--positions {text}: write end, all, every:N, parts:N (N from 1 on) or a list such as 0,10,20")


def _wanted(work: Work, *, untrained: bool) -> list[Trajectory]:
    """What is measured; an untrained model is itself a control and gets no further ones."""
    return [t for t in work.wanted if not (untrained and t.source.is_control)]


def _unit(trajectory: Trajectory, *, untrained: bool) -> str:
    return trajectory.id + ("@untrained" if untrained else "")


def _measure(
    work: Work, run: Run, settings: UpdateSettings, trajectories: Sequence[Trajectory], *, untrained: bool
) -> None:
    """The updates of the trajectories, written as they come."""
    work.speaker  # noqa: B018  # a misspelt name is told before torch is imported
    items = [work.item(trajectory) for trajectory in trajectories]
    where = [parse_positions(settings.positions, len(item.trajectory)) for item in items]
    said = "untrained model" if untrained else "updating"
    measure = partial(_records, settings, untrained)
    pieces = {item.trajectory_id: (item, own) for item, own in zip(items, where, strict=True)}
    if settings.on_cluster:
        from innerloop.verbs.on_cluster import measured

        found = measured(run, settings, measure, pieces, _groups, work.skipped)
    else:
        found = (records for _, records in measure(work.loaded, list(pieces.values())))
    with progress(said, sum(map(len, where)), "positions") as shown, Shards(run, "updates", Update) as shards:
        for number, records in enumerate(found):
            if number == 0:
                work.keep_inputs()
            shards.add(*records)
            shown.advance(len(records))


Piece = tuple["ProbeItem", tuple[int, ...]]  # a trajectory, and the positions wanted


def _records(
    settings: UpdateSettings, untrained: bool, loaded: LoadedModel, pieces: Sequence[Piece]
) -> Iterator[tuple[str, list[Update]]]:
    """The updates of each trajectory, here or in a worker."""
    from innerloop.inner.update import update as updates

    if untrained:
        loaded = _without_training(loaded, settings.seed)
    made = updates(
        loaded,
        [item for item, _ in pieces],
        positions=[where for _, where in pieces],
        gauge=settings.gauge,
        scope=settings.scope,
        placement=settings.placement,
    )
    for updated in made:
        yield updated.item.trajectory_id, _with_alignment(loaded, updated, settings, untrained=untrained)


_drawn: WeakKeyDictionary[Any, tuple[int, LoadedModel]] = WeakKeyDictionary()  # by the trained model


def _without_training(loaded: LoadedModel, seed: int) -> LoadedModel:
    """Drawn once by a worker that gets one group after the other, and kept no longer than the trained model."""
    from innerloop.inner.untrained import untrained

    known = _drawn.get(loaded.model)
    if known is None or known[0] != seed:
        known = _drawn[loaded.model] = (seed, untrained(loaded, seed=seed))
    return known[1]


def _groups(units: list[Unit[Piece]], *_: object) -> list[list[Unit[Piece]]]:
    """Each trajectory is computed for itself anyway. Long ones first, so that all workers end together."""
    return [[unit] for unit in sorted(units, key=lambda unit: -len(unit.work[0].trajectory) * len(unit.work[1]))]


def _with_alignment(
    loaded: LoadedModel, updated: TrajectoryUpdate, settings: UpdateSettings, *, untrained: bool
) -> list[Update]:
    records = updated.records(untrained=untrained)
    if settings.alignment == "none":
        return records
    from innerloop.inner.alignment import align

    everything = settings.alignment == "all"
    aligned = align(loaded, updated, stepwise=everything, causal=everything)
    fields: list[dict[str, Any]] = [dict(aligned.fields(row)) for row in range(len(records))]
    return [replace(record, **found) for record, found in zip(records, fields, strict=True)]


def _result(
    out: Path, settings: UpdateSettings, work: Work, *, new: int, adapters: tuple[SavedAdapter, ...]
) -> UpdateResult:
    import statistics

    from innerloop.evaluate.alignment import summarise
    from innerloop.evaluate.groups import grouped

    run = Run.open(out)
    updates = run.updates()
    own = [record for record in updates if not record.untrained]
    labels = {id_: group.label for id_, group in grouped(run.trajectories()).items()}
    return UpdateResult(
        run=out,
        model=settings.model,
        gauge=settings.gauge,
        questions=len(work.questions),
        trajectories=len(work.wanted),
        positions=len(own),
        new=new,
        residual=max((record.residual for record in own), default=None),
        relative=statistics.median(record.relative for record in own) if own else None,
        alignment=tuple(summarise(updates, labels)),
        adapters=adapters,
        skipped=work.skipped,
    )


def _adapter_folders(work: Work, settings: UpdateSettings) -> list[tuple[Path, list[Trajectory]]]:
    """Where each adapter goes and what it is made of. `InputError` where a folder is taken, before the long work."""
    if settings.save_adapter is None:
        return []
    from innerloop.inner.adapter import check_target

    groups: dict[str, list[Trajectory]] = {}
    for trajectory in work.wanted:
        if not trajectory.source.is_control:
            groups.setdefault(trajectory.question_id if settings.merge else trajectory.id, []).append(trajectory)
    root = settings.save_adapter
    check_target(root)
    if len(groups) == 1:
        return [(root, members) for members in groups.values()]
    return [
        (root / name, members) for name, members in zip(file_names(groups, "adapter"), groups.values(), strict=True)
    ]


def _save(
    work: Work, settings: UpdateSettings, targets: Sequence[tuple[Path, list[Trajectory]]]
) -> Iterator[SavedAdapter]:
    """Writes each adapter and names it."""
    if not targets:
        return
    with progress("saving adapters", len(targets), "adapters") as shown:
        for folder, trajectories in targets:
            yield _adapter(work, settings, folder, [work.item(trajectory) for trajectory in trajectories])
            shown.advance(1)


def _adapter(work: Work, settings: UpdateSettings, folder: Path, items: Sequence[ProbeItem]) -> SavedAdapter:
    """θ' at the end of one trajectory, or of several merged, with ordinary position ids."""
    from innerloop.inner.adapter import save_adapter
    from innerloop.inner.merge import merge

    merged = merge(work.loaded, items, gauge=settings.gauge)
    question = work.questions[items[0].question_id].question
    path = save_adapter(work.loaded, merged.patch, 0, folder, merged.origin(question))
    return SavedAdapter(
        path=path,
        trajectories=tuple(item.trajectory_id for item in items),
        residual=float(merged.residual.max()),
        apart=merged.apart,
    )
