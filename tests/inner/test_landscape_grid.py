"""Losses at moved weights against closed forms and against really loading the weights; θ comes back bit for bit."""

from __future__ import annotations

import itertools
import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from innerloop.errors import InputError
from innerloop.inner.landscape import scoring
from innerloop.inner.landscape.directions import RandomDirections
from innerloop.inner.landscape.grid import axis, grid_losses, plane
from innerloop.inner.landscape.perturbed import Perturbed, reads_elsewhere
from innerloop.inner.landscape.scoring import Row, groups, losses, row_of
from innerloop.inner.landscape.scratch import Place
from innerloop.inner.landscape.weights import Weight, landscape_weights
from innerloop.inner.probe import ProbeItem, probe
from innerloop.testing import ARCHITECTURES, tiny

POINTS = [(0.0, 0.0), (1.0, 0.5), (-0.3, 0.2), (0.1, 0.0), (-1.0, 1.0)]


def make_rows(loaded, lengths=(5, 19, 11)):
    draw = np.random.default_rng(0)
    return [
        row_of(loaded, f"q{i}", tuple(map(int, draw.integers(97, 123, length))), str(10**i))
        for i, length in enumerate(lengths)
    ]


def copies(model):
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def untouched(model, before):
    return all(torch.equal(before[name], weight) for name, weight in model.named_parameters())


def loaded_for_real(loaded, rows, directions, points):
    """The losses question by question, with the moved weights copied into the model."""
    before, found = copies(loaded.model), []
    with torch.no_grad():
        for point in points:
            for name, weight in directions.weights.items():
                parts = [torch.empty(weight.shape, dtype=weight.parameter.dtype) for _ in range(directions.count)]
                directions.fill(weight, parts)
                moved = weight.matrices(before[name]) + sum(a * part for a, part in zip(point, parts, strict=True))
                weight.parameter.copy_(moved.view(weight.parameter.shape))
            found.append([float(losses(loaded, [row])[0, 0]) for row in rows])
        for name, weight in loaded.model.named_parameters():
            weight.copy_(before[name])
    return np.array(found)


class Quadratic(nn.Module):
    """½ ⟨W − C, A (W − C)⟩ for every row of the batch: a loss of which all is known."""

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(4, 3, generator=draw, dtype=torch.float64), requires_grad=False)
        root = torch.randn(4, 4, generator=draw, dtype=torch.float64)
        self.curvature, self.centre = root @ root.T, torch.randn(4, 3, generator=draw, dtype=torch.float64)

    def forward(self, x):
        off = self.weight - self.centre
        return 0.5 * (off * (self.curvature @ off)).sum() + 0 * x[:, 0]


class Fixed:
    """Two given directions."""

    count = 2

    def __init__(self, weight, directions):
        self.weights, self._directions = {weight.name: weight}, directions

    def fill(self, weight, outs):
        for out, direction in zip(outs, self._directions, strict=True):
            out.copy_(direction.view(out.shape))


def test_a_quadratic_in_closed_form():
    """L(θ + αδ₁ + βδ₂) = L(θ) + αg₁ + βg₂ + ½(α²h₁₁ + 2αβh₁₂ + β²h₂₂)."""
    toy = Quadratic()
    weight = Weight("weight", toy.weight, 1, 4, 3, False)
    draw = torch.Generator().manual_seed(1)
    d1, d2 = (torch.randn(4, 3, generator=draw, dtype=torch.float64) for _ in range(2))
    slope = toy.curvature @ (toy.weight - toy.centre)
    g1, g2 = float((slope * d1).sum()), float((slope * d2).sum())
    h11, h12, h22 = (float((a * (toy.curvature @ b)).sum()) for a, b in ((d1, d1), (d1, d2), (d2, d2)))
    at_theta = float(toy(torch.zeros(1, 1, dtype=torch.float64))[0])
    grid = plane(axis(5, 1.0), axis(5, 1.0))
    x = torch.zeros(2 * len(grid), 1, dtype=torch.float64)
    with torch.no_grad(), Perturbed(toy, Fixed(weight, (d1, d2))) as perturbed, perturbed.at(grid):
        found = toy(x).view(len(grid), 2)
    expected = [at_theta + a * g1 + b * g2 + 0.5 * (a * a * h11 + 2 * a * b * h12 + b * b * h22) for a, b in grid]
    for column in range(2):
        np.testing.assert_allclose(found[:, column].numpy(), expected, rtol=1e-12)
    assert found[12, 0] == at_theta, "the middle is θ itself"


