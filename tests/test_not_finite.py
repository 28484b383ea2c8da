"""A model whose numbers are none: every command that measures or trains with it ends in one line that names it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Ran

from innerloop.store import Run

pytestmark = pytest.mark.model


def changed(model: Path, folder: Path, name: str, change: Callable[[Any], Any]) -> Path:
    """A copy of a model with one of its weights changed."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    weights[name] = change(weights[name])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def broken(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model one of whose norms is NaN."""
    folder = tmp_path_factory.mktemp("broken") / "m"
    return changed(model, folder, "model.layers.1.input_layernorm.weight", lambda weight: weight * float("nan"))


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        {"id": f"q{i}", "question": f"{i}+{i}=?", "answer": str(2 * i), "solution": f"{i}+{i}={2 * i}"}
        for i in range(4)
    ]
    path = tmp_path_factory.mktemp("questions") / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("command", "stage"),
    [
        (["probe"], "curves"),
        (["probe", "--method", "plain"], "curves"),
        (["update", "--positions", "end"], "updates"),
        (["update", "--positions", "end", "--gauge", "mlp", "--alignment", "none"], "updates"),
        (["update", "--positions", "end", "--gauge", "paper"], "updates"),
        (["landscape", "--points", "3"], "landscapes"),
        (["landscape", "--points", "3", "--plane", "path"], "landscapes"),
        (["landscape", "--points", "3", "--plane", "gradient-line"], "landscapes"),
        (["rollout", "--max-tokens", "4"], "trajectories"),
        (["select", "--support", "1", "--by", "gain"], "curves"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_measuring(
    cli: Callable[..., Ran], broken: Path, questions: Path, tmp_path: Path, command: list[str], stage: str
) -> None:
    out = tmp_path / "r"
    ran = cli(*command, "--model", broken, "--questions", questions, "--threads", 1, "--out", out)
    assert ran.status == 1, ran.err
    (line,) = [line for line in ran.err.splitlines() if "Error" in line]
    assert f"NotFiniteError: model '{broken}' gives no finite numbers: " in line
    assert "fetch it again, or use another model" in line
    assert "--dtype" not in line or command[0] == "rollout", "it is float32 already"
    assert not (out / "run.json").exists() or not Run.open(out).done(stage)


def test_half_precision_may_be_too_narrow(
    cli: Callable[..., Ran], model: Path, questions: Path, tmp_path: Path
) -> None:
    wide = changed(model, tmp_path / "m", "model.norm.weight", lambda weight: weight * 6e4)
    asked = ["probe", "--model", wide, "--questions", questions, "--threads", 1]
    assert cli(*asked, "--out", tmp_path / "r").status == 0
    ran = cli(*asked, "--dtype", "float16", "--out", tmp_path / "h")
    assert ran.status == 1
    assert f"model '{wide}' gives no finite numbers" in ran.err
    assert "try --dtype float32, since float16 may be too narrow for it" in ran.err


@pytest.mark.parametrize("recipe", ["sft", "grpo", "meta", "dpo"])
def test_training(cli: Callable[..., Ran], broken: Path, questions: Path, tmp_path: Path, recipe: str) -> None:
    told = tmp_path / "t.jsonl"
    rows = [{"question_id": f"q{i}", "text": t, "answer": str(2 * i + k)} for i in range(4) for k, t in enumerate("ab")]
    told.write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = {
        "sft": ["--batch-size", 4],
        "dpo": ["--batch-size", 4, "--trajectories", told],
        "grpo": ["--group", 2, "--batch-size", 4, "--max-tokens", 4, "--max-steps", 1],
        "meta": ["--tasks", 1, "--support", 1, "--query", 1, "--max-steps", 1, "--trajectories", "solutions"],
    }[recipe]
    out = tmp_path / "r"
    ran = cli("train", recipe, "--model", broken, "--questions", questions, "--threads", 1, "--out", out, *own)
    assert ran.status == 1, ran.err
    (line,) = [line for line in ran.err.splitlines() if "Error" in line]
    assert f"model '{broken}'" in line
    assert "--dtype float32 or another model" in line or "fetch it again" in line or "inner rate" in line
    assert not [step for step in Run.open(out).steps() if step.kind == "train"]
    assert not (out / "model").exists()
    assert not list(out.glob("checkpoints/*.safetensors")), "what a reference read, for one"
