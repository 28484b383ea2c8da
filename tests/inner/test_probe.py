"""The fast methods against the plain definition, for every architecture."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from innerloop.errors import InputError
from innerloop.inner import attention, shared
from innerloop.inner.beliefs import beliefs
from innerloop.inner.probe import SUPPORTED, position_count, probe
from innerloop.inner.shared import Budget
from innerloop.testing import ARCHITECTURES, tiny

pytestmark = pytest.mark.model

BLOCK_MASKS = [name for name, recipe in ARCHITECTURES.items() if recipe.block_masks]
STATEFUL = [name for name, recipe in ARCHITECTURES.items() if not recipe.block_masks]


def losses(loaded, items, **options):
    return [np.array([c.loss, *zip(*c.candidate_losses, strict=True)]) for c in probe(loaded, items, **options)]


def apart(a, b):
    return max(np.abs(x - y).max() for x, y in zip(a, b, strict=True))


def test_every_supported_architecture_has_a_tiny_model():
    assert {ARCHITECTURES[name].model_type for name in BLOCK_MASKS} == SUPPORTED


@pytest.mark.parametrize("architecture", BLOCK_MASKS)
def test_shared_equals_plain(architecture, make_item, caplog):
    loaded = tiny(architecture)
    items = [
        make_item(0, length=40),
        replace(make_item(1, prompt=5, length=70, answer="1234567"), candidates=("8", "nine")),
        make_item(2, length=0),
    ]
    plain = losses(loaded, items, method="plain")
    assert np.ptp(plain[0]) > 0.05, "the context must matter, or the comparison shows nothing"
    assert apart(losses(loaded, items), plain) < 1e-4
    assert not caplog.records, "a supported architecture needs no fallback"


@pytest.mark.parametrize("architecture", BLOCK_MASKS)
def test_shared_equals_plain_to_round_off_in_float64(architecture, make_item):
    loaded = tiny(architecture, dtype="float64")
    items = [make_item(0, length=50)]
    assert apart(losses(loaded, items), losses(loaded, items, method="plain")) < 1e-6  # losses are kept in float32


@pytest.mark.parametrize("architecture", BLOCK_MASKS)
def test_cached_equals_plain(architecture, make_item):
    loaded = tiny(architecture)
    items = [replace(make_item(0, length=40), candidates=("123",))]
    assert apart(losses(loaded, items, method="cached"), losses(loaded, items, method="plain")) < 1e-4


@pytest.mark.parametrize("architecture", STATEFUL)
def test_a_state_cannot_be_shared_so_the_probe_falls_back_and_says_so(architecture, make_item, caplog):
    loaded = tiny(architecture)
    items = [make_item(0, length=20)]
    with caplog.at_level(logging.WARNING, logger="innerloop"):
        found = losses(loaded, items)
    assert apart(found, losses(loaded, items, method="plain")) < 1e-4
    assert "cannot be shared" in caplog.text


def test_an_unknown_architecture_is_compared_first(make_item, monkeypatch, caplog):
    monkeypatch.setattr("innerloop.inner.probe.SUPPORTED", frozenset())
    loaded = tiny("llama")
    items = [make_item(0)]
    plain = losses(loaded, items, method="plain")
    assert apart(losses(loaded, items), plain) < 1e-4
    assert not caplog.records

    wrong = tiny("llama", seed=1)
    monkeypatch.setattr(attention, "_with_lse", lambda q, k, v, scale: (q * 0, q[..., 0]))
    assert apart(losses(wrong, items), losses(wrong, items, method="plain")) < 1e-4
    assert "nats off" in caplog.text


def test_soft_caps_are_noticed(make_item, caplog):
    from transformers import AutoModelForCausalLM, Gemma2Config

    from innerloop.models import wrap
    from innerloop.testing import byte_tokenizer

    options = ARCHITECTURES["gemma3"].options
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    config = Gemma2Config(**{n: options[n] for n in names}, num_key_value_heads=2, head_dim=16, sliding_window=16)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
    loaded = wrap(model.eval(), byte_tokenizer(), name="tiny-gemma2")
    items = [make_item(0)]
    assert apart(losses(loaded, items), losses(loaded, items, method="plain")) < 1e-4
    assert "UnsupportedAttentionError" in caplog.text


@pytest.mark.parametrize("window", [1, 5, 16, 29, 64])
@pytest.mark.parametrize("architecture", ["mistral", "gemma3"])
def test_windows_of_any_width(architecture, window, make_item):
    loaded = tiny(architecture, sliding_window=window)
    items = [make_item(0, length=60, answer="123456789")]
    assert apart(losses(loaded, items), losses(loaded, items, method="plain")) < 1e-4


def test_rotary_embeddings_that_change_with_the_length_are_run_afresh(make_item, caplog):
    scaling = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
    loaded = tiny("llama", max_position_embeddings=48, rope_parameters=scaling)
    loaded = replace(loaded, max_context=None)
    items = [make_item(0, length=60)]
    assert apart(losses(loaded, items), losses(loaded, items, method="plain")) < 1e-4
    assert "rotary embedding changes at 48 tokens" in caplog.text


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3", "mamba"])
@pytest.mark.parametrize("method", ["shared", "cached"])
def test_without_a_suffix_the_losses_are_those_of_the_definition(architecture, method, make_item, caplog):
    """The first answer token is then predicted by the trajectory's last one, which no branch holds."""
    loaded = replace(tiny(architecture), suffix="")
    items = [make_item(0, length=9), make_item(1, length=4, answer="Final Answer 7")]
    with caplog.at_level(logging.WARNING, logger="innerloop"):
        found = losses(loaded, items, method=method)
    assert "without a suffix" in caplog.text
    assert apart(found, losses(loaded, items, method="plain")) < 1e-5


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_the_whole_answer_sequence_may_be_scored(architecture, make_item):
    """RaML alg. 3 as its text has it: the suffix, the answer and the closing brace are a, each token counts."""
    loaded = tiny(architecture)
    item = replace(make_item(0, length=6), whole=True)
    [curve] = probe(loaded, [item])
    said = [*loaded.suffix_ids, *loaded.answer_ids("42"), *loaded.encode("}")]
    assert curve.answer_tokens == len(said)
    for position, loss in zip(curve.position, curve.loss, strict=True):
        context = [*item.prompt, *item.trajectory[:position]]
        with torch.no_grad():
            logits = loaded.model(torch.tensor([[*context, *said]])).logits[0, len(context) - 1 : -1]
        expected = -torch.log_softmax(logits, dim=-1)[torch.arange(len(said)), said].mean()
        assert loss == pytest.approx(expected.item(), abs=1e-4)


