"""The update against the gradient: finite differences, dense gradients of the weights, naive layer-causal ones."""

from __future__ import annotations

import gc
import weakref
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers.pytorch_utils import Conv1D

from innerloop.errors import InputError
from innerloop.inner.alignment import _Sites, align
from innerloop.inner.patch import low_rank, patched, scaled, select
from innerloop.inner.reduced import logits
from innerloop.inner.task import answer_losses
from innerloop.inner.update import update
from innerloop.inner.watch import first, layer_input, layer_output, output, watching
from innerloop.testing import ARCHITECTURES, tiny

pytestmark = pytest.mark.model

POSITIONS = (0, 4, 11, 20)
MLP = ("llama", "qwen3", "gpt2", "gpt_neox")
FINAL_NORMS = {
    "llama": "model.norm",
    "gemma3": "model.norm",
    "qwen2_moe": "model.norm",
    "gpt2": "transformer.ln_f",
    "gpt_neox": "gpt_neox.final_layer_norm",
    "mamba": "backbone.norm_f",
    "lfm2": "model.embedding_norm",
}


def made(architecture, make_item, *, dtype="float64", **options):
    """A tiny model and the update of one trajectory at ``POSITIONS``."""
    loaded = tiny(architecture, dtype=dtype)
    [updated] = update(loaded, [make_item(0, length=20)], positions=[POSITIONS], **options)
    return loaded, updated


def losses(loaded, updated, patch):
    """The answer loss of the reduced run at every position, with a patch."""
    run = updated.reduced_run(loaded, range(len(POSITIONS)))
    with torch.inference_mode(), patched(loaded.model, patch, updated.rows):
        return answer_losses(logits(loaded, run), run.answer)


def dense_change(updated, site, row):
    factors = updated.patch[site]
    return factors.up[row] @ factors.down[row].T


@contextmanager
def dense_weights(loaded, updated, *, at=None):
    """A dense change of every site's weight (out × in) with a gradient: zero, or the patch of entry ``at``."""
    changes, handles = {}, []
    for site in (site for layer in updated.layers for site in layer):
        shape = dense_change(updated, site, 0).shape
        start = torch.zeros(shape, dtype=torch.float64) if at is None else dense_change(updated, site, at)
        changes[site] = start.clone().requires_grad_()

        def hook(_module, args, kwargs, out, change=changes[site]):
            moved = (first(args, kwargs) @ change.T).view_as(out)
            if updated.rows is None:
                return out + moved
            keep = torch.zeros(out.shape[1], 1, dtype=out.dtype)
            keep[updated.rows] = 1.0
            return out + keep * moved

        handles.append(loaded.model.get_submodule(site).register_forward_hook(hook, with_kwargs=True))
    try:
        yield changes
    finally:
        for handle in handles:
            handle.remove()


def dense_gradients(loaded, updated, row, *, at=None):
    """∇L_q at one position as dense matrices by site, by autograd on the weights' own changes."""
    with dense_weights(loaded, updated, at=at) as changes:
        run = updated.reduced_run(loaded, [row])
        loss = answer_losses(logits(loaded, run), run.answer).sum()
        return dict(zip(changes, torch.autograd.grad(loss, list(changes.values())), strict=True))


CASES = [
    *(("attention", name, "weights", "kept") for name in ARCHITECTURES),
    *(("mlp", name, "weights", "kept") for name in MLP),
    ("attention", "llama", "answer", "kept"),
    ("attention", "gemma3", "weights", "contiguous"),
    ("attention", "qwen2_moe", "answer", "contiguous"),
    ("mlp", "gpt2", "answer", "kept"),
    ("mlp", "llama", "answer", "contiguous"),
    ("paper", "qwen2", "weights", "kept"),
]


