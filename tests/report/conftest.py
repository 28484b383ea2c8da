"""Synthetic run folders, made with the real schema and store."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from innerloop.schema import Curve, Outcome, Question, Source, Trajectory
from innerloop.store import Run

MODEL = {"name": "tiny", "parameters": 134_515_008, "dtype": "float32", "fingerprint": "ab12cd34ef56ab78"}
WORDS = (
    "the", "train", "leaves", "at", "noon", "so", "we", "add", "3", "+", "4", "=", "7", "hours", ".", "Wait", ",",
    "let", "me", "check", "\n", "Then", "half", "of", "that", "is", "3.5", "apples", "per", "day", ".\n\n",
)  # fmt: skip

MakeRun = Callable[..., Path]


def curve_of(trajectory: Trajectory, tokens: Sequence[str], loss: Sequence[float], **more: Any) -> Curve:
    """A curve over every token; ``loss`` has one value more than ``tokens``."""
    return Curve(
        question_id=trajectory.question_id,
        trajectory_id=trajectory.id,
        position=tuple(range(len(tokens) + 1)),
        token_id=(None, *range(len(tokens))),
        token=(None, *tokens),
        loss=tuple(loss),
        answer_tokens=more.pop("answer_tokens", 2),
        **more,
    )


def made_up(
    trajectory: Trajectory, tokens: int, seed: int, *, to: float, candidates: tuple[str, ...] = ()
) -> tuple[Trajectory, Curve]:
    """A trajectory of made-up words whose loss goes noisily from 3 to ``to``."""
    draw = random.Random(seed)
    pieces = [(" " if i else "") + draw.choice(WORDS) for i in range(tokens)]
    loss = [
        max(0.0, 3 + (to - 3) / (1 + math.exp(-10 * (i / tokens - 0.6))) + draw.gauss(0, 0.15))
        for i in range(tokens + 1)
    ]
    more: dict[str, Any] = {}
    if candidates:
        more = {
            "candidates": candidates,
            "candidate_tokens": (2,) * len(candidates),
            "candidate_losses": tuple(tuple(value + 0.7 * c for c in range(len(candidates))) for value in loss),
        }
    text = "".join(pieces)
    told = Trajectory(**{**{name: getattr(trajectory, name) for name in Trajectory.SCHEMA.names}, "text": text})
    return told, curve_of(told, pieces, loss, **more)


def story(questions: int, tokens: int, *, kinds: Sequence[tuple[Source, Outcome | None, float]], seed: int = 0) -> Any:
    """Questions, trajectories and curves: per question one trajectory of each kind (source, outcome, final loss)."""
    asked, told, curves = [], [], []
    for q in range(questions):
        question = Question(id=f"q-{q}", question=f"How many apples has child number {q}?", answer=str(7 + q))
        asked.append(question)
        for k, (source, outcome, to) in enumerate(kinds):
            empty = Trajectory(
                id=f"q-{q}/{source}-{k}", question_id=question.id, text="", source=source, outcome=outcome, model="tiny"
            )
            trajectory, curve = made_up(empty, tokens, seed + 1000 * q + k, to=to)
            told.append(trajectory)
            curves.append(curve)
    return asked, told, curves


KINDS = (
    (Source.SOLUTION, None, 0.4),
    (Source.SAMPLE, Outcome.RIGHT, 0.8),
    (Source.SAMPLE, Outcome.WRONG, 2.6),
    (Source.OTHER_QUESTION, None, 3.0),
    (Source.SHUFFLED, None, 2.7),
)


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> MakeRun:
    """``make_run(questions, trajectories, curves, **manifest)`` writes a finished run folder and returns its path."""

    def make(
        questions: Sequence[Question] = (),
        trajectories: Sequence[Trajectory] = (),
        curves: Sequence[Curve] = (),
        *,
        configuration: dict[str, Any] | None = None,
        command: Sequence[str] = ("innerloop", "probe", "--model", "tiny"),
    ) -> Path:
        path = tmp_path_factory.mktemp("run") / "R"
        settings = {"questions": "made-up.jsonl", "seed": 5, **(configuration or {})}
        with Run.start(path, "probe", settings, command=command, model=MODEL) as run:
            for stage, kind, records in (
                ("questions", Question, questions),
                ("trajectories", Trajectory, trajectories),
                ("curves", Curve, curves),
            ):
                if records:
                    run.write(stage, kind.to_table(records))
        return path

    return make
