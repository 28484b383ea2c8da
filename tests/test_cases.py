"""Small inputs with the right verdict beside them, kept outside the repository: each folder has to come out right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from innerloop.evaluate.measures import Measure
from innerloop.evaluate.tally import tally
from innerloop.evaluate.verify import Attempt, Verifier
from innerloop.questions import load
from innerloop.schema import Outcome, Question, Source, Trajectory

pytestmark = pytest.mark.model  # worker processes

FOLDERS = [
    *("box-beats-later-answer", "choice-forms", "dollar-statement", "first-statement-of-a-line", "statement-cut"),
    *("case-folded", "clock-undecided", "digits-and-separators", "eq-last-side", "frac-flattened", "mixed-number"),
    *("inherited-from-math-verify", "number-punctuation", "sentence-words-ignored", "unicode-nfc"),
]


@pytest.fixture(scope="session")
def cases_dir(data_dir: Path) -> Path:
    """The folder beside the real data."""
    folder = data_dir.parent / "cases"
    if not folder.is_dir():
        pytest.skip(f"no cases at {folder}")
    return folder


@pytest.fixture(scope="module")
def verifier():
    with Verifier() as verifier:
        yield verifier


@pytest.mark.parametrize("name", FOLDERS)
def test_every_verdict_of_a_folder_is_right(cases_dir, verifier, name):
    folder = cases_dir / name
    questions = {question.id: question for question in load(str(folder / "q.jsonl"))}
    rows = [json.loads(line) for line in (folder / "t.jsonl").read_text(encoding="utf-8").splitlines()]
    attempts = [Attempt(question=questions[row["question_id"]], text=row["text"]) for row in rows]
    verdicts = verifier.verify(attempts)
    wanted = [Outcome.RIGHT if row["correct"] else Outcome.WRONG for row in rows]
    found = [
        (row["question_id"], attempt.question.answer, row["text"], verdict.outcome, verdict.reason)
        for row, attempt, verdict, outcome in zip(rows, attempts, verdicts, wanted, strict=True)
        if verdict.outcome is not outcome
    ]
    assert found == []


def test_every_folder_is_looked_at(cases_dir):
    folders = {file.parent.name for file in cases_dir.glob("*/q.jsonl")}
    assert folders == set(FOLDERS)


# votes-equal-answers: verifier, reference, five answers, the share of draws in which the majority is right
VOTES = [
    ("choice", "C", ["B", "(B)", "B) x", "C", "C"], 0.0),
    ("choice", "B", ["B", "(B)", "b", "C", "C"], 1.0),
    ("math", r"\frac{\sqrt{2}}{2}", [r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}", "2^{-1/2}", "1", "1"], 1.0),
    ("math", "1,2", ["1,2", "2,1", r"\{1,2\}", "3", "3"], 1.0),
    ("number", "50", ["50", r"50\%", r"50\%", "41", "41"], 1.0),
    ("literal", "[1, 2]", ["[1, 2]", "[1,2]", "[1,  2]", "3", "3"], 1.0),
    ("quantity", "10 m/s", ["10 m/s", "36 km/h", r"10 \text{ m/s}", "3 m/s", "3 m/s"], 1.0),
    ("math", r"\frac{7}{3}", [r"2\frac{1}{3}", r"\frac{7}{3}", "7", "7", "5"], 0.5),
]


@pytest.mark.parametrize(("kind", "reference", "answers", "share"), VOTES)
def test_the_majority_of_five_counts_equal_answers_together(verifier, kind, reference, answers, share):
    question = Question(id="q", question="?", answer=reference, verifier=kind)
    verdicts = verifier.verify([(question, rf"\boxed{{{answer}}}") for answer in answers])
    samples = [
        Trajectory(
            id=f"q/{number}",
            question_id="q",
            text="",
            source=Source.FILE,
            sample=number,
            answer=verdict.answer,
            outcome=verdict.outcome,
        )
        for number, verdict in enumerate(verdicts)
    ]
    (score,) = tally("s", samples, {"q": question})
    assert Measure(kind="maj", k=5).value(score) == pytest.approx(share)
