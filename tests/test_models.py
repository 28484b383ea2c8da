"""What a loaded model says of itself and makes of texts; nothing here needs weights."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.errors import InputError
from innerloop.models import LoadedModel, load
from innerloop.prompts import INSTRUCTION
from innerloop.schema import Mode
from innerloop.speaker import SUFFIX
from innerloop.testing import byte_tokenizer

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))  # no half surrogates: they have no UTF-8
TURN = f"<bos><user>q\n\n{INSTRUCTION}<eos><assistant>"
NO_THINKING = "<think>\nTherefore, after all this, I believe the answer is"


def loaded(tokenizer, **fields):
    """A loaded model without a model, as far as texts and tokens go."""
    defaults = {
        "name": "test",
        "model": None,
        "suffix": SUFFIX,
        "instruction": INSTRUCTION,
        "think_start": "<think>",
        "think_end": "</think>",
        "fingerprint": "0",
        "max_context": None,
    }
    return LoadedModel(tokenizer=tokenizer, **(defaults | fields))


def space_adding_tokenizer():
    """As Llama 2's: every text begins with a space that its decoder takes away again."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a", "ab", "▁▁"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    merges = [("▁", "a"), ("a", "b"), ("▁", "▁")]
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


@pytest.fixture(scope="module")
def plain():
    return loaded(byte_tokenizer())


@pytest.fixture(scope="module")
def switched():
    return loaded(byte_tokenizer(thinking_switch=True), thinking_switch="enable_thinking")


@pytest.fixture(scope="module")
def spaced():
    return loaded(space_adding_tokenizer())


@pytest.mark.parametrize(
    ("mode", "ending"), [(Mode.PLAIN, ""), (Mode.THINKING, "<think>\n"), (Mode.NO_THINKING, NO_THINKING)]
)
def test_modes_without_switch(plain, mode, ending):
    assert plain.decode(plain.prompt("q", mode=mode)) == TURN + ending


@pytest.mark.parametrize(
    ("mode", "ending"),
    [(Mode.PLAIN, ""), (Mode.THINKING, "<think>\n"), (Mode.NO_THINKING, "<think>\n\n</think>\n\n")],
)
def test_modes_with_switch(switched, mode, ending):
    assert switched.decode(switched.prompt("q", mode=mode)) == TURN + ending


@pytest.mark.parametrize(
    ("mode", "ending"), [(Mode.PLAIN, "<think>\n"), (Mode.THINKING, "<think>\n"), (Mode.NO_THINKING, NO_THINKING)]
)
def test_template_that_always_opens_the_thinking_part(mode, ending):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template += "{{ '<think>\\n' }}"
    model = loaded(tokenizer)
    assert model.decode(model.prompt("q", mode=mode)) == TURN + ending


def test_opens_thinking_tells_where_a_completion_begins(plain, switched):
    assert [plain.opens_thinking(mode) for mode in Mode] == [False, True, False]
    assert [switched.opens_thinking(mode) for mode in Mode] == [False, True, False]


def test_mode_by_its_name(plain):
    assert plain.prompt("q", mode="thinking") == plain.prompt("q", mode=Mode.THINKING)
    with pytest.raises(ValueError, match="sideways"):
        plain.prompt("q", mode="sideways")


def test_prompt_has_one_bos(plain):
    bos = plain.tokenizer.bos_token_id
    assert plain.prompt("q").count(bos) == 1  # the template wrote it
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    base = loaded(tokenizer)
    ids = base.prompt("q", mode=Mode.THINKING)
    assert ids.count(bos) == 1  # the tokenizer wrote it
    assert base.decode(ids) == f"<bos>q\n\n{INSTRUCTION}\n<think>\n"


def test_prompt_of_a_tokenizer_that_ends_its_texts_is_left_open():
    from tokenizers import processors

    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    end = ("<eos>", tokenizer.eos_token_id)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[end])
    model = loaded(tokenizer)
    assert model.decode(model.prompt("q")) == f"q\n\n{INSTRUCTION}\n"


def test_instruction_and_delimiters_are_overridable():
    model = loaded(byte_tokenizer(), instruction="", think_start="[THINK]", think_end="[/THINK]")
    assert model.decode(model.prompt("q", mode=Mode.THINKING)) == "<bos><user>q<eos><assistant>[THINK]\n"
    assert model.split_thinking("[THINK]a[/THINK]b") == ("a", "b")


def test_broken_template_is_told_in_one_line():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('a system turn must come first') }}"
    with pytest.raises(InputError, match=r"chat template of test fails.*a system turn must come first") as caught:
        loaded(tokenizer).prompt("q")
    assert "\n" not in str(caught.value)


def test_suffix_is_tokenised_apart(plain):
    assert plain.decode(plain.suffix_ids) == "\n\n**Final Answer**\n\\boxed{"
    assert plain.tokenizer.bos_token_id not in plain.suffix_ids
    assert loaded(byte_tokenizer(), suffix="").suffix_ids == []


@pytest.mark.parametrize("answer", ["", " ", "\n\t"])
def test_empty_answer(plain, answer):
    with pytest.raises(InputError, match="answer is empty"):
        plain.answer_ids(answer)


def test_answer_without_tokens():
    from tokenizers import normalizers

    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("\u200b", "")
    with pytest.raises(InputError, match=re.escape(repr("\u200b")) + ".*no tokens.*test"):
        loaded(tokenizer).answer_ids("\u200b")


@given(TEXTS)
def test_texts_survive_tokenising(plain, text):
    assert plain.decode(plain.encode(text)) == text
    if text.strip():
        assert plain.answer_ids(text) == plain.encode(text)


@given(st.text(st.sampled_from(" ab\nλ.")))
def test_no_space_is_invented(spaced, text):
    """Tokens of a continuation decode to the continuation, behind any text and alone."""
    ids = spaced.encode(text)
    assert spaced.decode(ids) == text
    before = spaced.encode("b")
    assert spaced.decode(before + ids) == "b" + text


def test_space_adding_tokenizer_is_really_one(spaced):
    assert spaced.tokenizer.tokenize("a") == ["▁a"]
    assert spaced.tokenizer.convert_ids_to_tokens(spaced.answer_ids("ab")) == ["ab"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"dtype": "int4"}, "dtype 'int4' is not known; use auto, float32"), ({"threads": 0}, "threads is 0; it must be")],
)
def test_unusable_settings(setting, message):
    with pytest.raises(InputError, match=re.escape(message)):
        load("smollm2", **setting)
