"""Runs of words that training texts share with questions: found where they were planted, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innerloop.evaluate.contamination import FEWEST, Index, ngram_for, words

QUESTION = " ".join(f"q{i}" for i in range(30))
OTHER = " ".join(f"x{i}" for i in range(40))


def index(question: str = QUESTION, ngram: int | None = 13) -> Index:
    return Index({"q": question}, ngram=ngram)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("The Cat SAT.", "the cat sat"),
        ("the   cat\n\tsat", "the cat sat"),
        ("a, b; c: d?", "a b c d"),
        ("$x\\,+\\;y$", "x y"),
        ("\\( x \\quad y \\)", "x y"),
        ("x~y\\ z", "x y z"),
        ("\\frac{1}{2}", "frac 1 2"),
        ("ﬁnal ２", "final 2"),
        ("snake_case", "snake case"),
        ("求所有的n。", "求 所 有 的 n"),
    ],
)
def test_what_a_word_is(text: str, same: str) -> None:
    assert words(text) == same.split()


@pytest.mark.parametrize(
    ("lengths", "n"), [([50] * 100, 13), ([9] * 100, 9), ([5] * 100, 8), ([7] * 4 + [40] * 96, 13), ([], 13)]
)
def test_n_is_chosen_as_for_gpt_3(lengths: list[int], n: int) -> None:
    assert ngram_for(lengths) == n


@settings(deadline=None)
@given(st.integers(0, 20), st.integers(1, 30), st.integers(0, 30), st.sampled_from([str, str.upper, str.title]))
def test_a_planted_run_is_found_exactly_there(
    start: int, length: int, before: int, dress: Callable[[str], str]
) -> None:
    planted = words(QUESTION)[start : start + length]
    text = ", ".join(words(OTHER)[:before] + planted + words(OTHER))
    found = index()
    found.meet(dress(text), "here")
    overlap = found.overlaps["q"]
    if len(planted) < 13:
        assert (overlap.contaminated, overlap.longest, overlap.where) == (False, 0, None)
    else:
        assert (overlap.contaminated, overlap.longest, overlap.start) == (True, len(planted), start)
        assert (overlap.where, overlap.text) == ("here", " ".join(planted))
        assert overlap.share == pytest.approx(len(planted) / 30)
        assert overlap.whole is (len(planted) == 30)


@settings(deadline=None)
@given(st.lists(st.sampled_from([f"w{i}" for i in range(8)]), max_size=80), st.integers(2, 6))
def test_the_longest_run_is_the_one_that_trying_all_finds(text: list[str], n: int) -> None:
    question = ["w0", "w1", "w2", "w3", "w0", "w1", "w4", "w5", "w6", "w1", "w2", "w3"]
    longest = max(
        (
            size
            for size in range(n, len(question) + 1)
            for i in range(len(question) - size + 1)
            for j in range(len(text) - size + 1)
            if question[i : i + size] == text[j : j + size]
        ),
        default=0,
    )
    found = index(" ".join(question), n)
    found.meet(" ".join(text), "here")
    assert found.overlaps["q"].longest == longest
    assert found.overlaps["q"].contaminated is (longest > 0)


@settings(deadline=None)
@given(st.lists(st.sampled_from(words(QUESTION)), max_size=200))
def test_text_that_shares_words_but_no_two_in_a_row_is_clean(text: list[str]) -> None:
    found = index(ngram=2)
    found.meet(" between ".join(text), "here")
    assert found.overlaps["q"].contaminated is False


def test_several_texts() -> None:
    found = Index({"a": QUESTION, "b": OTHER}, ngram=13)
    own = words(QUESTION)
    found.meet(" ".join(own[:14]), "first")
    found.meet(" ".join(own[10:30]), "second")
    found.meet("nothing", "third")
    a, b = found.overlaps["a"], found.overlaps["b"]
    assert (a.texts, a.longest, a.where, a.whole, a.share) == (2, 20, "second", False, 1.0)
    assert b.contaminated is False


def test_a_stock_phrase_counts_as_part_of_more_only() -> None:
    stock = "where m and n are relatively prime positive integers find m plus n"  # thirteen words
    asked = {name: f"{' '.join(f'{name}{i}' for i in range(20))} {stock}" for name in "abc"}
    found = Index(asked, ngram=8)
    found.meet(f"Something else, {stock}.", "here")
    assert [own.contaminated for own in found.overlaps.values()] == [False] * 3
    found.meet(f"a18 a19 {stock}", "there")
    assert found.overlaps["a"].longest == 2 + 13
    assert found.overlaps["b"].contaminated is False
    two = Index({name: asked[name] for name in "ab"}, ngram=8)
    two.meet(stock, "here")
    assert two.overlaps["a"].contaminated is True


def test_short_questions() -> None:
    found = Index({"short": "What is 2 plus 3?", "tiny": "1 + 1?"}, ngram=13)
    assert [own.ngram for own in found.overlaps.values()] == [FEWEST, 0]
    found.meet("They asked: what is 2 plus 3? And then 1 + 1?", "here")
    assert found.overlaps["short"].whole
    assert found.overlaps["tiny"].contaminated is None


def test_repetition_is_cheap() -> None:
    found = index("1 " * 2000)
    found.meet("1 " * 5000, "here")
    assert found.overlaps["q"].contaminated
