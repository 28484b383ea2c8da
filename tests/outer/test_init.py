from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from innerloop.errors import InputError
from innerloop.models import load
from innerloop.outer.init import SHAPES, fresh, save
from innerloop.speaker import SUFFIX, load_speaker, speak
from innerloop.tokenizers import PRINTABLE, character_tokenizer

SPEAKER = speak(character_tokenizer(whole=(SUFFIX,)), name="characters", instruction="")


@given(st.text(alphabet=PRINTABLE))
def test_printable_text_survives_the_character_tokenizer(text: str) -> None:
    ids = SPEAKER.encode(text)
    assert SPEAKER.decode(ids) == text
    if SUFFIX not in text and "think>" not in text and "<" not in text:
        assert len(ids) == len(text)


def test_other_characters_are_one_unknown_token_each() -> None:
    assert SPEAKER.decode(SPEAKER.encode("aéb")) == "a<unk>b"


def test_the_suffix_is_one_token_and_the_prompt_the_question_alone() -> None:
    assert len(SPEAKER.suffix_ids) == 1
    assert SPEAKER.prompt_text("1+1=?") == "<bos><user>1+1=?<eos><assistant>"


def test_an_alphabet_needs_a_character() -> None:
    with pytest.raises(InputError, match="alphabet is empty"):
        character_tokenizer("")


@pytest.mark.model
@pytest.mark.parametrize("words", ["characters", "bytes"])
def test_a_fresh_model_is_an_ordinary_folder(tmp_path: Path, words: str) -> None:
    model, tokenizer = fresh("tiny", words, seed=3)
    save(model, tokenizer, tmp_path / "m")
    loaded = load(str(tmp_path / "m"))
    assert loaded.instruction == "" == load_speaker(str(tmp_path / "m")).instruction
    assert loaded.max_context == SHAPES["tiny"].context
    assert load(str(tmp_path / "m"), instruction="Think.").instruction == "Think."
    assert loaded.decode(loaded.prompt("2+2=?")) == "<bos><user>2+2=?<eos><assistant>"
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(loaded.model.state_dict()[name], weight, rtol=0, atol=0)
    with pytest.raises(InputError, match="not empty"):
        save(model, tokenizer, tmp_path / "m")


@pytest.mark.model
def test_the_seed_decides_on_the_weights_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    one, two, other = (next(fresh("tiny", "characters", seed)[0].parameters()) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.model
def test_tiny_has_less_than_a_million_weights() -> None:
    assert sum(weight.numel() for weight in fresh("tiny", "characters", 0)[0].parameters()) < 1_000_000