@pytest.mark.parametrize(("gauge", "architecture", "scope", "placement"), CASES)
def test_everything_equals_what_dense_gradients_say(gauge, architecture, scope, placement, make_item):
    loaded, updated = made(architecture, make_item, gauge=gauge, scope=scope, placement=placement)
    found = align(loaded, updated)
    assert np.abs(found.predicted[1:]).max() > 1e-3, "the gradient must say something, or the comparison shows nothing"
    for row in range(1, len(POSITIONS)):
        gradients = dense_gradients(loaded, updated, row)
        change = {site: dense_change(updated, site, row) for site in gradients}
        inner = [sum(float((change[s] * gradients[s]).sum()) for s in layer) for layer in updated.layers]
        sizes = [
            [sum(float(each[s].square().sum()) for s in layer) for layer in updated.layers]
            for each in (change, gradients)
        ]
        spread = sum(_null_variance(change[s], gradients[s], updated.patch[s].down[row]) for s in gradients)
        # Norms inside the models work in float32 even there
        assert found.predicted[row] == pytest.approx(sum(inner), rel=1e-5, abs=1e-6)
        assert found.layer_predicted[row] == pytest.approx(inner, rel=1e-4, abs=1e-6)
        assert found.gradient_norm[row] == pytest.approx(sum(sizes[1]) ** 0.5, rel=1e-5)
        assert found.cosine[row] == pytest.approx(-sum(inner) / (sum(sizes[0]) * sum(sizes[1])) ** 0.5, rel=1e-4)
        each = [-i / (c * g) ** 0.5 for i, c, g in zip(inner, *sizes, strict=True)]
        assert found.layer_cosine[row] == pytest.approx(each, rel=1e-3, abs=1e-7)
        assert found.null_sd[row] == pytest.approx(spread**0.5, rel=1e-5)
        assert (found.layer_null_sd[row] ** 2).sum() == pytest.approx(spread, rel=1e-5)
        before = dense_gradients(loaded, updated, row - 1, at=row - 1)
        step = sum(float(((change[s] - dense_change(updated, s, row - 1)) * before[s]).sum()) for s in before)
        assert found.step_predicted[row] == pytest.approx(step, rel=1e-4, abs=1e-6)


def _null_variance(change, gradient, down):
    within = gradient @ torch.linalg.qr(down).Q
    return float(change.square().sum() * within.square().sum()) / within.numel()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_prediction_is_the_slope_of_the_true_loss(architecture, make_item):
    loaded, updated = made(architecture, make_item)
    found = align(loaded, updated, stepwise=False, causal=False)
    scale = 1e-4  # larger ones change the routing of experts; smaller ones drown where norms work in float32
    up, down = (losses(loaded, updated, scaled(updated.patch, s)) for s in (scale, -scale))
    slope = ((up - down) / (2 * scale)).numpy()
    assert found.predicted == pytest.approx(slope, rel=5e-3, abs=1.5e-2)


@pytest.mark.parametrize("gauge", ["attention", "mlp"])
@pytest.mark.parametrize("scope", ["weights", "answer"])
def test_the_error_of_the_prediction_is_of_second_order(gauge, scope, make_item):
    # GPT-2: its norms work in float64, those of most others in float32
    loaded, updated = made("gpt2", make_item, gauge=gauge, scope=scope)
    found = align(loaded, updated, stepwise=False, causal=False)
    start = losses(loaded, updated, scaled(updated.patch, 0.0)).numpy()
    scales = 2.0 ** -np.arange(7, 12)
    errors = [
        np.abs(losses(loaded, updated, scaled(updated.patch, s)).numpy() - start - s * found.predicted)[1:]
        for s in scales
    ]
    orders = np.polyfit(np.log(scales), np.log(np.array(errors)), 1)[0]
    assert orders == pytest.approx(np.full(len(POSITIONS) - 1, 2.0), abs=0.2)


def test_a_step_is_the_slope_between_two_weights(make_item):
    loaded, updated = made("gpt2", make_item)
    found = align(loaded, updated, causal=False)
    run = updated.reduced_run(loaded, [1])
    scale = 2e-4

    def moved(share):
        """The loss at position 1 with weights a share of the way from θ'₁ to θ'₂."""
        here, after = (scaled(select(updated.patch, [row]), s) for row, s in ((1, 1 - share), (2, share)))
        with torch.inference_mode(), patched(loaded.model, here), patched(loaded.model, after):
            return float(answer_losses(logits(loaded, run), run.answer))

    assert found.step_predicted[2] == pytest.approx((moved(scale) - moved(-scale)) / (2 * scale), rel=1e-4)


