"""The trajectory's own plane against principal directions of the dense updates, and lines against the losses there."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from innerloop.inner.landscape.figures import path_landscapes
from innerloop.inner.landscape.grid import grid_losses
from innerloop.inner.landscape.path import gradient_factors, line, norm, path_plane
from innerloop.inner.landscape.scoring import losses, row_of
from innerloop.inner.landscape.weights import landscape_weights
from innerloop.inner.patch import Factors, scaled, select
from innerloop.inner.update import update
from innerloop.testing import tiny

pytestmark = pytest.mark.model

POSITIONS = (0, 8, 16, 24, 30)
ARCHITECTURES = ["llama", "gpt2", "gemma3", "mixtral"]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def case(request, make_item):
    loaded = tiny(request.param, dtype="float64")
    item = make_item(0, prompt=12, length=30)
    [made] = update(loaded, [item], positions=[POSITIONS], placement="contiguous")
    return loaded, made, row_of(loaded, item.question_id, item.prompt, item.answer)


def dense(patch):
    """One row per entry, all sites behind each other."""
    parts = [(f.up @ f.down.transpose(1, 2)).flatten(1) for f in patch.values()]
    return torch.cat(parts, dim=1).double()


def filled(loaded, directions):
    """The directions as rows, in the order and orientation of ``dense``."""
    weights = landscape_weights(loaded.model)
    parts = []
    for name in directions.weights:
        weight = weights[name]
        outs = [torch.empty(weight.shape, dtype=torch.float64) for _ in range(directions.count)]
        directions.fill(weight, outs)
        parts.append(torch.stack([(out[0].T if weight.transposed else out[0]).flatten() for out in outs]))
    return torch.cat(parts, dim=1)


def test_the_plane_is_that_of_the_principal_directions(case):
    loaded, made, _ = case
    found, points = path_plane(loaded, made.patch), dense(made.patch)
    _, sizes, directions = torch.linalg.svd(points, full_matrices=False)
    assert found.captured == pytest.approx(float(sizes[:2].square().sum() / sizes.square().sum()), rel=1e-6)
    assert found.length == pytest.approx(float(points.norm(dim=1).max()), rel=1e-8)
    ours = filled(loaded, found.directions) / found.length
    np.testing.assert_allclose((ours @ ours.T).numpy(), np.eye(2), atol=1e-8)
    for own, other in zip(ours, directions, strict=False):
        assert abs(float(own @ other)) == pytest.approx(1, abs=1e-8)
    projected = points @ ours.T / found.length
    np.testing.assert_allclose(found.coordinates.numpy(), projected.numpy(), atol=1e-8)
    assert (found.coordinates[-1] >= 0).all(), "the path ends in the first quadrant"
    assert found.coordinates.norm(dim=1).max() <= 1 + 1e-9


def test_a_straight_path_lies_on_the_first_axis(case):
    loaded, made, row = case
    end = select(made.patch, slice(-1, None))
    path = {
        site: Factors(torch.cat([t * f.up for t in (0.0, 0.5, 1.0)]), f.down.expand(3, -1, -1))
        for site, f in end.items()
    }
    found = path_plane(loaded, path)
    assert found.captured == pytest.approx(1)
    np.testing.assert_allclose(found.coordinates.numpy(), [[0, 0], [0.5, 0], [1, 0]], atol=1e-6)
    points = [tuple(map(float, place)) for place in found.coordinates]
    losses_there = grid_losses(loaded, [row], found.directions, points)[:, 0]
    assert losses_there[-1] == pytest.approx(-float(made.found[-1].mean()), abs=1e-6)


def test_a_path_that_stays_at_theta(case):
    loaded, made, row = case
    found = path_plane(loaded, scaled(made.patch, 0.0))
    assert math.isnan(found.captured)
    assert found.coordinates.abs().max() == 0
    losses_there = grid_losses(loaded, [row], found.directions, [(0.0, 0.0), (1.0, -1.0)])[:, 0]
    assert losses_there[0] == losses_there[1]


def test_a_path_of_one_point(case):
    loaded, made, _ = case
    found = path_plane(loaded, select(made.patch, slice(-1, None)))
    np.testing.assert_allclose(found.coordinates.numpy(), [[1, 0]], atol=1e-9)
    assert filled(loaded, found.directions)[1].norm() == 0


def test_gradient_factors_are_the_gradient(case):
    loaded, made, row = case
    sites = list(made.patch)
    weights = [landscape_weights(loaded.model)[f"{site}.weight"] for site in sites]
    for weight in weights:
        weight.parameter.requires_grad_(True)
    with torch.inference_mode(False):
        exact = torch.autograd.grad(losses(loaded, [row])[0, 0], [weight.parameter for weight in weights])
    for weight in weights:
        weight.parameter.requires_grad_(False)
    factors = gradient_factors(loaded, row, sites)
    for site, weight, gradient in zip(sites, weights, exact, strict=True):
        found = (factors[site].up @ factors[site].down.transpose(1, 2))[0]
        torch.testing.assert_close(found.T if weight.transposed else found, gradient, rtol=1e-6, atol=1e-9)


def test_along_the_gradient_the_loss_falls_by_its_norm(case):
    loaded, made, row = case
    gradient = gradient_factors(loaded, row, list(made.patch))
    down = line(loaded, {site: factors.times(-1.0) for site, factors in gradient.items()}, 2.0)
    step = 2e-4  # norms of many models are computed in float32, whatever the weights are
    before, after = grid_losses(loaded, [row], down, [(-step,), (step,)])[:, 0]
    assert (after - before) / (2 * step) == pytest.approx(-2.0 * norm(gradient), rel=1e-3)


def test_records(case):
    loaded, made, row = case
    kinds = ["path", "path-line", "gradient-line"]
    records = {record.plane: record for record in path_landscapes(loaded, made, kinds, points=3, span=1.0)}
    at_theta, at_end = -float(made.base[-1].mean()), -float(made.found[-1].mean())
    for plane, record in records.items():
        assert record.id == f"{made.item.trajectory_id}/{plane}"
        assert record.alpha == (-1.0, 0.0, 1.0)
        assert record.beta == ((-1.0, 0.0, 1.0) if plane == "path" else (0.0,))
        assert len(record.loss) == len(record.alpha) * len(record.beta)
        assert record.loss[len(record.loss) // 2] == pytest.approx(at_theta, abs=1e-6)
        assert record.position == POSITIONS
        assert record.path_loss[-1] == pytest.approx(at_end)
        assert len(record.path_alpha) == len(record.path_beta) == len(POSITIONS)
        assert 0 < record.captured <= 1
    along = records["path-line"]
    assert along.loss[-1] == pytest.approx(at_end, abs=1e-6), "1 is θ'ₙ"
    assert along.path_alpha[-1] == pytest.approx(1)
    assert records["path"].captured >= along.captured
    points, gradient = dense(made.patch), dense(gradient_factors(loaded, row, list(made.patch)))[0]
    expected = -(points @ gradient) / gradient.norm() / points[-1].norm()
    np.testing.assert_allclose(records["gradient-line"].path_alpha, expected.numpy(), atol=1e-8)
