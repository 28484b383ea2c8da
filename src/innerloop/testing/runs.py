"""Made-up run folders: questions, trajectories and curves with a known story, written with the real store.

from innerloop.testing.runs import made_up, made_up_landscapes, made_up_updates, write_run
asked, told, curves = made_up(questions=4, tokens=50)
updates = made_up_updates(told, curves)
run = write_run(tmp_path / "R", asked, told, curves, updates=updates, landscapes=made_up_landscapes(asked, updates))
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from innerloop.schema import Curve, Landscape, Outcome, Question, Source, Trajectory, Update
from innerloop.store import Run

MODEL = {"name": "tiny", "parameters": 134_515_008, "dtype": "float32", "fingerprint": "ab12cd34ef56ab78"}

#: (source, outcome, loss at the end): every story starts at 3 nats per answer token.
KINDS: tuple[tuple[Source, Outcome | None, float], ...] = (
    (Source.SOLUTION, None, 0.4),
    (Source.SAMPLE, Outcome.RIGHT, 0.8),
    (Source.SAMPLE, Outcome.WRONG, 2.6),
    (Source.OTHER_QUESTION, None, 3.0),
    (Source.SHUFFLED, None, 2.7),
)
_START = 3.0
_WORDS = (
    "the", "train", "leaves", "at", "noon", "so", "we", "add", "3", "+", "4", "=", "7", "hours", ".", "Wait", ",",
    "let", "me", "check", "\n", "Then", "half", "of", "that", "is", "3.5", "apples", "per", "day", ".\n\n",
)  # fmt: skip

Story = tuple[list[Question], list[Trajectory], list[Curve]]


def made_up(
    *, questions: int, tokens: int, kinds: Sequence[tuple[Source, Outcome | None, float]] = KINDS, seed: int = 0
) -> Story:
    """Per question one trajectory of each kind, of ``tokens`` tokens, with a noisy curve down to the kind's loss.

    Controls are made of the first kind.
    """
    asked = [
        Question(id=f"q-{q}", question=f"How many apples has child number {q}?", answer=str(7 + q))
        for q in range(questions)
    ]
    told, curves = [], []
    for q, question in enumerate(asked):
        for k, (source, outcome, end) in enumerate(kinds):
            draw = random.Random(seed + 1000 * q + k)
            pieces = [(" " if i else "") + draw.choice(_WORDS) for i in range(tokens)]
            trajectory = Trajectory(
                id=f"{question.id}/{kinds[0][0]}-0/{source}" if source.is_control else f"{question.id}/{source}-{k}",
                question_id=question.id,
                text="".join(pieces),
                source=source,
                outcome=outcome,
                model="tiny",
                tokens=tokens,
            )
            told.append(trajectory)
            curves.append(curve(trajectory, pieces, [_loss(i / tokens, end, draw) for i in range(tokens + 1)]))
    return asked, told, curves


def curve(trajectory: Trajectory, pieces: Sequence[str], loss: Sequence[float], **more: Any) -> Curve:
    """A curve over every token; ``loss`` has one value more than there are ``pieces``. ``more`` are further fields."""
    if len(loss) != len(pieces) + 1:
        raise ValueError(f"{len(pieces)} pieces need {len(pieces) + 1} losses, got {len(loss)}")
    made = Curve(
        question_id=trajectory.question_id,
        trajectory_id=trajectory.id,
        position=tuple(range(len(pieces) + 1)),
        token_id=(None, *range(len(pieces))),
        token=(None, *pieces),
        loss=tuple(loss),
        answer_tokens=2,
    )
    return dataclasses.replace(made, **more)


def made_up_updates(
    told: Sequence[Trajectory],
    curves: Sequence[Curve],
    *,
    layers: int = 6,
    every: int = 10,
    gauge: str = "attention",
    aligned: bool = True,
    untrained: bool = True,
    seed: int = 0,
) -> list[Update]:
    """The updates along each curve, at position ``every``, twice ``every``, … and the last.

    The story: a patch is exact to 1e-6; steps are largest in the middle layers; the gradient predicts 0.8 of the
    change with noise of 0.2 nats, for controls too. ``untrained`` adds the worked solutions under a model that
    learns nothing. Without ``aligned`` every number of the alignment is null.
    """
    source = {trajectory.id: trajectory.source for trajectory in told}
    made = []
    for number, measured in enumerate(curves):
        kinds = [False, True] if untrained and source[measured.trajectory_id] is Source.SOLUTION else [False]
        for fresh in kinds:
            draw = random.Random(seed + 2 * number + fresh)
            made += _updates(measured, draw, layers=layers, every=every, gauge=gauge, aligned=aligned, untrained=fresh)
    return made


def _updates(
    measured: Curve, draw: random.Random, *, layers: int, every: int, gauge: str, aligned: bool, untrained: bool
) -> list[Update]:
    """The updates along one curve."""
    last = len(measured.position) - 1
    places = sorted({*range(every, last, every), last})
    base = measured.loss[0] + 0.1  # what the shift of positions alone does
    profile = [math.exp(-(((layer + 0.5) / layers - 0.5) ** 2) / 0.05) for layer in range(layers)]
    made: list[Update] = []
    for before, at in zip([None, *places], places, strict=False):
        full = base - 0.1 + draw.gauss(0, 0.05) if untrained else measured.loss[at]
        predicted = 0.8 * (full - base) + draw.gauss(0, 0.2)
        norms = [3 * (at / last) ** 0.5 * height for height in profile]
        step = None if before is None else [height * draw.uniform(0.3, 1.0) for height in profile]
        alignment: dict[str, Any] = {
            "predicted": predicted,
            "null_sd": 0.1,
            "gradient_norm": 12.0,
            "cosine": -predicted / 400,
            "layer_predicted": tuple(predicted * height / sum(profile) for height in profile),
            "layer_null_sd": tuple(0.1 / layers for _ in profile),
            "layer_cosine": tuple(-predicted / 100 * height for height in profile),
            "causal_predicted": 0.7 * predicted,
            "causal_null_sd": 0.1,
            "causal_cosine": -predicted / 500,
        }
        if made:
            change = full - made[-1].loss
            alignment |= {"step_predicted": 0.8 * change + draw.gauss(0, 0.05), "step_null_sd": 0.05}
        made.append(
            Update(
                id=measured.trajectory_id + ("@untrained" if untrained else ""),
                question_id=measured.question_id,
                trajectory_id=measured.trajectory_id,
                position=measured.position[at],
                gauge=gauge,
                scope="weights",
                placement="kept",
                untrained=untrained,
                loss=full + draw.uniform(-1e-6, 1e-6),
                full_loss=full,
                base_loss=base,
                residual=draw.uniform(1e-7, 1e-6),
                rank=13,
                norm=math.hypot(*norms),
                relative=math.hypot(*norms) / 150,
                condition=draw.uniform(1e2, 1e4),
                step_norm=None if step is None else math.hypot(*step),
                layer_norm=tuple(norms),
                layer_step=None if step is None else tuple(step),
                layer_error=tuple(0.02 + 0.3 * height for height in profile) if gauge == "paper" else None,
                **(alignment if aligned else {}),
            )
        )
    return made


def made_up_landscapes(
    asked: Sequence[Question], updates: Sequence[Update], *, size: int = 11, sharpness: bool = True
) -> list[Landscape]:
    """Per question: the plane of its first trajectory's path, the two lines, and one random plane.

    The story: in the path's plane the loss is a bowl with its lowest point at (1, 0), where the path ends; across a
    random plane it only rises. The plane holds 0.9 of the path.
    """
    made = []
    for question in asked:
        path = [update for update in updates if update.question_id == question.id and not update.untrained]
        path = [update for update in path if update.id == path[0].id]
        if not path:
            continue
        top, last = path[0].base_loss, path[-1]
        place = [update.position / last.position for update in path]
        depth = max(top - last.loss, 0.1)
        grid = [-0.5 + 2 * i / (size - 1) for i in range(size)]
        points: dict[str, Any] = {
            "position": tuple(update.position for update in path),
            "path_alpha": tuple(place),
            "path_beta": tuple(0.4 * math.sin(math.pi * x) for x in place),
            "path_loss": tuple(update.loss for update in path),
        }
        sharp: dict[str, Any] = {
            "sharpness_weights": "attention output projections",
            "top_eigenvalue": 41.5,
            "low_eigenvalue": -3.25,
            "trace": 310.0,
            "trace_error": 12.0,
        }
        common: dict[str, Any] = {"question_id": question.id, **(sharp if sharpness else {})}
        known = {"trajectory_id": path[0].trajectory_id, **common}
        bowl = tuple(top + depth * ((a - 1) ** 2 - 1 + 0.5 * b * b) for a in grid for b in grid)
        rise = tuple(top + 2 * (a - 0.5) ** 2 + (b - 0.5) ** 2 * (1 + 0.3 * a) for a in grid for b in grid)
        line = tuple(top + depth * ((a - 1) ** 2 - 1) for a in grid)
        steeper = tuple(top - 0.5 * depth * math.sin(2 * a) for a in grid)
        name = question.id
        axes: dict[str, Any] = {"alpha": tuple(grid), "beta": tuple(grid)}
        made += [
            Landscape(id=f"{name}/path", plane="path", loss=bowl, captured=0.9, **axes, **points, **known),
            Landscape(id=f"{name}/random-filter-3", plane="random-filter", seed=3, loss=rise, **axes, **common),
            Landscape(id=f"{name}/path-line", plane="path-line", loss=line, **(axes | {"beta": (0.0,)}), **known),
            Landscape(
                id=f"{name}/gradient-line", plane="gradient-line", loss=steeper, **(axes | {"beta": (0.0,)}), **known
            ),
        ]
    return made


def write_run(
    path: Path,
    questions: Sequence[Question] = (),
    trajectories: Sequence[Trajectory] = (),
    curves: Sequence[Curve] = (),
    *,
    updates: Sequence[Update] = (),
    landscapes: Sequence[Landscape] = (),
    configuration: dict[str, Any] | None = None,
    command: Sequence[str] = ("innerloop", "probe", "--model", "tiny"),
) -> Path:
    """A finished run folder at ``path`` that holds these records."""
    settings = {"questions": "made-up.jsonl", "seed": 5, **(configuration or {})}
    with Run.start(path, "probe", settings, command=command, model=MODEL) as run:
        if questions:
            run.write("questions", Question.to_table(questions))
        if trajectories:
            run.write("trajectories", Trajectory.to_table(trajectories))
        if curves:
            run.write("curves", Curve.to_table(curves))
    if updates:
        with Run.start(path, "update", settings, command=("innerloop", "update"), model=MODEL) as run:
            run.write("updates", Update.to_table(updates))
    if landscapes:
        with Run.start(path, "landscape", settings, command=("innerloop", "landscape"), model=MODEL) as run:
            run.write("landscapes", Landscape.to_table(landscapes))
    return path


def _loss(place: float, end: float, draw: random.Random) -> float:
    """A fall in the second half, with noise of 0.15 nats."""
    return max(0.0, _START + (end - _START) / (1 + math.exp(-10 * (place - 0.6))) + draw.gauss(0, 0.15))
