"""``landscape``: the answer loss on grids of weights around θ, along trajectories' paths, and how sharp it is at θ."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from innerloop.errors import InputError
from innerloop.progress import progress
from innerloop.schema import Landscape, Question, Trajectory
from innerloop.store import Run
from innerloop.verbs.shards import Shards
from innerloop.verbs.shared import about, at_least, configuration, free_fields, out_folder
from innerloop.verbs.trajectories import gather, is_run
from innerloop.verbs.update import parse_positions
from innerloop.verbs.work import TrajectorySettings, Work

if TYPE_CHECKING:
    from innerloop.inner.landscape.scoring import Row

log = logging.getLogger("innerloop")

_RANDOM = ("random-filter", "random-tensor")
_GROUP_TOKENS = 1024  # of the questions that are measured together: what an interrupted run may have to do again


@dataclass(frozen=True, kw_only=True)
class LandscapeSettings(TrajectorySettings):
    """Which planes and lines through the weights to measure, for which questions, and how finely."""

    plane: tuple[Literal["random-filter", "random-tensor", "path", "path-line", "gradient-line"], ...] = field(
        default=("random-filter",),
        metadata=about(
            "Two random directions, scaled per filter or per tensor; the plane of a trajectory's path; the line along "
            "its path or along the negative gradient. Repeat it for several. Random planes need no trajectories."
        ),
    )
    moved: Literal["matrices", "all"] = field(
        default="matrices",
        metadata=about(
            "What random planes and the sharpness move: all matrices but embeddings and output head, or norms and "
            "biases too, as the paper has it (RaML alg. 4), e.g. --moved all.",
            later=True,
        ),
    )
    points: int = field(default=25, metadata=about("Grid points per axis; an odd number has one at the model itself."))
    span: float = field(
        default=1.0,
        metadata=about("How far the axes go to both sides: 1 is the weights' own norm, or the path's own length."),
    )
    positions: str = field(
        default="parts:16",
        metadata=about(
            "Points of a path beside its start: end, all, every:N tokens, parts:N (the ends of N equal parts), or a "
            "LIST such as 10,20."
        ),
    )
    sharpness: bool = field(
        default=False,
        metadata=about("Also estimate the Hessian's highest and lowest eigenvalue and its trace, per question."),
    )
    products: int = field(
        default=20,
        metadata=about("Hessian–vector products for the eigenvalues, and as many for the trace."),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.plane:
            raise InputError(
                "--plane: nothing given; name random-filter, random-tensor, path, path-line, gradient-line"
            )
        at_least("points", self.points, 3)
        at_least("products", self.products, 2)
        if not (math.isfinite(self.span) and self.span > 0):
            raise InputError(f"--span {self.span}: must be a number above 0")
        parse_positions(self.positions)

    @property
    def along_paths(self) -> tuple[str, ...]:
        """The planes and lines that belong to a trajectory."""
        return tuple(dict.fromkeys(plane for plane in self.plane if plane not in _RANDOM))

    @property
    def random(self) -> tuple[str, ...]:
        """The planes that belong to a question alone."""
        return tuple(dict.fromkeys(plane for plane in self.plane if plane in _RANDOM))


@dataclass(frozen=True, kw_only=True)
class PlaneRow:
    """The landscapes of one kind, averaged. Losses in nats per answer token; None where there is nothing to average."""

    plane: str
    landscapes: int
    centre: float | None
    lowest: float | None
    captured: float | None


@dataclass(frozen=True, kw_only=True)
class SharpnessRow:
    """The Hessian's numbers, averaged over questions."""

    questions: int
    top_eigenvalue: float | None
    low_eigenvalue: float | None
    trace: float | None


@dataclass(frozen=True, kw_only=True)
class LandscapeResult:
    """What was measured. ``new`` of the ``landscapes`` were measured now, the others before."""

    run: Path
    model: str
    questions: int
    landscapes: int
    new: int
    planes: tuple[PlaneRow, ...]
    sharpness: SharpnessRow | None
    skipped: dict[str, str]


