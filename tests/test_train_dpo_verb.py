"""``innerloop train dpo`` from the command line, on a tiny model."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tests.conftest import Ran

from innerloop.models import load
from innerloop.store import Run

Cli = Callable[..., Ran]
pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [{"id": f"q{i}", "question": f"{i}+{i}=?", "answer": str(2 * i)} for i in range(8)]
    path = tmp_path_factory.mktemp("questions") / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows(count: int = 8) -> list[dict[str, object]]:
    """Two right and two wrong trajectories of each question; the verdicts are ours to find, but for one."""
    return [
        {"question_id": f"q{i}", "text": f"{i} {word} {i}", "answer": str(2 * i + (word in ("minus", "times")) * 1)}
        for i in range(count)
        for word in ("plus", "and", "minus", "times")
    ]


@pytest.fixture(scope="module")
def trajectories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trajectories") / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return path


def dpo(model: Path, questions: Path, trajectories: Path, out: Path, **changes: object) -> list[str]:
    options = {"batch_size": 4, "passes": 4, "learning_rate": 1e-4, "threads": 1, "save_every": 1} | changes
    options |= {"model": model, "questions": questions, "out": out}
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    return ["train", "dpo", *words, "--trajectories", str(trajectories), "--json"]


def numbers(out: Path, name: str) -> list[float]:
    return [dict(step.metrics)[name] for step in Run.open(out).steps() if step.kind == "train"]


def test_dpo_raises_the_margin_from_nothing(
    cli: Cli, model: Path, questions: Path, trajectories: Path, tmp_path: Path
) -> None:
    command = dpo(model, questions, trajectories, tmp_path / "r", passes=8, watch=questions, watch_limit=2,
                  watch_max_tokens=8, parts=2)  # fmt: skip
    ran = cli(*command)
    assert ran.status == 0, ran.err
    result = json.loads(ran.out)
    assert (result["recipe"], result["questions"], result["rows"], result["steps"]) == ("dpo", 6, 48, 12)
    assert [look["step"] for look in result["looks"]] == [0, 12]
    loss, margin = numbers(tmp_path / "r", "loss"), numbers(tmp_path / "r", "rewards/margins")
    assert loss[0] == pytest.approx(math.log(2), abs=1e-5)
    assert margin[0] == pytest.approx(0, abs=1e-4)
    assert loss[-1] < loss[0] - 0.05
    assert min(margin[-3:]) > 0.1
    assert load(str(tmp_path / "r")).fingerprint != load(str(model)).fingerprint
    again = cli(*command)
    assert "nothing to do" in again.err
    assert json.loads(again.out)["rows"] == 48


def test_the_reference_reads_only_what_the_steps_come_to(
    cli: Cli, model: Path, questions: Path, trajectories: Path, tmp_path: Path
) -> None:
    assert cli(*dpo(model, questions, trajectories, tmp_path / "whole")).status == 0
    assert cli(*dpo(model, questions, trajectories, tmp_path / "r", max_steps=2)).status == 0
    read = [load_file(tmp_path / name / "checkpoints" / "reference.safetensors") for name in ("whole", "r")]
    assert [len(logps["right"]) for logps in read] == [32, 8]
    assert numbers(tmp_path / "r", "loss") == numbers(tmp_path / "whole", "loss")[:2]


@pytest.mark.long
def test_killed_and_started_again_it_comes_to_the_same_losses(
    cli: Cli, model: Path, questions: Path, trajectories: Path, tmp_path: Path
) -> None:
    changes = {"loss": "ipo", "sft_weight": 0.5, "pairs_per_question": 3}
    assert cli(*dpo(model, questions, trajectories, tmp_path / "whole", **changes)).status == 0
    command = [sys.executable, "-m", "innerloop", *dpo(model, questions, trajectories, tmp_path / "r", **changes)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "r" / "checkpoints" / "checkpoint-3").exists():
        assert process.poll() is None, "it ended before the kill"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    assert numbers(tmp_path / "r", "loss") == pytest.approx(numbers(tmp_path / "whole", "loss"), abs=1e-6)
    one, other = (load(str(tmp_path / name)).fingerprint for name in ("r", "whole"))
    assert one == other


def test_lora_needs_no_second_model(cli: Cli, model: Path, questions: Path, trajectories: Path, tmp_path: Path) -> None:
    ran = cli(*dpo(model, questions, trajectories, tmp_path / "r", lora=2, learning_rate=1e-2, passes=8))
    assert ran.status == 0, ran.err
    assert numbers(tmp_path / "r", "loss")[0] == pytest.approx(math.log(2), abs=1e-5)
    assert numbers(tmp_path / "r", "rewards/margins")[-1] > 0.05
    assert (tmp_path / "r" / "adapter" / "adapter_model.safetensors").is_file()


def test_without_a_reference_the_margin_is_the_models_own(
    cli: Cli, model: Path, questions: Path, trajectories: Path, tmp_path: Path
) -> None:
    changes = {"reference": "none", "loss": "sigmoid_norm", "max_steps": 1}
    assert cli(*dpo(model, questions, trajectories, tmp_path / "r", **changes)).status == 0
    assert numbers(tmp_path / "r", "rewards/chosen")[0] < -0.5  # β log π of a text of a dozen characters, not 0


def test_an_oracle_gives_both_sides(cli: Cli, model: Path, tmp_path: Path) -> None:
    """No model, no file: right derivations, and such that slip at the end."""
    ran = cli("train", "dpo", "--model", model, "--questions", "gym:chain_sum?size=8&seed=1", "--trajectories",
              "oracle", "oracle?style=wrong", "--batch-size", 8, "--threads", 1, "--out", tmp_path / "r",
              "--json")  # fmt: skip
    assert ran.status == 0, ran.err
    assert "left out" not in ran.err
    assert (json.loads(ran.out)["questions"], json.loads(ran.out)["rows"]) == (8, 8)
    assert numbers(tmp_path / "r", "loss") == [pytest.approx(math.log(2), abs=1e-5)]


def test_questions_without_both_are_left_out_and_said(cli: Cli, model: Path, questions: Path, tmp_path: Path) -> None:
    few = [row for row in rows(4) if (row["question_id"], row["text"].split()[1]) not in  # type: ignore[attr-defined]
           {("q0", "plus"), ("q0", "and"), ("q1", "minus"), ("q1", "times"), ("q2", "and")}]  # fmt: skip
    few[-1] |= {"correct": True}  # its own word counts
    file = tmp_path / "t.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in few))
    ran = cli(*dpo(model, questions, file, tmp_path / "r", pairs_per_question=3, max_steps=1))
    assert ran.status == 0, ran.err
    assert "5 questions are left out: they have no right trajectory" in ran.err
    assert "1 questions are left out: they have no wrong trajectory" in ran.err
    assert "1 questions have fewer than 3 pairs; all of those are taken" in ran.err
    assert Run.open(tmp_path / "r").done("questions") == {"q2", "q3"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"beta": 0}, "--beta 0.0: must be more than 0"),
        ({"label_smoothing": 0.1}, "--label-smoothing and --loss robust: give both or neither"),
        ({"loss": "robust"}, "--label-smoothing and --loss robust: give both or neither"),
        ({"loss": "robust", "label_smoothing": 0.5}, "--label-smoothing 0.5: must be 0 or more and less than 0.5"),
        ({"sft_weight": -1}, "--sft-weight -1.0: must be 0 or more"),
        ({"pairs_per_question": 0}, "--pairs-per-question 0: must be 1 or more"),
        ({"max_length": 9}, "--max-length 9: 32 of 32 rows are longer"),
        ({"learning_rate": 1e30, "clip": 0}, ""),
    ],
)
def test_bad_input(
    cli: Cli, model: Path, questions: Path, trajectories: Path, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    ran = cli(*dpo(model, questions, trajectories, tmp_path / "r", **changes))
    if not said:
        assert ran.status == 1
        assert "of step 2 is" in ran.err
        return
    assert ran.status == 2
    assert said in ran.err
    assert not (tmp_path / "r" / "run.json").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"question_id": "q0", "text": "so", "correct": "perhaps"}', "t.jsonl, line 1: correct is 'perhaps'"),
        ('{"question_id": "q9", "text": "so"}', "q9"),
        ("not json", "line 1"),
        ('{"question_id": "q0", "text": "so", "answer": "7"}', "none of the 8 questions has both a right and a wrong"),
    ],
)
def test_bad_lines(cli: Cli, model: Path, questions: Path, tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text(line + "\n")
    ran = cli(*dpo(model, questions, file, tmp_path / "r"))
    assert ran.status == 2
    assert said in ran.err


def test_a_text_that_is_called_right_and_wrong_is_named(cli: Cli, model: Path, questions: Path, tmp_path: Path) -> None:
    line = {"question_id": "q3", "text": "3 and 3", "answer": "6"}
    file = tmp_path / "t.jsonl"
    file.write_text("".join(json.dumps(line | {"correct": value}) + "\n" for value in (True, False)))
    ran = cli(*dpo(model, questions, file, tmp_path / "r"))
    assert ran.status == 2
    assert "question 'q3': the trajectories 'q3/file-0' and 'q3/file-1' say the same" in ran.err
