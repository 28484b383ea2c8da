"""Weights of families, and probabilities of trajectories, against calculations by hand."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch

from innerloop.outer.meta.choosing import Choosing
from innerloop.outer.meta.combine import Mean
from innerloop.outer.meta.robust import Robust
from innerloop.outer.meta.settings import MetaSettings
from innerloop.outer.meta.task import Task, Tasks
from innerloop.outer.meta.train import meta_train


def test_weights_by_exponentiated_gradient() -> None:
    robust = Robust(["a", "b", "c"], rate=0.5)
    assert robust.weights() == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})
    robust.learn({"a": 1.0, "b": 2.0, "c": 4.0})
    robust.learn({"b": 2.0})
    raw = {"a": math.exp(0.5), "b": math.exp(2.0), "c": math.exp(2.0)}
    total = sum(raw.values())
    assert robust.weights() == pytest.approx({family: value / total for family, value in raw.items()})
    again = Robust(["a", "b", "c"], rate=0.5)
    again.restore(robust.state())
    assert again.weights() == robust.weights()


def test_large_losses_do_not_overflow() -> None:
    robust = Robust(["a", "b"], rate=1.0)
    for _ in range(5):
        robust.learn({"a": 900.0, "b": 0.0})
    assert robust.weights() == pytest.approx({"a": 1.0, "b": 0.0})


def test_shares_of_tasks() -> None:
    assert [share.weight for share in Mean().shares(["a", "b", "b"])] == pytest.approx([1 / 3] * 3)
    robust = Robust(["a", "b", "c", "d"], rate=1.0)
    robust.learn({"a": math.log(5)})  # 5/8, 1/8, 1/8, 1/8
    shares = robust.shares(["a", "b", "b", "c"])  # three of the four families: times 4/3
    assert [share.weight for share in shares] == pytest.approx([5 / 6, 1 / 12, 1 / 12, 1 / 6])
    even = Robust(["a", "b"], rate=1.0).shares(["a", "b", "a", "b"])
    assert [share.weight for share in even] == pytest.approx([1 / 4] * 4), "starts as the mean"


def centred(quadratics: Any, family: str, at: float, weight: float) -> Task:
    """½ · weight · ‖θ − at‖²: families that want different things, one of them more loudly."""
    batch = quadratics.bowl(0)._replace(
        shape=weight * torch.eye(5, dtype=torch.float64), centre=torch.full((5,), at, dtype=torch.float64)
    )
    return Task(support=(batch,), query=batch, family=family, support_tokens=(1,), query_tokens=1)


@pytest.mark.slow
def test_min_max_helps_the_worst_family(quadratics: Any) -> None:
    """Two families at 0 and one at 1: the mean goes to 1/3, min–max to 1/2, where the losses are equal."""
    source = Tasks(
        ["a", "b", "c"],
        lambda _: [centred(quadratics, "a", 0.0, 1), centred(quadratics, "b", 0.0, 1), centred(quadratics, "c", 1, 1)],
    )
    worst, ends = {}, {}
    for combine in ("mean", "robust"):
        point = quadratics.point()
        settings = MetaSettings(
            algorithm="fomaml",
            inner_rate=0.1,
            steps=80,
            tasks=3,
            optimizer="sgd",
            learning_rate=0.3,
            max_norm=None,
            combine=combine,
            robust_rate=0.5,
        )
        last = meta_train(point, quadratics.loss, source, settings).last
        assert last is not None
        worst[combine] = max(last.families.values())
        ends[combine] = quadratics.joined(dict(point.named_parameters())).mean().item()
    assert ends["mean"] == pytest.approx(1 / 3, abs=1e-3)
    assert ends["robust"] == pytest.approx(1 / 2, abs=0.02)
    assert worst["robust"] == pytest.approx(worst["mean"] * (1 / 2) ** 2 / (2 / 3) ** 2, rel=0.1)


def test_probabilities_by_hand() -> None:
    choosing = Choosing(floor=0.3, temperature=0.5, decay=0.25)
    assert choosing.probabilities(["x", "y"]).tolist() == [0.5, 0.5]
    choosing.learn(["x"], 1.0)
    choosing.learn(["x", "y"], 2.0)  # x: 1 + 0.25 · (2 − 1) = 1.25; y: 2, its first
    raw = [math.exp(1.25 / 0.5), math.exp(2 / 0.5), math.exp((1.25 + 2) / 2 / 0.5)]  # z counts as the mean
    expected = [0.3 / 3 + 0.7 * value / sum(raw) for value in raw]
    assert choosing.probabilities(["x", "y", "z"]).tolist() == pytest.approx(expected)
    again = Choosing(floor=0.3, temperature=0.5, decay=0.25)
    again.restore(choosing.state())
    assert torch.equal(again.probabilities(["x", "y", "z"]), choosing.probabilities(["x", "y", "z"]))


def test_draws_follow_the_probabilities_and_the_floor_holds() -> None:
    choosing = Choosing(floor=0.2, temperature=0.01)
    choosing.learn(["good"], 5.0)
    choosing.learn(["bad"], -5.0)
    arms = ["bad", "good", "bad2", "bad3"]
    for arm in ("bad2", "bad3"):
        choosing.learn([arm], -5.0)
    generator = torch.Generator().manual_seed(0)
    drawn = Counter(choosing.draw(arms, 1, generator)[0] for _ in range(4000))
    assert drawn[1] / 4000 == pytest.approx(0.85, abs=0.02)
    assert min(drawn[i] for i in (0, 2, 3)) / 4000 == pytest.approx(0.05, abs=0.015)
    assert sorted(choosing.draw(arms, 4, generator)) == [0, 1, 2, 3], "without replacement"
