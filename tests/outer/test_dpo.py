"""Preference losses against their closed forms, in float64 from plain logits of a tiny model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from innerloop.models import LoadedModel
from innerloop.outer.dpo import Preference, dpo_trainer
from innerloop.outer.pairs import PairRow
from innerloop.testing import tiny

pytestmark = pytest.mark.model

ROWS = [
    PairRow("q0", (5, 6, 7), (8, 9, 10, 11), (12, 13)),
    PairRow("q1", (5, 9), (8,), (12, 13, 14, 15, 16)),
    PairRow("q2", (3,), (8, 7, 6), (12, 9, 14)),
]
LOSSES = ["sigmoid", "sigmoid_norm", "hinge", "ipo", "robust"]


def log_probability(model: Any, prompt: Sequence[int], completion: Sequence[int]) -> Tensor:
    """log π(completion | prompt) in float64, from the logits of one row without padding."""
    ids = torch.tensor([[*prompt, *completion]])
    table = model(input_ids=ids).logits[0].double().log_softmax(dim=-1)
    places = range(len(prompt) - 1, len(prompt) + len(completion) - 1)
    return torch.stack([table[place, token] for place, token in zip(places, completion, strict=True)]).sum()


def by_hand(kind: str, preference: Preference, row: PairRow, model: Any, start: Any) -> Tensor:
    right, wrong = (log_probability(model, row.prompt, part) for part in (row.right, row.wrong))
    if preference.reference:
        right = right - log_probability(start, row.prompt, row.right).detach()
        wrong = wrong - log_probability(start, row.prompt, row.wrong).detach()
    beta, eps = preference.beta, preference.smoothing
    per_token = right / len(row.right) - wrong / len(row.wrong)

    def surprise(value: Tensor) -> Tensor:
        return torch.log1p(torch.exp(-value))

    if kind == "sigmoid":
        return surprise(beta * (right - wrong))
    if kind == "sigmoid_norm":
        return surprise(beta * per_token)
    if kind == "hinge":
        return torch.relu(1 - beta * (right - wrong))
    if kind == "ipo":
        return (per_token - 1 / (2 * beta)) ** 2
    margin = beta * (right - wrong)
    return ((1 - eps) * surprise(margin) - eps * surprise(-margin)) / (1 - 2 * eps)


def trainer(folder: Path, loaded: LoadedModel, preference: Preference, *, parts: int = 1, rows: Any = ROWS) -> Any:
    arguments = {
        "output_dir": str(folder), "use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no",
        "per_device_train_batch_size": -(-len(rows) // parts), "gradient_accumulation_steps": parts,
        "max_steps": 1, "learning_rate": 0.0, "max_grad_norm": 0.0, "disable_tqdm": True, "logging_steps": 1,
        "remove_unused_columns": False, "activation_checkpointing": False,
    }  # fmt: skip
    loaded.model.requires_grad_(True).train()
    return dpo_trainer(loaded.model, loaded.tokenizer, rows, arguments, preference)


def moved(model: Any, seed: int = 0) -> Any:
    """The model with weights that are a little others."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * weight.std() * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    return model


def first_loss(made: Any) -> tuple[float, dict[str, Tensor]]:
    """The logged loss of one step at learning rate 0, and its gradient."""
    seen: dict[str, Tensor] = {}

    def look(*_: Any) -> None:
        seen.update({name: weight.grad.clone() for name, weight in made.model.named_parameters()})

    made.create_optimizer()
    made.optimizer.register_step_pre_hook(look)
    made.train()
    return next(entry["loss"] for entry in made.state.log_history if "loss" in entry), seen


def test_where_the_model_is_its_own_reference_the_loss_is_the_logarithm_of_two(tmp_path: Path) -> None:
    loss, gradient = first_loss(trainer(tmp_path, tiny("llama"), Preference()))
    assert loss == pytest.approx(math.log(2), abs=1e-6)
    assert sum(float(grad.abs().sum()) for grad in gradient.values()) > 0


@pytest.mark.parametrize("reference", [True, False])
@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("parts", [1, 2])
def test_loss_and_gradient_are_those_of_the_closed_form(tmp_path: Path, kind: str, reference: bool, parts: int) -> None:
    preference = Preference(
        kind=kind, beta=0.3, smoothing=0.2 if kind == "robust" else 0.0, likelihood=0.7, reference=reference
    )
    made = trainer(tmp_path, tiny("llama"), preference, parts=parts)
    moved(made.model)
    model, start = moved(tiny("llama").model.requires_grad_(True)).double(), tiny("llama").model.double()
    pairs = torch.stack([by_hand(kind, preference, row, model, start) for row in ROWS]).mean()
    tokens = sum(len(row.right) for row in ROWS)
    likelihood = -torch.stack([log_probability(model, row.prompt, row.right) for row in ROWS]).sum() / tokens
    expected = pairs + 0.7 * likelihood
    expected.backward()
    loss, gradient = first_loss(made)
    assert loss == pytest.approx(expected.item(), abs=2e-5)
    for name, weight in model.named_parameters():
        assert weight.grad is not None
        torch.testing.assert_close(gradient[name].double(), weight.grad, atol=2e-5, rtol=1e-3)


def test_robust_is_unbiased(tmp_path: Path) -> None:
    """Its mean over verdicts that are turned around with probability ε is the loss without."""
    eps, preference = 0.2, Preference(kind="robust", beta=0.3, smoothing=0.2)
    turned = [PairRow(row.question_id, row.prompt, row.wrong, row.right) for row in ROWS]
    losses = []
    for own, rows in ((preference, ROWS), (preference, turned), (Preference(beta=0.3), ROWS)):
        made = trainer(tmp_path, tiny("llama"), own, rows=rows)
        moved(made.model)
        losses.append(first_loss(made)[0])
    assert (1 - eps) * losses[0] + eps * losses[1] == pytest.approx(losses[2], abs=1e-5)


def test_repeated_pairs_are_read_once_by_the_reference_and_shown_in_their_order(tmp_path: Path) -> None:
    rows = [ROWS[1], ROWS[0], ROWS[1]]
    made = trainer(tmp_path, tiny("llama"), Preference(), rows=rows)
    assert len(made.train_dataset) == 2
    assert list(made._get_train_sampler()) == [0, 1, 0]
    assert made.ref_model is None
    model = tiny("llama").model.double()
    for i, row in enumerate((ROWS[1], ROWS[0])):
        found = made.train_dataset[i]
        for column, part in (("ref_chosen_logps", row.right), ("ref_rejected_logps", row.wrong)):
            assert found[column] == pytest.approx(log_probability(model, row.prompt, part).item(), abs=1e-4)


def test_a_restart_takes_what_the_reference_made_of_the_same_pairs_and_of_no_others(tmp_path: Path) -> None:
    def columns(model: LoadedModel, rows: Any) -> tuple[list[float], list[float]]:
        dataset = trainer(tmp_path, model, Preference(), rows=rows).train_dataset
        return dataset["ref_chosen_logps"][:], dataset["ref_rejected_logps"][:]

    first = columns(tiny("llama"), ROWS)
    other = tiny("llama")
    moved(other.model.requires_grad_(True))
    assert columns(other, ROWS) == first, "they were read before the first step"
    assert columns(other, ROWS[:1])[0] != first[0][:1]
    (tmp_path / "reference.safetensors").write_bytes(b"cut off")
    assert columns(tiny("llama"), ROWS) == first
