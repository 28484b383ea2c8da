"""Every algorithm against its hand-written form on quadratics: L = ½ (θ − b)ᵀ A (θ − b), ∇L = A (θ − b)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from innerloop.errors import InputError
from innerloop.outer.meta.anil import Anil, head_names
from innerloop.outer.meta.fomaml import Fomaml
from innerloop.outer.meta.inner import adapt
from innerloop.outer.meta.joint import Joint
from innerloop.outer.meta.maml import Maml
from innerloop.outer.meta.meta_sgd import MetaSgd
from innerloop.outer.meta.reptile import Reptile

RATE = 0.3
STEPS = [1, 2, 5]


def outer_of(algorithm: Any, point: nn.Module) -> dict[str, Tensor]:
    start = dict(point.named_parameters())
    return start | algorithm.own(start)


def eye(theta: Tensor) -> Tensor:
    return torch.eye(len(theta), dtype=theta.dtype)


def end_of(theta: Tensor, task: Any, steps: int) -> Tensor:
    """θₖ = b + (I − αA)ᵏ (θ − b), one support batch."""
    shape, centre = task.support[0]
    return centre + torch.linalg.matrix_power(eye(theta) - RATE * shape, steps) @ (theta - centre)


@pytest.mark.parametrize("steps", STEPS)
def test_the_inner_loop_is_gradient_descent(quadratics: Any, steps: int) -> None:
    point, task = quadratics.point(), quadratics.task(1, 2)
    theta = quadratics.joined(dict(point.named_parameters())).detach()
    for graph in (False, True):
        adapted, losses = adapt(
            quadratics.loss, dict(point.named_parameters()), task.support, steps=steps, rates=RATE, create_graph=graph
        )
        torch.testing.assert_close(quadratics.joined(adapted).detach(), end_of(theta, task, steps))
        assert len(losses) == steps
        assert losses[0] == pytest.approx(quadratics.loss(dict(point.named_parameters()), task.support[0]).item())
    assert torch.equal(quadratics.joined(dict(point.named_parameters())), theta), "the model itself has not moved"


def test_support_batches_are_taken_in_turn(quadratics: Any) -> None:
    start = dict(quadratics.point().named_parameters())
    task = quadratics.task((1, 2), 3)
    adapted, _ = adapt(quadratics.loss, start, task.support, steps=3, rates=RATE)
    theta = quadratics.joined(start)
    for batch in (task.support[0], task.support[1], task.support[0]):
        theta = theta - RATE * batch.slope(theta)
    torch.testing.assert_close(quadratics.joined(adapted), theta)


@pytest.mark.parametrize("steps", STEPS)
def test_maml(quadratics: Any, steps: int) -> None:
    """g = (I − αA)ᵏ A' (θₖ − b')."""
    point, task = quadratics.point(), quadratics.task(1, 2)
    theta = quadratics.joined(dict(point.named_parameters())).detach()
    found = Maml(steps=steps, rate=RATE).gradient(quadratics.loss, dict(point.named_parameters()), task)
    end = end_of(theta, task, steps)
    back = torch.linalg.matrix_power(eye(theta) - RATE * task.support[0].shape, steps)
    torch.testing.assert_close(quadratics.joined(found.gradient), back @ task.query.slope(end))
    off = end - task.query.centre
    assert found.query_loss == pytest.approx(float(0.5 * off @ task.query.shape @ off))


@pytest.mark.parametrize("steps", STEPS)
def test_fomaml(quadratics: Any, steps: int) -> None:
    """g = A' (θₖ − b')."""
    point, task = quadratics.point(), quadratics.task(1, 2)
    theta = quadratics.joined(dict(point.named_parameters())).detach()
    found = Fomaml(steps=steps, rate=RATE).gradient(quadratics.loss, dict(point.named_parameters()), task)
    torch.testing.assert_close(quadratics.joined(found.gradient), task.query.slope(end_of(theta, task, steps)))


@pytest.mark.parametrize("steps", STEPS)
def test_reptile(quadratics: Any, steps: int) -> None:
    """g = (θ − θₖ₊₁) / α, the last step on the query."""
    point, task = quadratics.point(), quadratics.task(1, 2)
    theta = quadratics.joined(dict(point.named_parameters())).detach()
    found = Reptile(steps=steps, rate=RATE).gradient(quadratics.loss, dict(point.named_parameters()), task)
    end = end_of(theta, task, steps)
    last = end - RATE * task.query.slope(end)
    torch.testing.assert_close(quadratics.joined(found.gradient), (theta - last) / RATE)
    fomaml = Fomaml(steps=steps, rate=RATE).gradient(quadratics.loss, dict(point.named_parameters()), task)
    assert found.query_loss == fomaml.query_loss, "both are judged at the same place"


@pytest.mark.parametrize("steps", STEPS)
def test_anil(quadratics: Any, steps: int) -> None:
    """θ = (x, y), only y moves: yᵢ₊₁ = yᵢ − α (A_yx (x − b_x) + A_yy (yᵢ − b_y)), a linear map of x and y."""
    point, task = quadratics.point(), quadratics.task(1, 2)
    theta = quadratics.joined(dict(point.named_parameters())).detach()
    algorithm = Anil(steps=steps, rate=RATE, head=frozenset({"head"}))
    found = algorithm.gradient(quadratics.loss, dict(point.named_parameters()), task)
    shape, centre = task.support[0]
    one = eye(theta)
    one[2:] -= RATE * shape[2:]  # the step as a matrix: rows of x stay as they are
    jacobian = torch.linalg.matrix_power(one, steps)
    end = centre + jacobian @ (theta - centre)
    torch.testing.assert_close(end[:2], theta[:2])
    torch.testing.assert_close(quadratics.joined(found.gradient), jacobian.T @ task.query.slope(end))


@pytest.mark.parametrize("steps", STEPS)
def test_meta_sgd(quadratics: Any, steps: int) -> None:
    """dθᵢ₊₁ = (I − diag(α) A) dθᵢ − diag(A (θᵢ − b)) dα, carried forward by hand."""
    point, task = quadratics.point(), quadratics.task(1, 2)
    theta = quadratics.joined(dict(point.named_parameters())).detach()
    algorithm = MetaSgd(steps=steps, rate=RATE)
    outer = outer_of(algorithm, point)
    rates = torch.linspace(0.05, 0.4, len(theta), dtype=torch.float64)
    with torch.no_grad():
        outer["rate/body"].copy_(rates[:2])
        outer["rate/head"].copy_(rates[2:])
    found = algorithm.gradient(quadratics.loss, outer, task)
    shape = task.support[0].shape
    by_theta, by_rate = eye(theta), 0 * eye(theta)
    for _ in range(steps):
        slope = task.support[0].slope(theta)
        back = eye(theta) - rates[:, None] * shape
        by_theta, by_rate = back @ by_theta, back @ by_rate - torch.diag(slope)
        theta = theta - rates * slope
    last = task.query.slope(theta)
    torch.testing.assert_close(quadratics.joined(found.gradient), by_theta.T @ last)
    of_rates = torch.cat([found.gradient["rate/body"], found.gradient["rate/head"]], dim=1)[0]
    torch.testing.assert_close(of_rates, by_rate.T @ last)


def test_meta_sgd_begins_as_maml(quadratics: Any) -> None:
    point, task = quadratics.point(), quadratics.task(1, 2)
    algorithm = MetaSgd(steps=2, rate=RATE)
    found = algorithm.gradient(quadratics.loss, outer_of(algorithm, point), task)
    maml = Maml(steps=2, rate=RATE).gradient(quadratics.loss, dict(point.named_parameters()), task)
    torch.testing.assert_close(quadratics.joined(found.gradient), quadratics.joined(maml.gradient))


def test_joint_is_the_mean_gradient_at_the_start(quadratics: Any) -> None:
    point, task = quadratics.point(), quadratics.task((1, 2), 3)
    theta = quadratics.joined(dict(point.named_parameters())).detach()
    found = Joint().gradient(quadratics.loss, dict(point.named_parameters()), task)
    expected = (task.support[0].slope(theta) + task.support[1].slope(theta) + task.query.slope(theta)) / 3
    torch.testing.assert_close(quadratics.joined(found.gradient), expected)


def test_first_and_second_order_part_as_the_inner_rate_grows(quadratics: Any) -> None:
    start, task = dict(quadratics.point().named_parameters()), quadratics.task(1, 2)
    apart = []
    for rate in (0.001, 0.01, 0.1):
        first = quadratics.joined(Fomaml(steps=2, rate=rate).gradient(quadratics.loss, start, task).gradient)
        second = quadratics.joined(Maml(steps=2, rate=rate).gradient(quadratics.loss, start, task).gradient)
        apart.append(float((first - second).norm()))
    orders = [later / earlier for earlier, later in pairwise(apart)]
    assert orders == pytest.approx([10, 10], rel=0.35), "they differ at first order of the rate"


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(4, 3)
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(11))
        self.norm = nn.LayerNorm(3)
        self.lm_head = nn.Linear(3, 4, bias=False)


def test_the_head_is_the_last_block_and_what_is_behind_it() -> None:
    model = Blocks()
    behind = {"norm.weight", "norm.bias", "lm_head.weight"}
    assert head_names(model) == {"layers.10.weight", "layers.10.bias"} | behind
    model.norm.requires_grad_(False)
    assert head_names(model) == {"layers.10.weight", "layers.10.bias", "lm_head.weight"}
    model.lm_head.weight = model.embed.weight
    assert head_names(model) == {"layers.10.weight", "layers.10.bias"}, "tied to the embeddings"
    assert head_names(model, ["layers.1.*", "embed*"]) == {"layers.1.weight", "layers.1.bias", "embed.weight"}
    assert head_names(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))) == {"2.weight", "2.bias"}


def test_a_head_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match=r"--head layers\.99\.\*: no trained parameter has such a name"):
        head_names(Blocks(), ["layers.99.*"])
    model = Blocks()
    model.layers[10].requires_grad_(False)
    model.norm.requires_grad_(False)
    model.lm_head.requires_grad_(False)
    with pytest.raises(InputError, match="nothing trained in the last block"):
        head_names(model)
