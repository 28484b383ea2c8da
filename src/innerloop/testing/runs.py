"""Made-up run folders: questions, trajectories and curves with a known story, written with the real store.

from innerloop.testing.runs import made_up, write_run
run = write_run(tmp_path / "R", *made_up(questions=4, tokens=50))
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from innerloop.schema import Curve, Outcome, Question, Source, Trajectory
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
    """Per question one trajectory of each kind, of ``tokens`` tokens, with a noisy curve down to the kind's loss."""
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
                id=f"{question.id}/{source}-{k}",
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


def write_run(
    path: Path,
    questions: Sequence[Question] = (),
    trajectories: Sequence[Trajectory] = (),
    curves: Sequence[Curve] = (),
    *,
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
    return path


def _loss(place: float, end: float, draw: random.Random) -> float:
    """A fall in the second half, with noise of 0.15 nats."""
    return max(0.0, _START + (end - _START) / (1 + math.exp(-10 * (place - 0.6))) + draw.gauss(0, 0.15))
