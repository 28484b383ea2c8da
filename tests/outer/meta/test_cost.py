"""The budget's formulas against what PyTorch counts while the work is done."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from innerloop.outer.meta.algorithm import choose_algorithm
from innerloop.outer.meta.cost import Sizes, Spent, forward_cost, inner_cost, query_cost, sizes_of
from innerloop.outer.meta.language import LanguageLoss, tokens_of
from innerloop.outer.meta.settings import MetaSettings
from innerloop.outer.meta.task import Task
from innerloop.outer.rows import Row
from innerloop.testing import tiny

WIDE = {"num_hidden_layers": 4, "hidden_size": 128, "intermediate_size": 256, "head_dim": 32}
LENGTH = 16  # short, so that attention's own products, which the formula leaves out, stay small
TOLERANCE = 0.08


def test_the_formulas_by_hand() -> None:
    all_trained = Sizes(all=100, trained=100, reached=100, reached_trained=100, adapted=100)
    assert forward_cost(all_trained, 3).flops == 3 * 200
    assert query_cost(all_trained, 3).flops == 3 * 600
    assert inner_cost(all_trained, [5], 2).flops == 10 * 600
    assert inner_cost(all_trained, [5], 2, second_order=True).flops == 10 * (600 + 1200)
    adapter = Sizes(all=110, trained=10, reached=110, reached_trained=10, adapted=10)
    assert inner_cost(adapter, [1], 1).flops == 2 * 110 + 2 * 110 + 2 * 10
    assert inner_cost(adapter, [1], 1, second_order=True).flops == 460 + 4 * 100 + 12 * 10
    last_layers = Sizes(all=100, trained=100, reached=20, reached_trained=20, adapted=20)
    assert inner_cost(last_layers, [1], 1, second_order=True).flops == 200 + 4 * 20 + 4 * 80 + 12 * 20


def test_steps_take_support_batches_in_turn() -> None:
    one = Sizes(all=1, trained=1, reached=1, reached_trained=1, adapted=1)
    spent = inner_cost(one, [5, 7], 3, second_order=True) + query_cost(one, 4) + forward_cost(one, 4)
    assert spent == Spent(
        tokens=17 + 4 + 4,
        backward_tokens=17 + 4,
        second_order_tokens=17,
        forward_passes=3 + 1 + 1,
        backward_passes=6 + 1,
        flops=17 * 18 + 4 * 6 + 4 * 2,
    )


def test_what_counts_as_a_matrix() -> None:
    model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 10))
    assert sizes_of(model) == Sizes(all=84, trained=84, reached=84, reached_trained=84, adapted=84)
    model[1].requires_grad_(False)
    assert sizes_of(model).trained == 60
    assert sizes_of(model, adapted={"3.weight"}) == Sizes(
        all=84, trained=60, reached=60, reached_trained=60, adapted=60
    )


def lora() -> nn.Module:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=8, target_modules="all-linear")
    return get_peft_model(tiny("llama", **WIDE).model, config)


def full() -> nn.Module:
    return tiny("llama", **WIDE).model.requires_grad_(True)


@pytest.mark.model
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's doing
@pytest.mark.parametrize("make", [full, lora], ids=["all weights", "lora"])
@pytest.mark.parametrize("name", ["joint", "fomaml", "reptile", "maml", "anil", "meta-sgd"])
def test_pytorch_counts_the_same_flops(make: Any, name: Any) -> None:
    model = make()
    settings = MetaSettings(algorithm=name, inner_steps=2)
    algorithm, sizes = choose_algorithm(settings, model)
    loss = LanguageLoss(model, pad_id=0, second_order=settings.second_order)
    ids = tuple(range(97, 97 + LENGTH))
    rows = tuple(Row("q", f"q/{i}", ids, (1.0,) * LENGTH) for i in range(8))
    task = Task(support=(rows[:4],), query=rows[4:], family="f", support_tokens=(tokens_of(rows[:4]),), query_tokens=64)
    start = {n: w for n, w in model.named_parameters() if w.requires_grad}
    outer = start | algorithm.own(start)
    with FlopCounterMode(display=False) as counter:
        algorithm.gradient(loss, outer, task)
    by_formula = algorithm.cost(sizes, task.support_tokens, task.query_tokens).flops
    assert by_formula == pytest.approx(counter.get_total_flops(), rel=TOLERANCE)


def test_tokens_count_the_padding() -> None:
    rows = [Row("q", "t", (1,) * length, (1.0,) * length) for length in (3, 5)]
    assert tokens_of(rows) == 10
    assert torch.zeros(2, 5).numel() == 10