def landscape(settings: LandscapeSettings, *, command: Sequence[str] | None = None) -> LandscapeResult:
    """Measure L_q on grids of weights into a run folder (RaML alg. 4); goes on where an earlier run ended.

    Raises `InputError` for unusable input; ``command`` is what the manifest records as the command line.
    """
    # Read when torch is imported: its idle threads then leave their cores to the threads that draw directions, instead
    # of spinning on them. On two cores a grid point takes a tenth less time, and a bare forward is as fast as before.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    out = out_folder("landscape", settings)
    wanted = settings.trajectories if settings.along_paths else tuple(filter(is_run, settings.trajectories))
    questions, given = gather(settings.questions, wanted, **settings.which())
    questions = settings.worded(questions)
    with Run.start(out, "landscape", configuration(settings), command=command, free=free_fields(settings)) as run:
        work = _Work(run, settings, questions, given if settings.along_paths else [])
        new = work.grids()
        if settings.sharpness:
            work.sharpness()
        if not new:
            work.keep_inputs()
            log.info("nothing to do: %s holds all %d landscapes of this command", out, work.total)
    found = Run.open(out).landscapes()
    return LandscapeResult(
        run=out,
        model=settings.model,
        questions=len(questions),
        landscapes=work.total,
        new=new,
        planes=tuple(_averages(found)),
        sharpness=_average_sharpness(found),
        skipped=work.skipped,
    )


class _Work(Work):
    """What one call of ``landscape`` is about; a unit is one plane of one question or trajectory."""

    _settings: LandscapeSettings

    def __init__(
        self, run: Run, settings: LandscapeSettings, questions: Sequence[Question], given: Sequence[Trajectory]
    ) -> None:
        super().__init__(run, settings, questions, given)
        done = run.done("landscapes")
        units = [(f"{question.id}/{plane}", plane, question) for plane in settings.random for question in questions]
        self._of_questions = [unit for unit in units if unit[0] not in done]
        self.total = len(units) + len(self.wanted) * len(settings.along_paths)
        self._of_paths = {
            trajectory.id: missing
            for trajectory in self.wanted
            if (missing := [plane for plane in settings.along_paths if f"{trajectory.id}/{plane}" not in done])
        }

    def grids(self) -> int:
        """Measures the missing landscapes and writes them as they come; returns how many."""
        lines = sum(plane.endswith("-line") for planes in self._of_paths.values() for plane in planes)
        planes = sum(map(len, self._of_paths.values())) - lines + len(self._of_questions)
        points = self._settings.points
        if planes + lines == 0:
            return 0
        self.loaded  # noqa: B018  # a misspelt name is told before the bar appears
        number = 0
        with (
            progress("landscape", planes * points**2 + lines * points, "losses") as shown,
            Shards(self._run, "landscapes", Landscape) as shards,
        ):
            for number, record in enumerate(self._records(shown.advance), start=1):
                if number == 1:
                    self.keep_inputs()
                shards.add(record)
        return number

    def _records(self, advance: Callable[[int], None]) -> Iterator[Landscape]:
        for plane in self._settings.random:
            yield from self._random(plane, advance)
        for trajectory in self.wanted:
            if trajectory.id in self._of_paths:
                yield from self._path(trajectory, self._of_paths[trajectory.id], advance)

    def _random(self, plane: str, advance: Callable[[int], None]) -> Iterator[Landscape]:
        from innerloop.inner.landscape import grid
        from innerloop.inner.landscape.directions import RandomDirections
        from innerloop.inner.landscape.scoring import groups
        from innerloop.inner.landscape.weights import landscape_weights

        units = [(id_, question) for id_, own, question in self._of_questions if own == plane]
        if not units:
            return
        rows = [self._row(question) for _, question in units]
        directions = RandomDirections(
            landscape_weights(self.loaded.model, self._settings.moved),
            seed=self._settings.seed,
            scaling="filter" if plane == "random-filter" else "tensor",
        )
        axis = grid.axis(self._settings.points, self._settings.span)
        for group in groups(rows, _GROUP_TOKENS):
            losses = grid.grid_losses(
                self.loaded,
                [rows[i] for i in group],
                directions,
                grid.plane(axis, axis),
                on_progress=partial(_times, advance, len(group)),
            )
            for column, i in enumerate(group):
                id_, question = units[i]
                yield Landscape(
                    id=id_,
                    question_id=question.id,
                    plane=plane,
                    seed=self._settings.seed,
                    alpha=axis,
                    beta=axis,
                    loss=tuple(losses[:, column].tolist()),
                )

    def _path(
        self, trajectory: Trajectory, planes: Sequence[str], advance: Callable[[int], None]
    ) -> Iterator[Landscape]:
        """A trajectory's own plane and lines; positions as an adapter's are, since there is no trajectory to skip."""
        from innerloop.inner.landscape.figures import path_landscapes
        from innerloop.inner.update import update

        item = self.item(trajectory)
        where = sorted({0, *parse_positions(self._settings.positions, len(item.trajectory))})  # a path begins at θ
        [made] = update(self.loaded, [item], positions=[where], placement="contiguous")
        yield from path_landscapes(
            self.loaded, made, planes, points=self._settings.points, span=self._settings.span, on_progress=advance
        )

    def _row(self, question: Question) -> Row:
        from innerloop.inner.landscape.scoring import row_of

        return row_of(self.loaded, question.id, self.loaded.prompt(question), question.answer)

    def sharpness(self) -> None:
        """Adds the Hessian's numbers to the landscapes that lack them, question by question."""
        lacking: dict[str, list[Landscape]] = {}
        known: dict[str, dict[str, Any]] = {}
        for record in self._run.landscapes():
            numbers = {name: getattr(record, name) for name in _SHARPNESS}
            if record.question_id in self.questions:
                if numbers["top_eigenvalue"] is None:
                    lacking.setdefault(record.question_id, []).append(record)
                else:
                    known[record.question_id] = numbers
        todo = [question for question in lacking if question not in known]
        total = 2 * self._settings.products * len(todo)
        with progress("sharpness", total, "products") as shown, Shards(self._run, "landscapes", Landscape) as shards:
            for question, records in lacking.items():
                numbers = known.get(question) or self._sharpness(self.questions[question], shown.advance)
                shards.add(*(replace(record, **numbers) for record in records))

    def _sharpness(self, question: Question, advance: Callable[[int], None]) -> dict[str, Any]:
        from innerloop.inner.landscape.sharpness import sharpness

        count = self._settings.products
        found = sharpness(
            self.loaded,
            self._row(question),
            steps=count,
            samples=count,
            seed=self._settings.seed,
            moved=self._settings.moved,
            on_progress=advance,
        )
        if max(found.top_error, found.low_error) > 0.05 * max(abs(found.top), abs(found.low)):
            log.warning(
                "question %r: the Hessian's eigenvalues %.3g and %.3g are uncertain by %.1g and %.1g; raise --products",
                question.id,
                found.top,
                found.low,
                found.top_error,
                found.low_error,
            )
        values = (found.weights, found.top, found.low, found.trace, found.trace_error)
        return dict(zip(_SHARPNESS, values, strict=True))


