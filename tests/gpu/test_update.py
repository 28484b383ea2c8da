"""The inner loop's weights on a GPU: they restore the full run there, and are those of the CPU."""

import logging

import numpy as np
import pytest
import torch

from innerloop.errors import InputError
from innerloop.inner.alignment import align
from innerloop.inner.update import gauge_of, update
from innerloop.testing import ARCHITECTURES

from .conftest import items_of, keeps_state, on

pytestmark = [pytest.mark.gpu, pytest.mark.model]

CPU = torch.device("cpu")
WHERE = [[5, 10]]


def made(loaded, gauge):
    (found,) = update(loaded, items_of("llama")[:1], positions=WHERE, gauge=gauge)
    return found


def gauges(architecture):
    """Those that this architecture has."""
    yield "attention"
    try:
        gauge_of(on(CPU, architecture, "float32"), "mlp")
    except InputError:
        return
    yield "mlp"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_float32(architecture, device, record):
    for gauge in gauges(architecture):
        here, there = made(on(CPU, architecture, "float32"), gauge), made(on(device, architecture, "float32"), gauge)
        residual = float(there.residual.max())
        norms = float(((there.layer_norms.cpu() - here.layer_norms) / here.layer_norms).abs().max())
        where = {"architecture": architecture, "dtype": "float32", "gauge": gauge}
        record("update: largest residual", residual, "nats", **where)
        record("update: largest relative difference of a layer's norm from the CPU", norms, "1", **where)
        assert residual < (1e-2 if keeps_state(architecture) else 1e-3)
        assert norms < (0.1 if keeps_state(architecture) else 1e-2)
        assert (there.full - here.full).abs().max() < (5e-2 if keeps_state(architecture) else 1e-3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bfloat16(architecture, device, record, caplog):
    with caplog.at_level(logging.ERROR):  # that half precision is far off is what is measured
        for gauge in gauges(architecture):
            found = made(on(device, architecture, "bfloat16"), gauge)
            residual = float(found.residual.max())
            where = {"architecture": architecture, "dtype": "bfloat16", "gauge": gauge}
            record("update: largest residual", residual, "nats", **where)
            assert residual < 8
            assert torch.isfinite(found.layer_norms).all()


def test_the_records_and_the_alignment_can_be_written(device):
    loaded = on(device, "llama", "float32")
    found = made(loaded, "attention")
    assert [row.position for row in found.records()] == WHERE[0]
    here = made(on(CPU, "llama", "float32"), "attention")
    there, expected = align(loaded, found), align(on(CPU, "llama", "float32"), here)
    for name in ("predicted", "gradient_norm", "cosine", "layer_cosine", "causal_cosine"):
        np.testing.assert_allclose(getattr(there, name), getattr(expected, name), rtol=2e-2, atol=2e-2)


def test_the_papers_gauge(device):
    found = made(on(device, "llama", "float32"), "paper")
    here = made(on(CPU, "llama", "float32"), "paper")
    assert (found.found.cpu() - here.found).abs().max() < 1e-2
    assert len(found.records()) == 2
