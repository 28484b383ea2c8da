"""A training that comes to no number stops before the step, in a real trainer of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Trainer, TrainingArguments

from innerloop.outer.guard import DivergedError, Guarded

pytestmark = pytest.mark.model


class GuardedTrainer(Guarded, Trainer):
    pass


class Point(nn.Module):
    """Its loss is a number; with ``sharp`` its gradient is none (that of √|0·w| at any w)."""

    def __init__(self, sharp: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.sharp = sharp

    def forward(self, target: torch.Tensor, **_: Any) -> dict[str, torch.Tensor]:
        loss = (self.weight - target).square().mean()
        return {"loss": loss + (self.weight.sum() * 0).abs().sqrt() if self.sharp else loss}


def train(folder: Path, point: Point, targets: list[float], *, clip: float = 1.0) -> None:
    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "target": torch.tensor([row["target"] for row in rows]),
            "question_ids": [row["question_id"] for row in rows],
        }

    rows = [{"target": target, "question_id": f"q{i}"} for i, target in enumerate(targets)]
    arguments = TrainingArguments(
        str(folder), use_cpu=True, max_steps=len(targets), per_device_train_batch_size=1, max_grad_norm=clip,
        report_to="none", save_strategy="no", disable_tqdm=True, remove_unused_columns=False, learning_rate=0.1,
        logging_strategy="no", train_sampling_strategy="sequential",
    )  # fmt: skip
    GuardedTrainer(point, arguments, train_dataset=rows, data_collator=collate).train()


def test_numbers_are_let_through(tmp_path: Path) -> None:
    point = Point(sharp=False)
    train(tmp_path, point, [2.0, 2.0])
    assert (point.weight > 1.1).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_none_names_step_and_question(tmp_path: Path, value: float) -> None:
    with pytest.raises(DivergedError, match=f"loss of step 3 is {value:g} on the questions q2; the last checkpoint"):
        train(tmp_path, Point(sharp=False), [2.0, 2.0, value, 2.0])


@pytest.mark.parametrize("clip", [1.0, 0.0])
def test_a_gradient_that_is_none_is_not_applied_though_the_loss_is_a_number(tmp_path: Path, clip: float) -> None:
    point = Point(sharp=True)
    with pytest.raises(DivergedError, match="the gradient of step 1 is nan on the questions q0"):
        train(tmp_path, point, [2.0], clip=clip)
    assert torch.equal(point.weight, torch.ones(3))
