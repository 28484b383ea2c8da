"""The fakes that tests stand on: byte tokenizer, scripted engine, tiny models."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.errors import InputError
from innerloop.rollout.engine import Completion, Request, Sampling
from innerloop.schema import Status
from innerloop.testing import ARCHITECTURES, ScriptedEngine, byte_tokenizer, save_tiny, tiny
from innerloop.testing.tiny import WINDOW

TOKENIZER = byte_tokenizer()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_survives_the_byte_tokenizer(text):
    ids = TOKENIZER(text, add_special_tokens=False).input_ids
    assert TOKENIZER.decode(ids) == text
    if "<" not in text:
        assert len(ids) == len(text.encode())


def test_markers_are_one_token_each():
    assert len(TOKENIZER("<bos><think></think><eos>", add_special_tokens=False).input_ids) == 4
    assert TOKENIZER.decode(TOKENIZER("<think>a", add_special_tokens=False).input_ids, skip_special_tokens=True) == (
        "<think>a"
    )


def request(name="a", seed=3):
    return Request(id=name, prompt=(1, 2), seed=seed)


def test_scripted_texts_by_request():
    engine = ScriptedEngine({"a": "é", "b": "x"})
    done = list(engine.generate([request("b"), request("a")], Sampling()))
    assert [completion.text for completion in done] == ["x", "é"]
    assert done[1] == Completion(id="a", token_ids=(0xC3, 0xA9), text="é", status=Status.COMPLETE, seed=3)
    assert [asked.id for asked in engine.requests] == ["b", "a"]


def test_scripted_text_is_cut_at_the_limit():
    (done,) = ScriptedEngine({"a": "abcdef"}).generate([request()], Sampling(max_tokens=4))
    assert (done.text, done.status, done.reason) == ("abcd", Status.TRUNCATED, "max_tokens")
    (done,) = ScriptedEngine({"a": "abcd"}).generate([request()], Sampling(max_tokens=4))
    assert done.status is Status.COMPLETE


def test_script_as_a_function_and_as_completions():
    failed = Completion(id="a", token_ids=(), text="", status=Status.ERROR, reason="out of order")
    engine = ScriptedEngine(lambda asked: failed if asked.id == "a" else f"seed {asked.seed}", name="fake")
    done = list(engine.generate([request("a"), request("b", seed=9)], Sampling()))
    assert done[0] is failed
    assert done[1].text == "seed 9"
    assert engine.name == "fake"


def test_request_without_script_is_an_error_not_an_empty_text():
    (done,) = ScriptedEngine({}).generate([request("z")], Sampling())
    assert done.status is Status.ERROR
    assert "'z'" in done.reason


def test_unknown_architecture_names_the_known_ones():
    with pytest.raises(InputError, match=r"'lama'.*llama, qwen2"):
        tiny("lama")


@pytest.mark.model
def test_scripted_engine_with_a_models_tokenizer():
    loaded = tiny("llama")
    (done,) = ScriptedEngine({"a": "<think>é"}, loaded=loaded).generate([request()], Sampling())
    assert done.token_ids == (*loaded.encode("<think>é"), loaded.tokenizer.eos_token_id)
    assert done.text == "<think>é"
    (done,) = ScriptedEngine({"a": "<think>ab"}, loaded=loaded).generate([request()], Sampling(max_tokens=2))
    assert (done.text, done.status) == ("<think>a", Status.TRUNCATED)


def last_logits(loaded, ids, **options):
    import torch

    with torch.no_grad():
        return loaded.model(torch.tensor([ids]), **options).logits[0, -1]


@pytest.mark.model
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_tiny_model_is_the_same_every_time_and_leaves_the_global_seed_alone(architecture):
    import torch

    state = torch.get_rng_state()
    first = tiny(architecture)
    assert torch.get_rng_state().equal(state)
    torch.rand(5)
    assert tiny(architecture).fingerprint == first.fingerprint
    assert tiny(architecture, seed=1).fingerprint != first.fingerprint
    double = tiny(architecture, dtype="float64")
    off = last_logits(double, first.encode("what is 2 + 2?")) - last_logits(first, first.encode("what is 2 + 2?"))
    assert off.abs().max() < 1e-3


@pytest.mark.model
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_tiny_model_reads_its_context(architecture):
    """Each of the last 12 tokens moves the next token's logits, by far more than any tolerance of a test."""
    import torch

    loaded = tiny(architecture)
    ids = loaded.encode("so 2 apples and 3 pears")
    plain = last_logits(loaded, ids)
    assert 0.5 < torch.std(plain) < 5
    for back in range(1, 13):
        other = list(ids)
        other[-back] = 65
        assert (last_logits(loaded, other) - plain).abs().max() > 0.01, back


@pytest.mark.model
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_block_masks_hide_tokens_where_the_table_says_so(architecture):
    import torch

    loaded = tiny(architecture)
    ids = loaded.encode("2 apples, 3 pears")
    mask = torch.full((len(ids), len(ids)), float("-inf")).triu(1)
    mask[5:, 4] = float("-inf")  # nobody after it sees token 4
    options = {"attention_mask": mask[None, None], "position_ids": torch.arange(len(ids))[None]}
    other = [*ids[:4], 65, *ids[5:]]
    try:
        off = (last_logits(loaded, ids, **options) - last_logits(loaded, other, **options)).abs().max()
    except (ValueError, TypeError, RuntimeError, IndexError):
        off = torch.tensor(torch.inf)  # the model takes no such mask at all
    assert (off < 1e-5) == ARCHITECTURES[architecture].block_masks


@pytest.mark.model
@pytest.mark.parametrize("architecture", ["mistral", "gemma3"])
def test_sliding_window_is_shorter_than_what_tests_use(architecture):
    loaded = tiny(architecture, num_hidden_layers=1, layer_types=["sliding_attention"])
    ids = loaded.encode("x" * (WINDOW + 4))
    plain = last_logits(loaded, ids)
    outside, inside = [65, *ids[1:]], [*ids[:-WINDOW], 65, *ids[-WINDOW + 1 :]]
    assert last_logits(loaded, outside).equal(plain)
    assert not last_logits(loaded, inside).equal(plain)


@pytest.mark.model
@pytest.mark.parametrize("architecture", ["gemma3", "qwen3_moe", "jamba"])
def test_saved_tiny_model_loads(architecture, tmp_path):
    from innerloop.models import load

    loaded = load(str(save_tiny(architecture, tmp_path, seed=2, thinking_switch=True)))
    assert loaded.fingerprint == tiny(architecture, seed=2).fingerprint
    assert loaded.has_thinking_switch


@pytest.mark.model
def test_configuration_is_overridable():
    loaded = tiny("qwen3", num_hidden_layers=1, max_position_embeddings=50)
    assert len(loaded.model.model.layers) == 1
    assert loaded.max_context == 50


def test_table_has_every_supported_architecture():
    attention_only = {name for name, architecture in ARCHITECTURES.items() if architecture.block_masks}
    families = {"llama", "qwen2", "qwen3", "mistral", "gemma3", "olmo2", "phi3", "gpt2", "gpt_neox", "mixtral"}
    assert attention_only == families | {"qwen2_moe", "qwen3_moe"}
    assert set(ARCHITECTURES) - attention_only == {"mamba", "falcon_h1", "jamba", "lfm2", "qwen3_next"}
