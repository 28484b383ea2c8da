"""Two processes make the step that one makes."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from innerloop.outer.meta.checkpoint import MetaState, load
from innerloop.testing import tiny

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def alone() -> Any:
    """The script as a module, to run the same in this process."""
    spec = importlib.util.spec_from_file_location("two_processes", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes have left their results."""
    path = tmp_path_factory.mktemp("two")
    command = [sys.executable, str(SCRIPT)]
    processes = [
        subprocess.Popen([*command, str(rank), "2", str(path)], stderr=subprocess.PIPE, text=True) for rank in range(2)
    ]
    for process in processes:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    return path


def gradient(state: MetaState, start: dict[str, Tensor]) -> Tensor:
    """What one step of plain descent at rate 1 has subtracted."""
    return torch.cat([(before - state.tensors[f"weights/{name}"]).flatten() for name, before in start.items()])


@pytest.mark.model
@pytest.mark.parametrize("name", ["mean", "robust", "surgery", "rates"])
def test_two_processes_have_the_gradient_and_the_losses_of_one(alone: Any, folder: Path, name: str) -> None:
    state, _ = alone.train(name, 1, "sgd")
    _, losses = alone.train(name, 3, "adamw", choosing=name == "mean")
    model = tiny("llama", num_hidden_layers=2, hidden_size=32, intermediate_size=48, head_dim=8).model
    start = dict(model.named_parameters())
    expected = gradient(state, start)
    assert expected.norm() > 0.1
    for rank in range(2):
        found = load(folder / f"{name}-{rank}.safetensors")
        assert (gradient(found, start) - expected).norm() <= 1e-5 * expected.norm()
        assert found.values["spent"] == state.values["spent"], "the budget is that of all processes together"
        for family, logit in state.values["combination"].get("logits", {}).items():
            assert found.values["combination"]["logits"][family] == pytest.approx(logit, abs=1e-5)
        told = json.loads((folder / f"losses-{rank}.json").read_text())[name]
        assert told == pytest.approx(losses, rel=1e-5)
    first, second = (load(folder / f"{name}-{rank}.safetensors").tensors for rank in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first), "both processes hold the same weights"
