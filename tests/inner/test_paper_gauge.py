"""The paper's construction: exact where its own argument is (linear attention, a trajectory in the question's span)."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from innerloop.errors import InputError
from innerloop.inner.gauges.paper import attention_layers, change_of_basis, merged, paper
from innerloop.inner.reduced import logits, reduced
from innerloop.inner.task import Task
from innerloop.inner.watch import output, watching
from innerloop.testing import tiny

SEPARATE = ["llama", "qwen2", "qwen3", "mistral", "gemma3", "olmo2", "mixtral", "qwen2_moe", "qwen3_moe"]
OTHER = ["gpt2", "phi3", "gpt_neox", "jamba", "lfm2", "qwen3_next"]


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(inputs, outputs, seed):
    module = nn.Linear(inputs, outputs, bias=False, dtype=torch.float64)
    with torch.no_grad():
        module.weight.copy_(draw(outputs, inputs, seed=seed))
    return module.requires_grad_(False)


def dense(module, rows, wanted):
    """W' of a linear module as its output on given inputs, from the factors."""
    factors, _, _ = change_of_basis(module, rows, wanted)
    return module.weight + factors.up[0] @ factors.down[0].T


class Toy:
    """One layer of linear attention: question rows E, trajectory rows T (in E's span or not), one query row."""

    def __init__(self, *, span: bool, question: int = 5, size: int = 8):
        self.e = draw(question, size, seed=0)
        if span:
            self.t = draw(3, question, seed=1) @ self.e
        else:
            outside = torch.linalg.qr(self.e.T, mode="complete")[0][:, question:]
            self.t = draw(3, size - question, seed=1) @ outside.T
        self.k, self.v, self.q = (linear(size, 4, seed) for seed in (2, 3, 4))

    def added(self, reading):
        """K'ᵀV' − KᵀV: what the patched weights add to linear attention's fast weights."""
        wanted = merged(self.e, self.t, reading)
        keys, values = (self.e @ dense(w, self.e, wanted).T for w in (self.k, self.v))
        return keys.T @ values - self.k(self.e).T @ self.v(self.e)


def test_linear_attention_gets_its_known_update_exactly():
    toy = Toy(span=True)
    known = sum(torch.outer(k, v) for k, v in zip(toy.k(toy.t), toy.v(toy.t), strict=True))  # Σ k vᵀ over t
    assert torch.allclose(toy.added("root"), known, rtol=1e-10, atol=1e-10)


def test_folding_instead_of_the_root_takes_the_update_twice_and_more():
    toy = Toy(span=True)
    shares = toy.t @ torch.linalg.pinv(toy.e)
    inside = toy.e.T @ (2 * shares.T @ shares + torch.matrix_power(shares.T @ shares, 2)) @ toy.e  # (I + CᵀC)² − I
    assert torch.allclose(toy.added("fold"), toy.k.weight @ inside @ toy.v.weight.T, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("reading", ["root", "fold"])
def test_what_lies_outside_the_question_is_lost(reading):
    toy = Toy(span=False)
    assert toy.k(toy.t).norm() > 1, "the trajectory says something"
    assert toy.added(reading).abs().max() < 1e-10


def test_queries_change_basis_from_one_state_to_another_and_nothing_else():
    toy = Toy(span=True)
    before, after = draw(2, 8, seed=5), draw(2, 8, seed=6)
    changed = dense(toy.q, before, after)
    assert torch.allclose(before @ changed.T, toy.q(after), atol=1e-10)
    beside = torch.linalg.qr(before.T, mode="complete")[0][:, 2:].T  # orthogonal to what was changed
    assert torch.allclose(beside @ changed.T, toy.q(beside), atol=1e-10)


def test_an_empty_trajectory_changes_nothing():
    e = draw(4, 6, seed=0)
    assert torch.equal(merged(e, e[:0], "root"), e)


def task(*, prompt=40, length=20, seed=0):
    def some(count, start):
        generator = torch.Generator().manual_seed(100 * seed + start)
        return tuple(torch.randint(97, 123, (count,), generator=generator).tolist())

    return Task(
        prompt=some(prompt, 0),
        trajectory=some(length, 1),
        positions=(0, length),
        suffix=some(3, 2),
        answers=(some(3, 3),),
    )


@pytest.mark.model
@pytest.mark.parametrize("architecture", SEPARATE)
def test_errors_are_those_of_really_changed_weights(architecture):
    loaded, work = tiny(architecture, dtype="float64"), task()
    found = paper(loaded, work, 20)
    changed = copy.deepcopy(loaded.model)
    for site, factors in found.patch.items():
        changed.get_submodule(site).weight += factors.up[0] @ factors.down[0].T
    layers = attention_layers(loaded)
    run = reduced(loaded, work, [20], "kept")
    full_tokens = torch.tensor([work.context + work.branch(0)])
    attended = {}
    watches = [output(name) for name in layers]
    for name, model, tokens in (
        ("full", loaded.model, full_tokens),
        ("reduced", loaded.model, None),
        ("new", changed, None),
    ):
        with watching(model, watches) as seen:
            if tokens is not None:
                model(input_ids=tokens, use_cache=False)
            else:
                last = logits(replace(loaded, model=model), run)
        attended[name] = torch.stack([seen[w].view(-1, 64)[-run.branch :] for w in watches])
    expected = (attended["new"] - attended["full"]).norm(dim=(1, 2)) / (attended["reduced"] - attended["full"]).norm(
        dim=(1, 2)
    )
    assert found.walked_error == pytest.approx(expected.tolist(), rel=1e-5)
    assert found.layer_error[0] == pytest.approx(expected[0].item(), rel=1e-5), "nothing comes before the first layer"
    answers = last[0].log_softmax(-1).gather(-1, run.answer[:, None])[:, 0]
    assert torch.allclose(found.log_probs, answers, atol=1e-6)


@pytest.mark.model
@pytest.mark.parametrize("architecture", SEPARATE)
def test_the_family_holds_an_exact_member_that_the_construction_misses(architecture):
    loaded = tiny(architecture, dtype="float64")
    found = paper(loaded, task(), 20)
    assert max(found.layer_best) < 1e-4  # eager attention takes its softmax in float32
    assert min(found.layer_error) > 0.05
    assert found.residual > 1e-3


@pytest.mark.model
def test_the_control_does_nothing_where_only_the_trajectory_is_missing():
    found = paper(tiny("llama", dtype="float64"), task(), 20, reading="none")
    assert found.layer_error[0] == pytest.approx(1.0), "the branch's states are not yet changed in the first layer"
    assert max(abs(error - 1) for error in found.layer_error[1:]) > 0.01


@pytest.mark.model
def test_without_a_trajectory_there_is_no_update():
    loaded = tiny("llama", dtype="float64")
    found = paper(loaded, task(), 0)
    assert max(float(f.up.abs().max()) for f in found.patch.values()) < 1e-9
    assert found.residual < 1e-6
    assert all(math.isnan(e) or e < 1e3 for e in found.layer_error)


@pytest.mark.model
@pytest.mark.parametrize("architecture", OTHER)
def test_other_models_are_refused_in_one_line(architecture):
    with pytest.raises(InputError, match=r"looked for linear q_proj, k_proj, v_proj, o_proj") as refused:
        paper(tiny(architecture), task(), 5)
    assert "\n" not in str(refused.value)
