"""LiveCodeBench from the command line: samples are judged by the hidden tests, and what needs an answer says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from innerloop.evaluate.verify.sandbox import choose
from innerloop.schema import Question
from innerloop.store import Run
from innerloop.testing.livecodebench import row
from innerloop.verbs import shared

Cli = Callable[..., Any]


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    questions = [
        row("sum", [("1 2", "3")], [("5 6", "11")]),
        row("twice", [("2", "4")], [("[1]", "[1, 1]")], function="twice", starter="class Solution:\n    def twice"),
    ]
    Path("test5.jsonl").write_text("".join(json.dumps(question) + "\n" for question in questions))
    told = {
        "lcb-sum": ["print(sum(map(int, input().split())))", "print(3)"],
        "lcb-twice": ["class Solution:\n    def twice(self, x):\n        return 2 * x", "def twice(x): return x"],
    }
    samples = [
        {"question_id": name, "text": f"Let me see.\n```python\n{code}\n```"}
        for name, own in told.items()
        for code in own
    ]
    Path("s.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))


@pytest.mark.model  # programs in the sandbox
def test_samples_are_judged_by_the_hidden_tests(cli: Cli) -> None:
    if choose().kind is None:
        pytest.skip(choose().reason)
    ran = cli(
        *("eval", "--trajectories", "s.jsonl", "--questions", "livecodebench@test5.jsonl"),
        *("--k", "1,2", "--out", "R", "--json"),
    )
    assert ran.status == 0, ran.err
    result = json.loads(ran.out)
    cells = {cell["measure"]: cell["score"]["mean"] for cell in result["rows"][0]["cells"]}
    assert (cells["avg@2"], cells["Pass@2"]) == (0.5, 1.0)
    reasons = [trajectory.outcome_reason for trajectory in Run.open("R").trajectories()]
    assert reasons[1] == "test 2 of 2: '3' instead of '11'"


@pytest.mark.parametrize("verb", ["probe", "update"])
def test_what_needs_an_answer_says_so(cli: Cli, verb: str) -> None:
    ran = cli(verb, "--questions", "livecodebench@test5.jsonl", "--trajectories", "s.jsonl", "--out", "P")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == (
        "innerloop: question 'lcb-sum' has no reference answer (only tests judge it), and an answer loss needs one; "
        "give other questions, or add the field answer\n"
    )
    assert not Path("P").exists()


def test_large_tests_are_written_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "SHARD_CHARACTERS", 100)
    questions = [Question(id=f"q-{i}", question="?", answer="", metadata="x" * 60) for i in range(5)]
    with Run.start(tmp_path / "R", "rollout", {}) as run:
        shared.write_questions(run, questions)
    assert len(list((tmp_path / "R" / "questions").glob("*.parquet"))) == 3
    assert Run.open(tmp_path / "R").questions() == questions
