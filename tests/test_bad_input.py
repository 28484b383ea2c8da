"""What people get wrong, through the real command line: exit 2 and one line that names the place and the remedy."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from innerloop.schema import Question, Source, Trajectory
from innerloop.store import Run

Cli = Callable[..., Any]

GOOD = {"id": "q-0", "question": "What is 1 and 1?", "answer": "2", "solution": "That is 2."}


@pytest.fixture
def refused(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a command that must be refused in one line, and returns that line."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> str:
        ran = cli(*arguments)
        lines = [line for line in ran.err.splitlines() if not line.startswith("innerloop: loading ")]
        assert (ran.status, ran.out, len(lines)) == (2, "", 1), ran.err
        assert "Traceback" not in ran.err
        return lines[0]

    return run


def write(name: str, *rows: object) -> Path:
    """Rows as a file in the current folder; a text is a line as it stands."""
    path = Path(name)
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def matches(line: str, pattern: str) -> None:
    assert re.fullmatch(f"innerloop: {pattern}", line), line


# Questions


@pytest.mark.parametrize(
    ("rows", "pattern"),
    [
        ([GOOD, '{"id": "q-1", '], r"q\.jsonl, line 2: .*JSON.*"),
        ([GOOD, '["a", "list"]'], r"q\.jsonl, line 2: .*object.*"),
        ([{"id": "q-0", "answer": "2"}], r"q\.jsonl, line 1: no question; every row needs a question and an answer"),
        (
            [GOOD, {"id": "q-1", "question": "?"}],
            r"q\.jsonl, line 2: no answer; every row needs a question and an answer",
        ),
        ([{"question": "?", "answer": "  "}], r"q\.jsonl, line 1: the answer is empty; fill it in or take the row out"),
        ([GOOD, GOOD | {"question": "!"}], r"q\.jsonl, line 2: the id 'q-0' is already that of q\.jsonl, line 1; .*"),
        ([], r"q\.jsonl: holds no questions; .*"),
        ([{"question": "?", "answer": "1"}], r"none of the 1 questions has a worked solution: give --trajectories .*"),
    ],
    ids=["broken JSON", "no object", "no question", "no answer", "empty answer", "duplicate ids", "empty", "unsolved"],
)
def test_a_file_of_questions_that_cannot_be_used(refused: Callable[..., str], rows: list[object], pattern: str) -> None:
    line = refused("probe", "--questions", write("q.jsonl", *rows), "--out", "R")
    matches(line, pattern)
    assert not Path("R").exists()


def test_a_file_that_is_not_there(refused: Callable[..., str]) -> None:
    write("questions.jsonl", GOOD)
    line = refused("rollout", "--questions", "question.jsonl")
    matches(line, r"question\.jsonl: no such file; did you mean 'questions\.jsonl'\?")


def test_a_benchmark_that_is_not_known(refused: Callable[..., str]) -> None:
    assert "did you mean 'gsm8k'?" in refused("rollout", "--questions", "gms8k")


# Trajectories


def test_a_trajectory_for_an_unknown_question(refused: Callable[..., str]) -> None:
    questions = write("q.jsonl", GOOD)
    file = write("t.jsonl", {"question_id": "q-0", "text": "so"}, {"question_id": "q-7", "text": "so"})
    line = refused("probe", "--questions", questions, "--trajectories", file)
    matches(line, r"t\.jsonl, line 2: there is no question 'q-7' \(.*")


def test_a_trajectory_without_text(refused: Callable[..., str]) -> None:
    line = refused(
        *("probe", "--questions", write("q.jsonl", GOOD)),
        *("--trajectories", write("t.jsonl", {"question_id": "q-0", "txt": "so"})),
    )
    matches(line, r"t\.jsonl, line 1: no text; every row needs a question_id and a text; did you mean 'txt'\?")


def test_the_same_trajectory_id_in_two_files(refused: Callable[..., str]) -> None:
    questions = write("q.jsonl", GOOD)
    a = write("a.jsonl", {"question_id": "q-0", "text": "so"})
    b = write("b.jsonl", {"question_id": "q-0", "text": "thus"})
    line = refused("probe", "--questions", questions, "--trajectories", a, "--trajectories", b)
    matches(line, r"b\.jsonl: trajectory 'q-0/file-0' is also in another source, with another text; give its rows .*")


def test_a_folder_of_trajectories_that_is_no_run(refused: Callable[..., str]) -> None:
    Path("empty").mkdir()
    line = refused("probe", "--questions", write("q.jsonl", GOOD), "--trajectories", "empty")
    matches(line, r"empty: not a run folder \(has no run\.json\); give the folder that an innerloop command wrote")


# Models


@pytest.mark.parametrize(
    ("model", "pattern"),
    [
        ("smolm2", r"model 'smolm2' is not known; did you mean 'smollm2'\? \(.*\)"),
        ("./no/where", r"model '\./no/where': no such file or folder.*; a model is .*"),
        ("q.jsonl", r"model 'q\.jsonl' is a file but not a \.gguf one; a model is .*"),
    ],
)
@pytest.mark.parametrize("verb", ["probe", "rollout"])
def test_a_model_that_is_not_there_leaves_no_folder(
    refused: Callable[..., str], verb: str, model: str, pattern: str
) -> None:
    questions = write("q.jsonl", GOOD)
    matches(refused(verb, "--questions", questions, "--model", model, "--out", "R"), pattern)
    assert not Path("R").exists(), "the folder is free for the name spelt right"


@pytest.mark.model
def test_an_answer_that_gives_no_tokens(refused: Callable[..., str]) -> None:
    from innerloop.testing import save_tiny

    folder = save_tiny("llama", "model")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"String": "☃"}, "content": ""}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    questions = write("q.jsonl", GOOD, GOOD | {"id": "q-1", "answer": "☃"})
    line = refused("probe", "--questions", questions, "--model", "./model", "--out", "R")
    matches(line, r"question 'q-1': the answer '☃' gives no tokens with the tokenizer of \./model; change the answer")
    assert not Path("R").exists()


@pytest.mark.model
def test_a_context_longer_than_the_model_allows(refused: Callable[..., str]) -> None:
    from innerloop.testing import save_tiny

    save_tiny("llama", "model", max_position_embeddings=200)
    questions = write("q.jsonl", GOOD, GOOD | {"id": "q-1", "solution": "and so on, " * 20})
    line = refused("probe", "--questions", questions, "--model", "./model", "--out", "R")
    matches(line, r"q-1/solution: .* take \d+ tokens, but \./model holds 200: shorten the trajectory or .*")
    assert not Path("R").exists()


# Run folders


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run with two questions and their solutions, in a shard each."""
    with Run.start(tmp_path / "R", "probe", {"limit": None}) as run:
        for number in range(2):
            question = Question(id=f"q-{number}", question="?", answer="1")
            solution = Trajectory(id=f"q-{number}/solution", question_id=question.id, text="so", source=Source.SOLUTION)
            run.write("questions", Question.to_table([question]))
            run.write("trajectories", Trajectory.to_table([solution]))
    return tmp_path / "R"


