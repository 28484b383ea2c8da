"""Random directions: what they depend on, and their norms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from innerloop.inner.landscape import directions as module
from innerloop.inner.landscape.directions import RandomDirections
from innerloop.inner.landscape.weights import landscape_weights, norms
from innerloop.testing import tiny

pytestmark = pytest.mark.model


def filled(directions, weight, count=2):
    outs = [torch.full(weight.shape, torch.nan) for _ in range(count)]
    directions.fill(weight, outs)
    return outs


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


class TestWhichWeights:
    def test_matrices_but_not_embeddings_head_norms_and_biases(self):
        for architecture in ("llama", "gpt2", "gpt_neox", "qwen2", "gemma3"):
            model = tiny(architecture).model
            names = landscape_weights(model)
            assert all(weight.parameter.ndim >= 2 for weight in names.values())
            assert not [n for n in names if "embed" in n or "wte" in n or "wpe" in n or "lm_head" in n or "norm" in n]
            ends = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
            assert not ends & {id(weight.parameter) for weight in names.values()}
            left = sum(p.numel() for n, p in model.named_parameters() if n not in names and p.ndim >= 2)
            taken = sum(weight.parameter.numel() for weight in names.values())
            assert taken + left == sum(p.numel() for p in model.parameters() if p.ndim >= 2)
            assert taken > 0

    @pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox", "qwen2", "gemma3", "mamba"])
    def test_all_are_norms_and_biases_too(self, architecture):
        model = tiny(architecture).model
        moved = landscape_weights(model, "all")
        assert landscape_weights(model).keys() < moved.keys()
        ends = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
        ends = {id(p) for module in (*ends, model.get_output_embeddings()) for p in module.parameters()}
        assert {id(weight.parameter) for weight in moved.values()} == {id(p) for p in model.parameters()} - ends
        vector = next(weight for weight in moved.values() if weight.parameter.ndim == 1)
        assert vector.shape == (1, 1, vector.parameter.numel())
        assert not vector.transposed

    def test_fused_experts_are_matrices_of_their_own(self):
        weights = landscape_weights(tiny("mixtral").model)
        [experts] = [w for n, w in weights.items() if n.endswith("0.mlp.experts.gate_up_proj")]
        assert (experts.groups, experts.transposed) == (4, False)

    def test_gpt2_stores_input_by_output(self):
        weights = landscape_weights(tiny("gpt2").model)
        weight = weights["transformer.h.0.mlp.c_fc.weight"]
        assert weight.transposed
        assert weight.shape == (1, 64, 256)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mixtral", "mamba"])
def test_every_filter_has_the_norm_of_the_weights(architecture):
    """Li et al. 2018: one factor per output of each matrix; of GPT-2's Conv1D these are the columns."""
    weights = landscape_weights(tiny(architecture).model, "all")
    directions = RandomDirections(weights, seed=3)
    for weight in weights.values():
        for out in filled(directions, weight):
            own, other = (norms(x, weight.filter_axis) for x in (weight.matrices(), out))
            torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6)
            outputs = {"gpt2": weight.columns}.get(architecture, weight.rows) if weight.parameter.ndim > 1 else 1
            assert own.numel() == weight.groups * outputs


def test_per_tensor_only_the_whole_has_it():
    weights = landscape_weights(tiny("llama").model)
    directions = RandomDirections(weights, seed=3, scaling="tensor")
    for weight in weights.values():
        first, second = filled(directions, weight)
        torch.testing.assert_close(norms(first, None), norms(weight.matrices(), None), rtol=1e-5, atol=1e-6)
        assert not torch.allclose(norms(first, 2), norms(weight.matrices(), 2), rtol=1e-2)
        assert abs(float((first * second).sum() / first.norm() / second.norm())) < 6 / first.numel() ** 0.5


class TestReproducible:
    def test_threads_order_and_what_else_is_drawn_change_nothing(self, threads, monkeypatch):
        weights = landscape_weights(tiny("llama").model)
        monkeypatch.setattr(module, "_BLOCK", 500)  # many blocks per weight
        threads(1)
        one = RandomDirections(weights, seed=7)
        expected = {name: filled(one, weight) for name, weight in weights.items()}
        threads(3)
        some = dict(reversed(list(weights.items())[5:12]))
        many = RandomDirections(some, seed=7)
        for name, weight in some.items():
            for a, b in zip(filled(many, weight), expected[name], strict=True):
                assert torch.equal(a, b)

    def test_seed_direction_and_name_each_matter(self):
        weights = landscape_weights(tiny("llama").model)
        a, b = (RandomDirections(weights, seed=seed) for seed in (0, 1))
        q, o = (weights[f"model.layers.0.self_attn.{name}_proj.weight"] for name in ("q", "o"))
        drawn = [*filled(a, q), *filled(b, q), *filled(a, o)]
        for i, x in enumerate(drawn):
            for y in drawn[i + 1 :]:
                assert abs(float((x * y).sum() / x.norm() / y.norm())) < 0.1

    def test_the_numbers_are_these(self):
        """A landscape can be measured again years later: the stream is pinned."""
        out = np.empty((2, 3), np.float32)
        module._draw_block(out, (0, 1, 2, 3), None)
        expected = [1.2415538, 0.7666097, 0.5098984, 1.2029681, -0.1879232, 0.6031604]
        np.testing.assert_allclose(out.ravel(), expected, rtol=1e-6)

    def test_wider_weights_get_the_same_directions(self):
        single, double = (landscape_weights(tiny("llama", dtype=dtype).model) for dtype in ("float32", "float64"))
        name = "model.layers.1.mlp.up_proj.weight"
        out = torch.empty(double[name].shape, dtype=torch.float64)
        RandomDirections(double, seed=0, count=1).fill(double[name], [out])
        found = torch.empty(single[name].shape)
        RandomDirections(single, seed=0, count=1).fill(single[name], [found])
        torch.testing.assert_close(found.double(), out, rtol=1e-5, atol=1e-7)


def test_the_draws_are_normal():
    drawn = np.empty(200_001, np.float32)  # no whole number of 64-bit words
    module._draw_block(drawn, (5, 0, 0, 0), None)
    assert stats.kstest(drawn[:20_000], "norm").pvalue > 1e-3
    assert abs(drawn.mean()) < 5 / len(drawn) ** 0.5
    assert drawn.var() == pytest.approx(1, abs=5 * (2 / len(drawn)) ** 0.5)
    lag = np.corrcoef(drawn[:-1], drawn[1:])[0, 1]
    assert abs(lag) < 5 / len(drawn) ** 0.5