def test_the_plain_method_is_the_definition(make_item):
    """One position, written out: −(1/|a|) Σ log p(aʲ | q, t≤ᵢ, s, a<ʲ)."""
    loaded = tiny("llama")
    item = make_item(0, answer="17")
    [curve] = probe(loaded, [item], every=(7,), method="plain")
    context = [*item.prompt, *item.trajectory[:7], *loaded.suffix_ids]
    total = 0.0
    for token in loaded.answer_ids("17"):
        logits = loaded.model(torch.tensor([context])).logits[0, -1]
        total -= float(torch.log_softmax(logits, -1)[token])
        context.append(token)
    assert curve.loss[0] == pytest.approx(total / 2, abs=1e-5)
    assert curve.answer_tokens == 2


class TestPacking:
    """How tokens are packed changes nothing."""

    @settings(max_examples=25, deadline=None)
    @given(
        lengths=st.lists(st.integers(0, 30), min_size=1, max_size=4),
        prefix=st.integers(1, 120),
        row=st.integers(1, 400),
        every=st.sampled_from(["all", 1, 3, 50]),
    )
    def test_any_budget(self, make_item, lengths, prefix, row, every):
        loaded = tiny("mistral")
        items = [make_item(i, length=n, answer="5" * (1 + i)) for i, n in enumerate(lengths)]
        plain = losses(loaded, items, every=every, method="plain")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("innerloop.inner.probe.budget_for", lambda *_: Budget(prefix=prefix, row=row))
            assert apart(losses(loaded, items, every=every), plain) < 1e-4

    def test_rows_never_exceed_the_budget_but_for_one_branch(self, make_item):
        loaded = tiny("llama")
        fed = []
        handle = loaded.model.model.embed_tokens.register_forward_hook(lambda m, a, o: fed.append(o.shape[1]))
        list(probe(loaded, [make_item(0, length=100)], memory=None, compare=False))
        handle.remove()
        assert max(fed[1:]) <= shared._CPU_ROW
        assert sum(fed) == 12 + 100 + 101 * (len(loaded.suffix_ids) + 2 - 1), "no token is computed twice or padded"

    def test_less_memory_means_smaller_rows_and_the_same_numbers(self, make_item):
        loaded = tiny("llama")
        item = make_item(0, length=100)
        plenty = losses(loaded, [item])
        fed = []
        handle = loaded.model.model.embed_tokens.register_forward_hook(lambda m, a, o: fed.append(o.shape[1]))
        little = losses(loaded, [item], memory=700_000)
        handle.remove()
        assert max(fed[1:]) < 200
        assert apart(plenty, little) < 1e-5

    def test_too_little_memory_is_said(self, make_item):
        with pytest.raises(InputError, match="raise the memory setting"):
            list(probe(tiny("llama"), [make_item(0)], memory=10_000))