@pytest.mark.model
@pytest.mark.parametrize(
    ("architecture", "moved"),
    [
        *((name, "matrices") for name in ARCHITECTURES),
        *((name, "all") for name in ("llama", "gpt2", "gemma3", "mamba")),
    ],
)
def test_the_grid_is_that_of_really_loaded_weights(architecture, moved, caplog):
    loaded = tiny(architecture, dtype="float64")
    rows = make_rows(loaded)
    before = copies(loaded.model)
    directions = RandomDirections(landscape_weights(loaded.model, moved), seed=1)
    with caplog.at_level(logging.WARNING, logger="innerloop"):
        found = grid_losses(loaded, rows, directions, POINTS)
    assert untouched(loaded.model, before)
    assert np.abs(found[1] - found[0]).max() > 0.05, "the weights must matter, or the comparison shows nothing"
    np.testing.assert_allclose(found, loaded_for_real(loaded, rows, directions, POINTS), atol=1e-10)
    alone = grid_losses(loaded, rows, directions, POINTS, tokens=1)
    np.testing.assert_allclose(found, alone, atol=1e-12)
    assert ("put in place at once" in caplog.text) == (not ARCHITECTURES[architecture].block_masks)


@pytest.mark.model
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mixtral"])
def test_the_middle_is_the_probe_without_a_trajectory(architecture):
    loaded = tiny(architecture)
    rows = make_rows(loaded)
    directions = RandomDirections(landscape_weights(loaded.model), seed=1)
    found = grid_losses(loaded, rows, directions, [(0.0, 0.0)])[0]
    suffix = len(loaded.suffix_ids)
    for i, row in enumerate(rows):
        prompt = row.tokens[: len(row.tokens) - suffix - len(row.answer) + 1]
        item = ProbeItem(trajectory_id="t", question_id="q", prompt=prompt, trajectory=(), answer=str(10**i))
        [curve] = probe(loaded, [item], method="plain")
        assert found[i] == pytest.approx(curve.loss[0], abs=1e-5)


@pytest.mark.model
def test_half_precision_rounds_the_moved_weights_once():
    loaded = tiny("gpt2", dtype="bfloat16")  # no nn.Linear, so that the module's own forward runs
    before = copies(loaded.model)
    weights = landscape_weights(loaded.model)
    directions = RandomDirections(weights, seed=1)
    name = "transformer.h.0.attn.c_proj.weight"
    parts = [torch.empty(weights[name].shape) for _ in range(2)]
    directions.fill(weights[name], parts)
    module = loaded.model.get_submodule(name.removesuffix(".weight"))
    own, seen = module.forward, []
    module.forward = lambda x: seen.append(module.weight.clone()) or own(x)
    with torch.no_grad(), Perturbed(loaded.model, directions) as perturbed, perturbed.at([(0.3, -0.7)]):
        losses(loaded, make_rows(loaded)[:1])
    expected = (before[name].float() + 0.3 * parts[0][0] - 0.7 * parts[1][0]).bfloat16()
    assert torch.equal(seen[0], expected)
    assert untouched(loaded.model, before)


