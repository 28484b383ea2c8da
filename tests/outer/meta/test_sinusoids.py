"""The known ranking on Finn's sinusoids: one step from MAML's start beats one step from a jointly trained start.

y = A sin(x − φ), A in [0.1, 5], φ in [0, π], ten points to adapt on and ten others to be judged on. Both starts are
trained with the same optimiser on the same stream of tasks for the same FLOPs; the joint one may then choose the inner
rate that suits it best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.func import functional_call

from innerloop.outer.meta.inner import adapt
from innerloop.outer.meta.seeds import seed_for
from innerloop.outer.meta.settings import MetaSettings
from innerloop.outer.meta.task import Task, Tasks
from innerloop.outer.meta.train import MetaResult, meta_train

FLOPS = 3e8
TASKS, RATE = 2, 0.02
SEEDS = 5


def task(*name: int | str) -> Task:
    generator = torch.Generator().manual_seed(seed_for(*name))
    height = 0.1 + 4.9 * torch.rand(1, generator=generator)
    phase = math.pi * torch.rand(1, generator=generator)
    x = 10 * torch.rand(2, 10, 1, generator=generator) - 5
    y = height * torch.sin(x - phase)
    return Task(support=((x[0], y[0]),), query=(x[1], y[1]), family="sine", support_tokens=(10,), query_tokens=10)


def squared_error(net: nn.Module) -> Callable[[Mapping[str, Tensor], Any], Tensor]:
    return lambda parameters, batch: (functional_call(net, dict(parameters), (batch[0],)) - batch[1]).square().mean()


def trained(algorithm: Any, seed: int) -> tuple[nn.Module, MetaResult]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1))
    settings = MetaSettings(
        algorithm=algorithm,
        inner_rate=RATE,
        steps=10_000,
        budget_flops=FLOPS,
        tasks=TASKS,
        learning_rate=0.01,
        max_norm=10.0,
        schedule="linear",
    )
    source = Tasks(["sine"], lambda step: [task("train", seed, step, i) for i in range(TASKS)])
    return net, meta_train(net, squared_error(net), source, settings)


def after_adapting(net: nn.Module, *, rate: float, steps: int = 1, tasks: int = 60) -> float:
    """Mean query loss on tasks never trained on."""
    loss, start, total = squared_error(net), dict(net.named_parameters()), 0.0
    for i in range(tasks):
        one = task("test", i)
        adapted, _ = adapt(loss, start, one.support, steps=steps, rates=rate)
        total += loss(adapted, one.query).item()
    return total / tasks


@pytest.mark.model
@pytest.mark.long
def test_adapting_from_mamls_start_beats_adapting_from_a_joint_start() -> None:
    ahead = []
    for seed in range(SEEDS):
        (maml, spent), (joint, spent_jointly) = trained("maml", seed), trained("joint", seed)
        assert spent.stopped == spent_jointly.stopped == "budget"
        assert spent.spent.flops == pytest.approx(spent_jointly.spent.flops, rel=0.01)
        assert spent_jointly.steps == pytest.approx(2 * spent.steps, abs=2), "a step of MAML costs 24 N to joint's 12 N"
        best_joint = min(after_adapting(joint, rate=rate) for rate in (0.005, RATE, 0.05))
        ahead.append(best_joint - after_adapting(maml, rate=RATE))
    interval = stats.t.interval(0.95, SEEDS - 1, loc=sum(ahead) / SEEDS, scale=stats.sem(ahead))
    assert interval[0] > 0, f"joint − maml after one step: {ahead}, interval {interval}"
