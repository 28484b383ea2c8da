"""Landscapes on a GPU: the losses of the CPU at θ, weights that come back, and directions that are what they are."""

import numpy as np
import pytest
import torch

from innerloop.inner.landscape.directions import RandomDirections
from innerloop.inner.landscape.figures import path_landscapes
from innerloop.inner.landscape.grid import grid_losses
from innerloop.inner.landscape.scoring import losses, row_of
from innerloop.inner.landscape.sharpness import sharpness
from innerloop.inner.landscape.weights import landscape_weights
from innerloop.inner.update import update
from innerloop.models import fingerprint
from innerloop.testing import ARCHITECTURES

from .conftest import coarse, items_of, keeps_state, on

pytestmark = [pytest.mark.gpu, pytest.mark.model]

CPU = torch.device("cpu")
POINTS = [(0.0, 0.0), (0.1, -0.05), (-0.2, 0.3)]


def rows_of(loaded):
    return [row_of(loaded, item.question_id, item.prompt, item.answer) for item in items_of("llama")]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_losses_and_weights(architecture, dtype, device, record):
    loaded, cpu = on(device, architecture, dtype), on(CPU, architecture, "float32")
    before = fingerprint(loaded.model)
    directions = RandomDirections(landscape_weights(loaded.model), seed=3)
    together = grid_losses(loaded, rows_of(loaded), directions, POINTS)
    single = grid_losses(loaded, rows_of(loaded), directions, POINTS, tokens=1)
    assert fingerprint(loaded.model) == before, "weights come back bit for bit"
    with torch.no_grad():
        expected = losses(cpu, rows_of(cpu))[0].numpy()
    error = float(np.abs(together[0] - expected).max())
    record("landscape: largest error at θ against the CPU", error, "nats", architecture=architecture, dtype=dtype)
    exact, half = 1e-2 if keeps_state(architecture) else 1e-4, 3 if coarse(architecture) else 0.5
    assert error < (exact if dtype == "float32" else half)
    assert np.abs(together - single).max() < (exact if dtype == "float32" else half)
    assert np.abs(together[1:] - together[0]).max() > 1e-3, "moved weights must matter"


def test_directions_are_normal_repeatable_and_as_long_as_the_filters(device):
    weights = landscape_weights(on(device, "llama", "float32").model)
    drawn = []
    for seed in (0, 0, 1):
        directions = RandomDirections(weights, seed=seed)
        weight = next(iter(weights.values()))
        outs = [torch.full(weight.shape, torch.nan, device=device) for _ in range(2)]
        directions.fill(weight, outs)
        drawn.append([out.cpu() for out in outs])
        own = weight.matrices().norm(dim=2).cpu()
        for out in outs:
            assert torch.allclose(out.norm(dim=2).cpu(), own, rtol=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(drawn[0], drawn[1], strict=True))
    assert not torch.equal(drawn[0][0], drawn[2][0])
    assert not torch.equal(drawn[0][0], drawn[0][1])
    unit = drawn[0][0] / drawn[0][0].std(dim=2, keepdim=True)
    assert abs(float(unit.mean())) < 0.05
    assert 0.5 < float((unit.abs() < 1).float().mean()) < 0.8


def test_a_trajectorys_own_plane(device):
    found = {}
    for place in (CPU, device):
        loaded = on(place, "llama", "float32")
        (made,) = update(loaded, items_of("llama")[:1], positions=[[10, 40]], placement="contiguous")
        planes = ("path", "path-line", "gradient-line")
        found[place] = list(path_landscapes(loaded, made, planes, points=3, span=1.0))
    for here, there in zip(found[CPU], found[device], strict=True):
        np.testing.assert_allclose(there.loss, here.loss, atol=2e-2)
        np.testing.assert_allclose(there.path_loss, here.path_loss, atol=1e-3)


def test_sharpness(device):
    found = {}
    for place in (CPU, device):
        loaded = on(place, "llama", "float32")
        found[place] = sharpness(loaded, rows_of(loaded)[0], steps=12, samples=1)
    assert found[device].top == pytest.approx(found[CPU].top, rel=0.05)
