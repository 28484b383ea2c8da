"""``--dry-run``: what it says in closed form, and that it leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Ran

from innerloop.models import load

Cli = Callable[..., Ran]
pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        {"id": f"q{i}", "question": f"{i}+{i}=?", "answer": f"{2 * i}", "solution": "so" * (1 + i)} for i in range(6)
    ]
    path = tmp_path_factory.mktemp("questions") / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def planned(cli: Cli, *words: Any) -> dict[str, Any]:
    ran = cli("train", *words, "--dry-run", "--json")
    assert ran.status == 0, ran.err
    return json.loads(ran.out)


def attention(lengths: list[int]) -> int:
    return 4 * 4 * 128 * sum(length * (length + 1) // 2 for length in lengths)  # 4 layers, 4 heads of 32


def test_sft_counts_its_rows(
    cli: Cli, model: Path, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = planned(cli, "sft", "--model", model, "--questions", questions, "--batch-size", 4, "--passes", 2)
    loaded = load(str(model), device="cpu")
    ids = [loaded.prompt(f"{i}+{i}=?") for i in range(6)]
    tail = [loaded.suffix_ids + loaded.encode(f"{2 * i}") + loaded.encode("}") for i in range(6)]
    lengths = [len(ids[i]) + 2 * (1 + i) + len(tail[i]) + 1 for i in range(6)]
    parameters = sum(weight.numel() for weight in loaded.model.parameters())
    norms = sum(weight.numel() for weight in loaded.model.parameters() if weight.ndim < 2)
    assert (plan["questions"], plan["rows"], plan["dropped"], plan["steps"]) == (6, 12, 0, 3)
    assert (plan["tokens_per_pass"], plan["tokens"]) == (sum(lengths), 2 * sum(lengths))
    assert (plan["parameters"], plan["trained"], plan["matrices"]) == (parameters, parameters, parameters - norms)
    assert plan["flops"] == 2 * (6 * (parameters - norms) * sum(lengths) + 3 * attention(lengths))
    memory = plan["memory"]
    assert memory["weights"] == memory["gradients"] == memory["optimiser"] // 2 == 4 * parameters
    assert (plan["rows_at_once"], plan["longest"], plan["processes"]) == (4, max(lengths), 1)
    assert list(tmp_path.iterdir()) == []
    fewer = planned(cli, "sft", "--model", model, "--questions", questions, "--batch-size", 4, "--max-steps", 1)
    assert fewer["steps"] == 1
    assert fewer["tokens"] < plan["tokens_per_pass"]


def test_rows_that_are_too_long_are_counted(cli: Cli, model: Path, questions: Path) -> None:
    common = ["sft", "--model", model, "--questions", questions]
    longest = planned(cli, *common)["longest"]
    ran = cli("train", *common, "--dry-run", "--max-length", longest - 1)
    assert ran.status == 2
    assert "1 of 6 rows are longer" in ran.err
    answers = planned(cli, *common, "--trajectories", "none", "--lora", 2)
    assert answers["trained"] < answers["parameters"]
    assert answers["memory"]["gradients"] == 4 * answers["trained"]


def test_grpo_bounds_its_rollouts(cli: Cli, model: Path, questions: Path) -> None:
    words = ["--group", 4, "--gradient-on", 1, "--batch-size", 8, "--max-tokens", 10, "--kl", 0.1]
    plan = planned(cli, "grpo", "--model", model, "--questions", questions, *words)
    lengths = [len(load(str(model), device="cpu").prompt(f"{i}+{i}=?")) + 10 for i in range(6)]
    assert plan["steps"] == 3
    generating, comparing, training = plan["phases"]
    assert generating["tokens"] == comparing["tokens"] == 4 * sum(lengths) == plan["tokens_per_pass"]
    assert generating["flops"] == 4 * (2 * plan["matrices"] * sum(lengths) + attention(lengths))
    assert training["tokens"] == sum(lengths)
    assert training["flops"] == 6 * plan["matrices"] * sum(lengths) + 3 * attention(lengths)
    assert all(phase["bound"] for phase in plan["phases"])
    assert plan["rows_at_once"] == 2
    assert plan["memory"]["copies"] == plan["memory"]["weights"]


def test_dpo_reads_each_pair_once_with_the_reference(cli: Cli, model: Path, questions: Path, tmp_path: Path) -> None:
    sides = [("right", 0), ("wrongly", 1)]
    rows = [{"question_id": f"q{i}", "text": text, "answer": f"{2 * i + off}"} for i in range(6) for text, off in sides]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--batch-size", 4, "--passes", 2, "--trajectories", tmp_path / "t.jsonl"]
    plan = planned(cli, "dpo", "--model", model, "--questions", questions, *words)
    loaded = load(str(model), device="cpu")
    lengths = [
        len(loaded.prompt(f"{i}+{i}=?")) + len(text) + len(loaded.suffix_ids) + len(f"{2 * i + off}") + 2
        for i in range(6)
        for text, off in sides
    ]
    reading, training = plan["phases"]
    assert (plan["rows"], plan["steps"], plan["rows_at_once"]) == (12, 3, 8)
    assert reading["tokens"] == plan["tokens_per_pass"] == sum(lengths)
    assert training["flops"] == 2 * (6 * plan["matrices"] * sum(lengths) + 3 * attention(lengths))
    alone = planned(cli, "dpo", "--model", model, "--questions", questions, *words, "--reference", "none")
    assert [phase["name"] for phase in alone["phases"]] == ["training"]


def test_a_dry_run_samples_nothing(cli: Cli, model: Path, questions: Path) -> None:
    ran = cli("train", "sft", "--model", model, "--questions", questions, "--trajectories", "sample?n=2", "--dry-run")
    assert ran.status == 2
    assert "samples first, which --dry-run" in ran.err


@pytest.mark.parametrize("algorithm", ["maml", "fomaml"])
def test_meta_counts_what_its_steps_will_record(
    cli: Cli, model: Path, questions: Path, tmp_path: Path, algorithm: str
) -> None:
    words = ["--trajectories", "solutions", "--algorithm", algorithm, "--max-steps", 3, "--support", 2, "--query", 2]
    words += ["--model", model, "--questions", questions, "--threads", 1]
    plan = planned(cli, "meta", *words)
    ran = cli("train", "meta", *words, "--out", tmp_path / "r", "--json")
    assert ran.status == 0, ran.err
    assert plan["tokens"] == json.loads(ran.out)["tokens"]
    assert plan["steps"] == 3
    stopped = planned(cli, "meta", *words, "--budget-tokens", plan["tokens"] - 1)
    assert stopped["steps"] == 2


def test_people_read_a_table(cli: Cli, model: Path, questions: Path) -> None:
    ran = cli("train", "sft", "--model", model, "--questions", questions, "--dry-run")
    assert ran.status == 0, ran.err
    for said in ("data: 6 questions, 6 rows", "FLOPs", "6·N per token", "optimiser", "accelerate launch", "steps: 1"):
        assert said in ran.out