def naive_layer_causal(loaded, updated, row):
    """Per site the dense gradient of its own layer's loss: every block's input is cut off from the graph."""
    model = loaded.model
    norm = model.get_submodule(FINAL_NORMS[loaded.name.removeprefix("tiny-")])
    head = model.get_output_embeddings()
    blocks = next(part for part in model.modules() if isinstance(part, torch.nn.ModuleList))
    loss, handles = [], []
    run = updated.reduced_run(loaded, [row])

    def cut(_module, args, kwargs):
        if args:
            return (args[0].detach(), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": kwargs["hidden_states"].detach()}

    def take(_module, _args, out):
        state = out[0] if isinstance(out, tuple) else out
        loss.append(answer_losses(head(norm(state[:, -len(run.answer) :])), run.answer).sum())

    for block in blocks:
        handles.append(block.register_forward_pre_hook(cut, with_kwargs=True))
        handles.append(block.register_forward_hook(take))
    try:
        with dense_weights(loaded, updated) as changes:
            logits(loaded, run)
            return dict(zip(changes, torch.autograd.grad(sum(loss), list(changes.values())), strict=True))
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize(
    ("architecture", "gauge", "scope"),
    [
        *((name, "attention", "weights") for name in ("llama", "gpt2", "gpt_neox", "qwen2_moe", "gemma3", "mamba")),
        ("lfm2", "attention", "answer"),
        ("llama", "mlp", "weights"),
        ("gpt2", "mlp", "answer"),
    ],
)
def test_layer_causal_is_each_layers_own_loss(architecture, gauge, scope, make_item):
    loaded, updated = made(architecture, make_item, gauge=gauge, scope=scope)
    found = align(loaded, updated, stepwise=False)
    for row in range(1, len(POSITIONS)):
        gradients = naive_layer_causal(loaded, updated, row)
        change = {site: dense_change(updated, site, row) for site in gradients}
        inner = sum(float((change[s] * gradients[s]).sum()) for s in gradients)
        size = [sum(float(each[s].square().sum()) for s in gradients) for each in (change, gradients)]
        spread = sum(_null_variance(change[s], gradients[s], updated.patch[s].down[row]) for s in gradients)
        assert found.causal_predicted[row] == pytest.approx(inner, rel=1e-4, abs=1e-6)
        assert found.causal_cosine[row] == pytest.approx(-inner / (size[0] * size[1]) ** 0.5, rel=1e-4, abs=1e-8)
        assert found.causal_null_sd[row] == pytest.approx(spread**0.5, rel=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_in_the_last_layer_both_gradients_are_one(architecture, make_item):
    loaded = tiny(architecture, dtype="float64")
    [updated] = update(loaded, [make_item(0, length=20)], positions=[POSITIONS])
    last = {site: factors for site, factors in updated.patch.items() if site in updated.layers[-1]}
    for site in updated.patch.keys() - last.keys():  # a patch in the last layer only
        last[site] = updated.patch[site].times(0.0)
    found = align(loaded, replace(updated, patch=last), stepwise=False)
    assert found.causal_predicted == pytest.approx(found.predicted, rel=1e-5, abs=1e-9)
    assert found.causal_null_sd == pytest.approx(found.null_sd, rel=1e-5, abs=1e-9)


def test_no_weight_asks_for_a_gradient_and_nothing_stays_behind(make_item):
    loaded, updated = made("llama", make_item)
    before = {name: weight.clone() for name, weight in loaded.model.named_parameters()}
    with torch.inference_mode():  # wherever it is called from
        align(loaded, updated)
    for name, weight in loaded.model.named_parameters():
        assert not weight.requires_grad
        assert weight.grad is None
        assert torch.equal(weight, before[name])
    assert not any(module._forward_hooks for module in loaded.model.modules())


def test_the_graph_is_let_go_at_once(make_item, monkeypatch):
    loaded, updated = made("llama", make_item)
    kept = []
    record = _Sites.record

    def note(self, site, x, out):
        found = record(self, site, x, out)
        kept.append(weakref.ref(found))
        return found

    monkeypatch.setattr(_Sites, "record", note)
    gc.disable()
    try:
        align(loaded, updated)
        assert kept
        assert not any(reference() is not None for reference in kept)
    finally:
        gc.enable()


@pytest.mark.parametrize("placement", ["kept", "contiguous"])
def test_positions_may_run_apart_or_together(placement, make_item):
    loaded, updated = made("qwen3", make_item, placement=placement)
    together, apart = align(loaded, updated), align(loaded, updated, tokens=1)
    for name, values in vars(together).items():
        assert getattr(apart, name) == pytest.approx(values, rel=1e-5, abs=1e-7, nan_ok=True), name


def test_before_the_first_token_there_is_no_direction_and_no_step(make_item):
    loaded, updated = made("llama", make_item)
    found = align(loaded, updated)
    first_row, second = found.fields(0), found.fields(1)
    assert first_row["predicted"] == pytest.approx(0.0, abs=1e-9)
    assert first_row["cosine"] is first_row["layer_cosine"] is first_row["causal_cosine"] is None
    assert first_row["step_predicted"] is first_row["step_null_sd"] is None
    assert all(value is not None for value in second.values())
    assert len(second["layer_predicted"]) == len(updated.layers)
    records = updated.records()
    assert set(second) <= set(vars(records[1]))


def test_from_no_update_the_first_step_is_the_whole_update(make_item):
    loaded = tiny("llama", dtype="float64")
    # Contiguous: all positions have the same reduced run, so both gradients are the same one at θ
    [updated] = update(loaded, [make_item(0, length=20)], positions=[(0, 4)], placement="contiguous")
    found = align(loaded, updated)
    assert found.step_predicted[1] == pytest.approx(found.predicted[1], rel=1e-4)


def test_only_what_was_asked_for(make_item):
    loaded, updated = made("llama", make_item)
    found = align(loaded, updated, stepwise=False, causal=False)
    absent = ("step_predicted", "step_null_sd", "causal_predicted", "causal_null_sd", "causal_cosine")
    assert [getattr(found, name) for name in absent] == [None] * 5
    assert found.fields(1)["causal_cosine"] is None


def test_one_position_has_no_step(make_item):
    loaded = tiny("llama")
    [updated] = update(loaded, [make_item(0, length=20)])
    found = align(loaded, updated)
    assert found.predicted.shape == (1,)
    assert np.isnan(found.step_predicted).all()


def test_float32_is_near_float64(make_item):
    wide, narrow = (align(*made("llama", make_item, dtype=dtype)) for dtype in ("float64", "float32"))
    assert narrow.predicted == pytest.approx(wide.predicted, rel=1e-3, abs=1e-4)
    assert narrow.step_predicted[1:] == pytest.approx(wide.step_predicted[1:], rel=1e-3, abs=1e-4)


def test_a_model_without_a_known_final_norm_is_refused(make_item):
    loaded, updated = made("llama", make_item)
    loaded.model.model.another_norm = torch.nn.Identity()
    with pytest.raises(InputError, match="no final norm and head found"):
        align(loaded, updated)
    assert align(loaded, updated, causal=False).causal_predicted is None


def test_a_readout_that_is_not_the_models_own_is_refused(make_item):
    loaded, updated = made("llama", make_item)
    with torch.no_grad():  # what stands between the last block and the head, beside the norm
        loaded.model.model.register_forward_hook(
            lambda _module, _args, out: type(out)(last_hidden_state=out.last_hidden_state * 1.1)
        )
    with pytest.raises(InputError, match="off the model's own"):
        align(loaded, updated)


def test_a_soft_cap_on_the_logits_belongs_to_the_readout(make_item):
    loaded = tiny("gemma3", dtype="float64", final_logit_softcapping=2.0)
    [updated] = update(loaded, [make_item(0, length=20)], positions=[POSITIONS])
    watches = [layer_input("model.layers.0"), layer_output("model.layers.3"), output("lm_head")]
    with watching(loaded.model, watches) as seen, torch.inference_mode():
        found = logits(loaded, updated.reduced_run(loaded, [1]))
    assert not torch.allclose(seen[output("lm_head")], found), "the cap must do something"
    assert np.isfinite(align(loaded, updated).causal_predicted).all()


def test_low_rank_is_dense(make_item):
    # The patch's own hooks and the dense changes of these tests are the same function
    loaded, updated = made("gpt2", make_item)
    site = updated.layers[0][0]
    assert isinstance(loaded.model.get_submodule(site), Conv1D)
    x = torch.randn(len(POSITIONS), 3, updated.patch[site].down.shape[1], dtype=torch.float64)
    dense = torch.stack([x[b] @ dense_change(updated, site, b).T for b in range(len(POSITIONS))])
    torch.testing.assert_close(low_rank(x, updated.patch[site]), dense)
