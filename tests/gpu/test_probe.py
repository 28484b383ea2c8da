"""The probe on a GPU, for every architecture."""

import numpy as np
import pytest

from innerloop.inner import attention
from innerloop.inner.probe import probe
from innerloop.inner.shared import Budget, budget_for
from innerloop.inner.task import Task
from innerloop.memory import free_memory
from innerloop.testing import ARCHITECTURES

from .conftest import apart, coarse, definition, items_of, keeps_state, on

pytestmark = [pytest.mark.gpu, pytest.mark.model]


def losses(loaded, method="shared", architecture="llama"):
    return tuple(np.array(curve.loss) for curve in probe(loaded, items_of(architecture), method=method))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_float32_gives_the_definition(architecture, device, record):
    expected = definition(architecture)
    assert np.ptp(expected[0]) > 0.05, "the context must matter, or the comparison shows nothing"
    error = apart(losses(on(device, architecture, "float32"), architecture=architecture), expected)
    record("probe: largest error against the definition", error, "nats", architecture=architecture, dtype="float32")
    assert error < (1e-2 if keeps_state(architecture) else 1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bfloat16_is_near_the_definition_and_near_plain_in_its_own_dtype(architecture, device, record):
    loaded = on(device, architecture, "bfloat16")
    found = losses(loaded, architecture=architecture)
    error, own = apart(found, definition(architecture)), apart(found, losses(loaded, "plain", architecture))
    where = {"architecture": architecture, "dtype": "bfloat16"}
    record("probe: largest error against the definition", error, "nats", **where)
    record("probe: largest difference from plain there", own, "nats", **where)
    assert error < (3 if coarse(architecture) else 0.5)
    assert own < (3 if coarse(architecture) else 0.5)


def test_windows_on_the_device(device):
    for architecture in ("mistral", "gemma3"):
        loaded = on(device, architecture, "float32")
        assert apart(losses(loaded), losses(loaded, "plain")) < 1e-4


def test_small_rows_give_the_same_numbers(device, monkeypatch):
    loaded = on(device, "llama", "float32")
    expected = losses(loaded)
    monkeypatch.setattr("innerloop.inner.probe.budget_for", lambda *_: Budget(prefix=50, row=60))
    assert apart(losses(loaded), expected) < 1e-4


def test_the_fused_kernel_of_cpus_is_not_taken_elsewhere(device):
    weight = on(device, "llama", "float32").model.get_input_embeddings().weight
    assert attention._fused(weight, weight) is (device.type == "cpu")


def test_the_budget_follows_the_devices_free_memory(device):
    loaded = on(device, "llama", "float32")
    task = Task(prompt=(1,) * 5, trajectory=(2,) * 20, positions=(0, 20), suffix=(3,), answers=((4, 5),))
    free = free_memory(device)
    assert 0 < free < 2**50
    assert budget_for(loaded, [task], None).row == (480 if device.type == "cpu" else 8192)