def _times(advance: Callable[[int], None], questions: int, points: int) -> None:
    advance(questions * points)


_SHARPNESS = ("sharpness_weights", "top_eigenvalue", "low_eigenvalue", "trace", "trace_error")


def _averages(found: Sequence[Landscape]) -> Iterator[PlaneRow]:
    """One row per kind of plane, in the order of first appearance."""
    for plane in dict.fromkeys(record.plane for record in found):
        own = [record for record in found if record.plane == plane]
        yield PlaneRow(
            plane=plane,
            landscapes=len(own),
            centre=_mean([_centre(record) for record in own]),
            lowest=_mean([min(filter(math.isfinite, record.loss), default=None) for record in own]),
            captured=_mean([record.captured for record in own]),
        )


def _average_sharpness(found: Sequence[Landscape]) -> SharpnessRow | None:
    """Each question once: its landscapes all carry the same numbers."""
    own = {record.question_id: record for record in found if record.top_eigenvalue is not None}
    if not own:
        return None
    names = ("top_eigenvalue", "low_eigenvalue", "trace")
    return SharpnessRow(
        questions=len(own), **{name: _mean([getattr(record, name) for record in own.values()]) for name in names}
    )


def _centre(record: Landscape) -> float | None:
    """The loss at θ, where that is a grid point."""
    if 0.0 not in record.alpha or 0.0 not in record.beta:
        return None
    return record.loss[record.alpha.index(0.0) * len(record.beta) + record.beta.index(0.0)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
