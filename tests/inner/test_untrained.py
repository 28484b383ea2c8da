"""An untrained model: of the same shape, drawn by the architecture's own rule, without touching anything else."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from innerloop.inner.untrained import untrained
from innerloop.testing import ARCHITECTURES, tiny
from innerloop.verbs.update import _without_training

pytestmark = pytest.mark.model


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_has_the_same_shape_and_other_weights(architecture):
    loaded = tiny(architecture, dtype="float64")
    fresh = untrained(loaded)
    old, new = dict(loaded.model.named_parameters()), dict(fresh.model.named_parameters())
    assert {name: weight.shape for name, weight in new.items()} == {n: w.shape for n, w in old.items()}
    assert {weight.dtype for weight in new.values()} == {torch.float64}
    assert not any(weight.requires_grad for weight in new.values())
    assert not fresh.model.training
    assert fresh.fingerprint != loaded.fingerprint
    assert fresh.name == f"{loaded.name}@untrained"
    assert (fresh.tokenizer, fresh.suffix, fresh.instruction) == (loaded.tokenizer, loaded.suffix, loaded.instruction)
    assert type(fresh.model) is type(loaded.model)
    with torch.inference_mode():
        logits = fresh.model(input_ids=torch.arange(10)[None]).logits
    assert logits.isfinite().all()


def test_weights_are_drawn_as_the_architecture_draws_them():
    loaded = tiny("llama", hidden_size=256, intermediate_size=512, num_attention_heads=8)
    weights = dict(untrained(loaded).model.named_parameters())
    # Llama: normal with standard deviation ``initializer_range``, norms at one
    assert float(weights["model.layers.0.mlp.up_proj.weight"].std()) == pytest.approx(0.02, rel=0.02)
    assert torch.equal(weights["model.norm.weight"], torch.ones(256))


def test_it_depends_on_its_seed_alone():
    loaded = tiny("qwen2")
    torch.manual_seed(1)
    first = untrained(loaded, seed=3)
    torch.manual_seed(2)
    again = untrained(loaded, seed=3)
    assert first.fingerprint == again.fingerprint
    assert untrained(loaded, seed=4).fingerprint != first.fingerprint


def test_the_global_generator_and_the_model_stay_as_they_were():
    loaded = tiny("llama")
    before, state = loaded.model.model.norm.weight.clone(), torch.get_rng_state()
    fresh = untrained(loaded)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(loaded.model.model.norm.weight, before)
    assert fresh.model.config is not loaded.model.config


def test_tied_weights_stay_tied():
    fresh = untrained(tiny("llama", tie_word_embeddings=True))
    assert fresh.model.lm_head.weight is fresh.model.model.embed_tokens.weight


def test_the_command_keeps_neither_model_alive():
    """It draws once for all groups of a worker, and lets go of both with the trained one."""
    loaded = tiny("llama")
    drawn = _without_training(loaded, 0)
    assert _without_training(loaded, 0) is drawn
    assert _without_training(loaded, 1) is not drawn
    models = [weakref.ref(loaded.model), weakref.ref(_without_training(loaded, 1).model)]
    del loaded, drawn
    gc.collect()
    assert [model() for model in models] == [None, None]
