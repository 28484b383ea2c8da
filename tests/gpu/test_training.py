"""A step of training on a GPU has the loss that it has on the CPU."""

import pytest
import torch

from innerloop.outer.grpo import Subset, grpo_trainer
from innerloop.outer.rows import Row
from innerloop.outer.sft import sft_trainer
from innerloop.testing import tiny

pytestmark = [pytest.mark.gpu, pytest.mark.model, pytest.mark.filterwarnings("default")]

CPU = torch.device("cpu")


def arguments(place, folder, **more):
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "max_steps": 2,
        "use_cpu": place.type == "cpu",
        "bf16": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
    } | more


def trained(trainer):
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def to_train():
    loaded = tiny("llama")
    loaded.model.requires_grad_(True).train()
    return loaded


def test_sft(device, tmp_path, record):
    rows = [
        Row(f"q{i}", None, tuple(range(97, 97 + length)), (0.0,) * 3 + (1.0,) * (length - 3))
        for i, length in enumerate((8, 20, 11, 16))
    ]
    found = {}
    for place in (CPU, device):
        loaded = to_train()
        trainer = sft_trainer(loaded.model, loaded.tokenizer, rows, arguments(place, tmp_path, learning_rate=1e-3))
        found[place] = trained(trainer)
    assert len(found[CPU]) == 2
    error = max(abs(a - b) for a, b in zip(found[CPU], found[device], strict=True))
    record("training: largest difference of a loss of sft from the CPU", error, "nats", dtype="float32")
    assert error < 1e-3


def test_grpo(device, tmp_path):
    loaded = to_train()
    prompts = {"a": list(range(97, 105)), "b": list(range(100, 120))}
    rows = [{"prompt": text, "question_id": text} for text in prompts]
    trainer = grpo_trainer(
        *(loaded.model, loaded.tokenizer, rows, prompts, reward),
        arguments(device, tmp_path, num_generations=4, max_completion_length=6, beta=0.0),
        subset=Subset(n=2),
    )
    losses = trained(trainer)
    assert len(losses) == 2
    assert all(torch.isfinite(torch.tensor(loss)) for loss in losses)


def reward(*, completion_ids, **_):
    return [float(sum(ids) % 7) for ids in completion_ids]