@pytest.mark.model
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mixtral", "mamba"])
def test_the_weights_come_back_whatever_happens(architecture, error, monkeypatch):
    """An error inside a module whose weights are moved just then, in the middle of a forward."""
    loaded = tiny(architecture)
    before = copies(loaded.model)
    storage = {name: weight.data_ptr() for name, weight in loaded.model.named_parameters()}
    directions = RandomDirections(landscape_weights(loaded.model), seed=1)
    rows = make_rows(loaded)
    grid_losses(loaded, rows, directions, POINTS[:1])
    calls, move = itertools.count(), Place.move

    def fails(self, own, point):
        if next(calls) == 7:
            raise error("stop")
        return move(self, own, point)

    monkeypatch.setattr(Place, "move", fails)
    with pytest.raises(error):
        grid_losses(loaded, rows, directions, POINTS)
    monkeypatch.setattr(Place, "move", move)
    head = loaded.model.get_output_embeddings()
    handle = head.register_forward_hook(lambda *_: (_ for _ in ()).throw(error("stop")))
    with pytest.raises(error):
        grid_losses(loaded, rows, directions, POINTS)
    handle.remove()
    assert untouched(loaded.model, before)
    assert storage == {name: weight.data_ptr() for name, weight in loaded.model.named_parameters()}
    assert not any("forward" in module.__dict__ for module in loaded.model.modules())


@pytest.mark.model
def test_padding_changes_no_loss():
    for architecture in ("llama", "gpt2", "gemma3", "qwen2_moe", "mamba"):
        loaded = tiny(architecture)
        rows = make_rows(loaded, lengths=(3, 40, 17, 80))
        with torch.no_grad():
            together = losses(loaded, rows, points=2)
            alone = torch.cat([losses(loaded, [row]) for row in rows], dim=1)
        torch.testing.assert_close(together, alone.expand(2, -1), rtol=0, atol=1e-5)


@pytest.mark.model
def test_a_row_is_scored_by_its_definition():
    loaded = tiny("llama")
    row = make_rows(loaded)[2]
    assert len(row.answer) == 3
    logits = loaded.model(torch.tensor([row.tokens])).logits[0].log_softmax(dim=-1)
    expected = -sum(float(logits[len(row.tokens) - 3 + j, token]) for j, token in enumerate(row.answer)) / 3
    assert float(losses(loaded, [row])[0, 0]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.model
class TestCost:
    def test_directions_are_drawn_once_per_module_and_forward(self):
        loaded = tiny("llama")
        weights = landscape_weights(loaded.model)
        directions = RandomDirections(weights, seed=1)
        drawn = []
        fill = directions.fill
        directions.fill = lambda weight, outs: drawn.append(weight.name) or fill(weight, outs)
        grid_losses(loaded, make_rows(loaded), directions, POINTS)
        assert sorted(drawn) == sorted(weights), "five points, one draw"

    def test_logits_are_made_at_the_answers_only(self):
        loaded = tiny("llama")
        rows = make_rows(loaded)
        seen = []
        handle = loaded.model.lm_head.register_forward_hook(lambda m, a, out: seen.append(out.shape[:2]))
        losses(loaded, rows, points=4)
        handle.remove()
        assert seen == [(1, 4 * sum(len(row.answer) for row in rows))]

    @pytest.mark.parametrize("architecture", ["llama", "gpt2", "phi3"])
    def test_scratch_is_less_than_two_layers(self, architecture):
        loaded = tiny(architecture)
        weights = landscape_weights(loaded.model)
        layer = sum(w.parameter.numel() for w in weights.values()) / loaded.model.config.num_hidden_layers
        directions = RandomDirections(weights, seed=1)
        with torch.no_grad(), Perturbed(loaded.model, directions) as perturbed, perturbed.at(POINTS):
            losses(loaded, make_rows(loaded), len(POINTS))
        buffers = [buffer for scratch in perturbed._scratch for buffer in scratch._buffers.values()]
        assert sum(buffer.numel() for buffer in buffers) <= 2 * layer


@pytest.mark.model
class TestWhereWeightsAreRead:
    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_outside_their_module_or_not(self, architecture):
        loaded = tiny(architecture)
        before = copies(loaded.model)
        [row, *_] = make_rows(loaded)
        found = reads_elsewhere(loaded.model, landscape_weights(loaded.model), lambda: losses(loaded, [row]))
        assert found == (not ARCHITECTURES[architecture].block_masks)
        assert untouched(loaded.model, before)

    def test_a_forward_of_the_instance_stays(self):
        loaded = tiny("llama")
        module = loaded.model.model.layers[0].self_attn.q_proj
        calls = []
        own = module.forward
        module.forward = lambda x: calls.append(1) or own(x)
        kept = module.forward
        directions = RandomDirections(landscape_weights(loaded.model), seed=1)
        found = grid_losses(loaded, make_rows(loaded), directions, POINTS)
        assert calls
        assert module.forward is kept
        del module.forward
        np.testing.assert_allclose(found, grid_losses(loaded, make_rows(loaded), directions, POINTS), atol=1e-6)

    def test_several_points_need_a_model_that_can_be_sliced(self):
        loaded = tiny("mamba")
        directions = RandomDirections(landscape_weights(loaded.model), seed=1)
        perturbed = Perturbed(loaded.model, directions, whole=True)
        with pytest.raises(ValueError, match="one point at a time"), perturbed, perturbed.at(POINTS):
            pass


class TestGroups:
    rows = staticmethod(lambda lengths: [Row(question_id="q", tokens=(1,) * n, answer=(1,)) for n in lengths])

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.integers(1, 300), min_size=1, max_size=7), st.integers(100, 1500))
    def test_the_cheapest_split(self, lengths, most):
        found = groups(self.rows(lengths), most)
        assert sorted(itertools.chain(*found)) == list(range(len(lengths)))
        assert all(len(g) * max(lengths[i] for i in g) <= most or len(g) == 1 for g in found)

        def cost(split):
            return sum(len(g) * max(g) + scoring._SETUP for g in split)

        ordered = sorted(lengths)
        splits = []
        for cuts in itertools.product([False, True], repeat=len(ordered) - 1):
            edges = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), len(ordered)]
            split = [ordered[a:b] for a, b in itertools.pairwise(edges)]
            if all(len(g) * max(g) <= most or len(g) == 1 for g in split):
                splits.append(split)
        assert cost([[lengths[i] for i in g] for g in found]) == min(map(cost, splits))

    def test_like_lengths_go_together(self):
        assert groups(self.rows([100, 900, 101, 102]), 10_000) == [[0, 2, 3], [1]]


