"""Hessian–vector products of real losses against an explicit Hessian."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.func import functional_call

from innerloop.errors import InputError
from innerloop.inner.landscape.scoring import losses, row_of
from innerloop.inner.landscape.sharpness import hessian_products, sharpness
from innerloop.inner.landscape.weights import landscape_weights
from innerloop.inner.probe import SUPPORTED
from innerloop.testing import ARCHITECTURES, tiny

pytestmark = pytest.mark.model

SMALL = {
    "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 4,
}  # fmt: skip


def row(loaded, length=6):
    return row_of(loaded, "q", tuple(range(97, 97 + length)), "42")


@pytest.fixture(scope="module")
def small():
    """A tiny model and its Hessian, made entry by entry."""
    loaded = tiny("llama", dtype="float64", **SMALL)
    loaded.model.set_attn_implementation("eager")
    weights = {name: weight.parameter for name, weight in landscape_weights(loaded.model).items()}
    sizes = [weight.numel() for weight in weights.values()]
    scored = row(loaded)
    ids, answer = torch.tensor([scored.tokens]), torch.tensor(scored.answer)

    def loss(flat):
        parts = dict(zip(weights, flat.split(sizes), strict=True))
        moved = {name: parts[name].view(weight.shape) for name, weight in weights.items()}
        logits = functional_call(loaded.model, moved, kwargs={"input_ids": ids, "use_cache": False}).logits
        return torch.nn.functional.cross_entropy(logits[0, -len(answer) :], answer)

    flat = torch.cat([weight.detach().flatten() for weight in weights.values()])
    hessian = torch.autograd.functional.hessian(loss, flat)
    loaded.model.set_attn_implementation("sdpa")
    return loaded, scored, hessian


def test_products_are_those_of_the_hessian(small):
    loaded, scored, hessian = small
    weights = [weight.parameter for weight in landscape_weights(loaded.model).values()]
    draw = torch.Generator().manual_seed(0)
    with hessian_products(loaded, scored, weights) as product:
        for _ in range(3):
            vector = [torch.randn(w.shape, generator=draw, dtype=torch.float64) for w in weights]
            found = torch.cat([part.flatten() for part in product(vector)])
            expected = hessian @ torch.cat([part.flatten() for part in vector])
            torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-4)  # its norms are in float32


def test_eigenvalues_and_trace_are_those_of_the_hessian(small):
    loaded, scored, hessian = small
    values = torch.linalg.eigvalsh((hessian + hessian.T) / 2)
    found = sharpness(loaded, scored, steps=60, samples=60)
    assert found.top == pytest.approx(float(values[-1]), rel=1e-3)
    assert found.low == pytest.approx(float(values[0]), rel=1e-3)
    assert abs(found.trace - float(values.sum())) < 4 * found.trace_error
    assert found.trace_error < float(values.abs().sum())
    assert f"({len(values):,} weights)" in found.weights


@pytest.mark.parametrize("architecture", [n for n, r in ARCHITECTURES.items() if r.model_type in SUPPORTED])
def test_every_architecture_and_its_model_is_as_before(architecture):
    """Hv against the difference of gradients at θ ± εv."""
    loaded = tiny(architecture, dtype="float64")
    weights = [weight.parameter for weight in landscape_weights(loaded.model).values()]
    scored, before = row(loaded, 12), [weight.clone() for weight in weights]
    draw = torch.Generator().manual_seed(1)
    vector = [torch.randn(w.shape, generator=draw, dtype=torch.float64) for w in weights]
    with hessian_products(loaded, scored, weights) as product:
        found = torch.cat([part.flatten() for part in product(vector)])
    step, slopes = 1e-5, []
    for sign in (-1, 1):
        for weight, own, along in zip(weights, before, vector, strict=True):
            weight.data.copy_(own + sign * step * along)
            weight.requires_grad_(True)
        parts = torch.autograd.grad(losses(loaded, [scored])[0, 0], weights, materialize_grads=True, allow_unused=True)
        slopes.append(torch.cat([part.flatten() for part in parts]))
        loaded.model.requires_grad_(False)
    for weight, own in zip(weights, before, strict=True):
        weight.data.copy_(own)
    expected = (slopes[1] - slopes[0]) / (2 * step)
    assert float((found - expected).norm()) < 0.02 * float(expected.norm())
    assert not any(weight.requires_grad for weight in loaded.model.parameters())


def test_experts_run_as_before_afterwards():
    loaded = tiny("mixtral")
    before = loaded.model.config._experts_implementation
    found = sharpness(loaded, row(loaded), steps=3, samples=2)
    assert np.isfinite([found.top, found.low, found.trace]).all()
    assert loaded.model.config._experts_implementation == before


def test_seeds_give_the_same_numbers_again():
    loaded = tiny("gpt2")
    a, b, c = (sharpness(loaded, row(loaded), steps=4, samples=3, seed=seed) for seed in (0, 0, 1))
    assert (a.top, a.trace) == pytest.approx((b.top, b.trace), rel=1e-4)
    assert a.trace != pytest.approx(c.trace, rel=1e-4)


def test_progress_counts_products():
    loaded = tiny("llama")
    counted = []
    sharpness(loaded, row(loaded), steps=4, samples=3, on_progress=counted.append)
    assert sum(counted) == 7


def test_half_precision_is_refused():
    with pytest.raises(InputError, match="sharpness needs weights in float32 or float64"):
        sharpness(loaded := tiny("llama", dtype="bfloat16"), row(loaded))
