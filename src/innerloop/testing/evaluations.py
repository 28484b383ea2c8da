"""Made-up evaluations: samples of several series on the same questions, scored into a run folder by the real store.

from innerloop.testing.evaluations import write_evaluation
run = write_evaluation(tmp_path / "R", questions=20, samples=8)
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from innerloop.evaluate.tally import tally
from innerloop.schema import Outcome, Question, Score, Source, Status, Trajectory
from innerloop.store import Run

_WORDS = ("so", "we", "add", "3", "+", "4", "=", "7", "hours", ".", "Wait", ",", "let", "me", "check")


def write_evaluation(
    path: Path,
    *,
    questions: int,
    samples: int,
    skills: Mapping[str, float] | None = None,
    undecided: float = 0.0,
    words: int = 30,
    seed: int = 0,
    configuration: Mapping[str, Any] | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Path:
    """The folder that ``eval --compare`` of these series leaves, tables left out.

    ``skills`` gives each series' chance of a right sample, on which questions differ; by default A 0.1 and B 0.7, so
    that B is better beyond doubt from 20 questions on. The share ``undecided`` of the samples has no verdict.
    """
    skills = {"A": 0.1, "B": 0.7} if skills is None else skills
    draw = random.Random(seed)
    asked = [
        Question(
            id=f"q-{q}",
            question=f"How many apples has child number {q}?",
            answer=str(7 + q),
            domain=("algebra", "counting")[q % 2],
        )
        for q in range(questions)
    ]
    ease = [draw.gauss(0, 0.25) for _ in asked]
    told: dict[str, list[Trajectory]] = {
        name: [
            _sample(name, question, j, skill + shift, undecided, words, draw)
            for question, shift in zip(asked, ease, strict=True)
            for j in range(samples)
        ]
        for name, skill in skills.items()
    }
    by_id = {question.id: question for question in asked}
    scores = [score for name, own in told.items() for score in tally(name, own, by_id)]
    several = {"compare": list(told)} if len(told) > 1 else {"trajectories": list(told)}
    settings = {**several, "verdicts": "keep", "k": [], "tau": [0.5, 0.75, 1.0], "seed": 0, **(configuration or {})}
    with Run.start(path, "eval", settings, command=("innerloop", "eval")) as run:
        run.write("questions", Question.to_table(asked))
        run.write("trajectories", Trajectory.to_table(t for own in told.values() for t in own))
        run.write("scores", Score.to_table(scores))
        for name, value in {"series": list(told), **(notes or {})}.items():
            run.note(name, value)
    return path


def _sample(
    series: str, question: Question, number: int, chance: float, undecided: float, words: int, draw: random.Random
) -> Trajectory:
    right = draw.random() < chance
    answer = question.answer if right else str(draw.randrange(7))
    outcome = Outcome.RIGHT if right else Outcome.WRONG
    open_ = draw.random() < undecided
    return Trajectory(
        id=f"{series}/{question.id}/sample-{number}",
        question_id=question.id,
        text=" ".join([*draw.choices(_WORDS, k=words), "The answer is", answer]),
        source=Source.SAMPLE,
        sample=number,
        model=series,
        answer=answer,
        status=Status.TRUNCATED if open_ else Status.COMPLETE,
        tokens=words,
        outcome=Outcome.UNDECIDED if open_ else outcome,
        outcome_reason="it met the limit" if open_ else None,
    )
