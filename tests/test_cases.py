"""Small inputs with what is right beside them, kept outside the repository: each folder has to come out right."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
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


def all_ok(said: str) -> bool:
    lines = said.splitlines()
    return len(lines) == 8 and all(line.startswith("ok ") for line in lines)


def small_errors(said: str) -> bool:
    errors = re.findall(r"largest error (\S+) nats", said)
    return len(errors) == 4 and max(map(float, errors)) < 1e-4


def equal_losses(said: str) -> bool:
    first, second = re.search(r"1 March / 2 March: (\S+) (\S+)", said).groups()
    return first == second


def same_numbers(said: str) -> bool:
    first, second = re.findall(r"parts \d (\{.*\})", said)
    return first == second


#: Folders with a program, and whether what it prints is right.
PROGRAMS: dict[str, Callable[[str], bool]] = {
    "chat-template-date": equal_losses,
    "grpo-gpt2-padding": small_errors,
    "gym-latex-operators": all_ok,
    "server-content-list": lambda said: "text 'six times seven'" in said and "verdict right" in said,
    "server-empty-reasoning": lambda said: "text 'six times seven'" in said,
    "server-finish-reasons": lambda said: len(re.findall(r"\btruncated the limit.*verdict wrong truncated", said)) == 4,
    "server-half-emoji": lambda said: said.count("samples on disk: 5 of 5") == 2,
    "sft-metrics-parts": same_numbers,
    "votes-equal-answers": all_ok,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_of_a_folder_says_what_is_right(cases_dir, tmp_path, monkeypatch, name):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    program = cases_dir / name / "run.py"
    ran = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert PROGRAMS[name](ran.stdout), ran.stdout


def test_every_folder_is_looked_at(cases_dir):
    assert {file.parent.name for file in cases_dir.glob("*/README.md")} == {*FOLDERS, *PROGRAMS}


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