def test_a_folder_that_holds_another_run(refused: Callable[..., str], run_folder: Path) -> None:
    line = refused("probe", "--questions", write("q.jsonl", GOOD), "--limit", "1", "--out", run_folder)
    matches(
        line, rf"{run_folder}: holds a probe run with another configuration \(limit: null → 1; .*; choose another --out"
    )


def test_a_folder_that_holds_something_else(refused: Callable[..., str]) -> None:
    questions = write("q.jsonl", GOOD)
    line = refused("probe", "--questions", questions, "--out", ".")
    matches(line, r"\.: holds q\.jsonl but no run\.json, so it is no run folder; choose another --out")


def test_a_folder_that_another_process_writes(refused: Callable[..., str]) -> None:
    questions = write("q.jsonl", GOOD)
    with Run.start("R", "rollout", {}):
        line = refused("probe", "--questions", questions, "--out", "R")
    matches(line, rf"R: in use by another innerloop process \(pid {os.getpid()}\); wait for it or choose another --out")


def test_a_report_of_what_is_no_run(refused: Callable[..., str]) -> None:
    matches(refused("report", "R9"), r"R9: not a run folder \(does not exist\); give the folder that .*")


def test_a_folder_below_a_file(refused: Callable[..., str]) -> None:
    questions = write("q.jsonl", GOOD)
    line = refused("probe", "--questions", questions, "--out", "q.jsonl/R")
    matches(line, r"q\.jsonl/R: cannot write, Not a directory; choose a folder that can be written with --out")


@pytest.mark.parametrize(
    ("code", "pattern"),
    [
        (errno.ENOSPC, r"No space left on device; free some space and run the same command again, .* is kept"),
        (errno.EROFS, r"Read-only file system; choose a folder that can be written with --out"),
    ],
)
def test_a_full_disk_or_a_read_only_folder(
    refused: Callable[..., str], run_folder: Path, monkeypatch: pytest.MonkeyPatch, code: int, pattern: str
) -> None:
    def fail(*arguments: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("innerloop.atomic.os.fsync", fail)
    matches(refused("report", run_folder), rf"{run_folder}/report\.html: cannot write, {pattern}")
    assert not (run_folder / "report.html").exists()
    matches(refused("rollout", "--questions", write("q.jsonl", GOOD), "--out", "R2"), rf"R2/run\.json: .*{pattern}")


def test_a_corrupt_shard_is_named_and_the_rest_is_shown(cli: Cli, run_folder: Path) -> None:
    shard = run_folder / "trajectories" / "00001.parquet"
    shard.write_bytes(shard.read_bytes()[:100])
    ran = cli("report", run_folder, "--json")
    assert ran.status == 0
    assert json.loads(ran.out)["trajectories"] == 1
    assert re.match(rf"innerloop: warning: {shard} is corrupt and left out \(.+\); the same command again", ran.err)