class TestAxis:
    def test_evenly_spaced_around_zero(self):
        assert axis(5, 2.0) == (-2.0, -1.0, 0.0, 1.0, 2.0)
        assert axis(4, 1.5) == (-1.5, -0.5, 0.5, 1.5)
        assert 0.0 in axis(25, 0.7)
        assert axis(25, 0.7)[0] == -axis(25, 0.7)[-1] == -0.7

    def test_alpha_is_outside(self):
        assert plane((0.0, 1.0), (5.0, 6.0)) == [(0.0, 5.0), (0.0, 6.0), (1.0, 5.0), (1.0, 6.0)]


@pytest.mark.model
class TestBadInput:
    def test_a_question_that_is_too_long(self):
        loaded = tiny("gpt2", n_positions=64)
        with pytest.raises(InputError, match=r"question 'q': .* take \d+ tokens, but tiny-gpt2 holds 64"):
            row_of(loaded, "q", (97,) * 60, "42")

    def test_no_prompt(self):
        with pytest.raises(InputError, match="the prompt has no tokens"):
            row_of(tiny("llama"), "q", (), "42")


@pytest.mark.model
def test_the_real_model(smollm2, data_dir):
    """SmolLM2 on real questions: θ untouched, the middle is the bare loss, two layers' weights of scratch."""
    import json

    entries = [json.loads(line) for line in (data_dir / "gsm8k_test.jsonl").read_text().splitlines()[:3]]
    rows = [row_of(smollm2, e["id"], smollm2.prompt(e["question"]), e["answer"]) for e in entries]
    before = copies(smollm2.model)
    weights = landscape_weights(smollm2.model)
    assert len(weights) == 30 * 7
    directions = RandomDirections(weights, seed=0)
    found = grid_losses(smollm2, rows, directions, [(0.0, 0.0), (0.5, -0.5)])
    with torch.no_grad():
        alone = [float(losses(smollm2, [row])[0, 0]) for row in rows]
    np.testing.assert_allclose(found[0], alone, atol=1e-4)
    assert (found[1] > found[0]).all()
    assert untouched(smollm2.model, before)
