import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.errors import InputError
from innerloop.inner.positions import positions, spans, token_texts
from innerloop.testing import byte_tokenizer

TOKENIZER = byte_tokenizer()


def decode(ids):
    return TOKENIZER.decode(ids)


def encode(text):
    return TOKENIZER.encode(text, add_special_tokens=False)


def test_every_token():
    assert positions("all", encode("abc"), decode) == (0, 1, 2, 3)


def test_every_kth_keeps_both_ends():
    assert positions(4, encode("abcdefghij"), decode) == (0, 4, 8, 10)
    assert positions(99, encode("abc"), decode) == (0, 3)


def test_sentence_ends():
    text = "One is 1.5 big. Two!\nThree (is it?) yes"
    found = positions("sentence", encode(text), decode)
    assert [text[:i] for i in found] == [
        "",
        "One is 1.5 big.",
        "One is 1.5 big. Two!",
        "One is 1.5 big. Two!\n",
        "One is 1.5 big. Two!\nThree (is it?)",
        text,
    ]


def test_chinese_sentence_ends_without_a_space():
    text = "一加一。得二！"
    found = positions("sentence", encode(text), decode)
    assert [decode(encode(text)[:i]) for i in found] == ["", "一加一。", "一加一。得二！"]


def test_chosen_positions_are_taken_as_they_are():
    assert positions((1, 3), encode("abcd"), decode) == (1, 3)


@pytest.mark.parametrize(
    ("every", "message"),
    [
        (0, "must be 1 or more"),
        ("word", "'all' or 'sentence'"),
        ((), "no positions"),
        ((0, 5), "position 5 lies outside 0…4"),
        ((-1, 2), "position -1 lies outside"),
        ((3, 1), "must rise"),
        ((1, 1), "must rise and differ"),
    ],
)
def test_bad_positions(every, message):
    with pytest.raises(InputError, match=message):
        positions(every, encode("abcd"), decode)


@given(st.text(max_size=60), st.integers(1, 7))
def test_texts_joined_give_the_trajectory_back(text, every):
    tokens = encode(text)
    pieces = token_texts(tokens, decode)
    assert len(pieces) == len(tokens)
    assert "".join(pieces) == decode(tokens)
    chosen = positions(every, tokens, decode)
    parts = spans(pieces, chosen)
    assert parts[0] is None
    assert "".join(part or "" for part in parts) == decode(tokens)


@given(st.lists(st.integers(0, 255), max_size=40))
def test_invalid_bytes_are_shown_and_lose_no_other_text(tokens):
    assert "".join(token_texts(tokens, decode)).replace("\ufffd", "") == decode(tokens).replace("\ufffd", "")


def test_a_character_in_several_tokens_belongs_to_its_last():
    assert token_texts(encode("a€b"), decode) == ["a", "", "", "€", "b"]


@pytest.mark.model
def test_pieces_of_a_real_tokenizer_join_to_the_text(data_dir, smollm2):
    import json

    with (data_dir / "gsm8k_test_long_cot.jsonl").open() as file:
        for _, line in zip(range(5), file, strict=False):
            text = json.loads(line)["text"] + " ½ naïve 数学 🙂🙂 end"
            tokens = smollm2.encode(text)
            assert "".join(token_texts(tokens, smollm2.decode)) == smollm2.decode(tokens)