def test_the_core_without_the_fused_kernel(make_item, monkeypatch):
    """The formula used where torch's CPU kernel does not apply, forced on the CPU."""
    loaded = tiny("qwen2")
    items = [make_item(0, length=40)]
    fused = losses(loaded, items)
    monkeypatch.setattr(attention, "_fused", lambda query, value: False)
    assert apart(fused, losses(loaded, items)) < 1e-5


def test_the_models_own_attention_comes_back(make_item):
    loaded = tiny("llama")
    before = loaded.model.config._attn_implementation
    next(iter(probe(loaded, [make_item(0), make_item(1)])))
    assert loaded.model.config._attn_implementation == before
    with pytest.raises(RuntimeError, match="interrupted"):
        list(probe(loaded, [make_item(0)], on_progress=_interrupt))
    assert loaded.model.config._attn_implementation == before


def _interrupt(_):
    raise RuntimeError("interrupted")


def test_half_precision_is_near(make_item):
    items = [make_item(0)]
    exact = losses(tiny("llama"), items)
    half = losses(tiny("llama", dtype="bfloat16"), items)
    assert 0 < apart(half, exact) < 0.5


def test_progress_counts_every_position_once(make_item):
    loaded = tiny("llama")
    items = [replace(make_item(0), candidates=("1", "2")), make_item(1, length=7)]
    for method in ("shared", "cached", "plain"):
        seen = []
        list(probe(loaded, items, every=3, method=method, on_progress=seen.append))
        assert sum(seen) == sum(position_count(loaded, item, 3) for item in items)


class TestBeliefs:
    def test_the_reference_among_the_candidates_gets_the_same_loss(self, make_item):
        item = replace(make_item(0, answer="17"), candidates=("17", "8"))
        [curve] = probe(tiny("llama"), [item])
        np.testing.assert_allclose([row[0] for row in curve.candidate_losses], curve.loss, atol=1e-5)

    def test_bayes_over_two_candidates(self, make_item):
        item = replace(make_item(0), candidates=("17", "8"))
        [curve] = probe(tiny("llama"), [item])
        assert curve.candidate_tokens == (2, 1)
        long, short = np.array(curve.candidate_losses).T
        expected = np.exp(-2 * long) / (np.exp(-2 * long) + np.exp(-short))
        np.testing.assert_allclose(beliefs(curve)[:, 0], expected, rtol=1e-6)
        np.testing.assert_allclose(beliefs(curve).sum(axis=1), 1)
        by_token = np.exp(-long) / (np.exp(-long) + np.exp(-short))
        np.testing.assert_allclose(beliefs(curve, per_token=True)[:, 0], by_token, rtol=1e-6)

    def test_without_candidates(self, make_item):
        [curve] = probe(tiny("llama"), [make_item(0, length=3)])
        with pytest.raises(InputError, match="no candidates"):
            beliefs(curve)


class TestBadInput:
    def test_an_answer_without_tokens(self, make_item):
        with pytest.raises(InputError, match="answer"):
            list(probe(tiny("llama"), [make_item(0, answer="")]))

    def test_a_context_longer_than_the_model_allows(self, make_item):
        loaded = tiny("gpt2", n_positions=64)
        with pytest.raises(InputError, match=r"q0/file-0: .* take \d+ tokens, but tiny-gpt2 holds 64"):
            list(probe(loaded, [make_item(0, length=60)]))

    def test_an_empty_prompt(self, make_item):
        with pytest.raises(InputError, match="the prompt has no tokens"):
            list(probe(tiny("llama"), [make_item(0, prompt=0)]))

    def test_an_unknown_method(self, make_item):
        with pytest.raises(InputError, match="must be shared, cached or plain"):
            list(probe(tiny("llama"), [make_item(0)], method="fast"))

    def test_no_items(self):
        assert list(probe(tiny("llama"), [])) == []
