"""Train and test share no question."""

from __future__ import annotations

import dataclasses
import logging

import pytest

from innerloop.errors import InputError
from innerloop.questions import load
from innerloop.questions.disjoint import normalised, overlap, remove_overlap
from innerloop.questions.oracles import FAMILIES
from innerloop.schema import Question

# Small enough to make a question twice by chance: of 200 products, some 40 have one digit, and there are 100 of these.
BY_CHANCE = {"base_conversion": 5, "chain_sum": 10, "gsm_symbolic": 3, "lcm": 10, "products": 25, "spell_backward": 5}


@pytest.mark.parametrize("family", FAMILIES)
def test_seeds_0_and_1_share_no_question(family: str) -> None:
    """By content. What two seeds make by chance in a small family is found, counted and taken out."""
    train, test = (load(f"gym:{family}?size=200&seed={seed}") for seed in (0, 1))
    common = overlap(train, test)
    assert len(common) <= BY_CHANCE.get(family, 0)
    left = remove_overlap(train, test)
    assert left.removed == tuple(question.id for question in common)
    assert len(left.train) == len(train) - len(common)
    assert not {q.question.casefold().strip() for q in left.train} & {q.question.casefold().strip() for q in test}


def test_a_tiny_family_overlaps_and_is_cleaned(caplog: pytest.LogCaptureFixture) -> None:
    tiny = "gym:count_bits?size=200&max_n=500"
    with caplog.at_level(logging.ERROR):
        train, test = load(f"{tiny}&seed=0"), load(f"{tiny}&seed=1")
    left = remove_overlap(train, test)
    assert 0 < len(left.removed) < len(train)
    assert len(left.train) + len(left.removed) == len(train)
    assert overlap(left.train, test) == []
    with pytest.raises(InputError, match=f"all {len(test)} training questions are among the test questions"):
        remove_overlap(test, test)


def test_ids_and_outer_form_do_not_hide_a_question() -> None:
    one = Question(id="a", question="How many  ½-litre jugs\nfit?", answer="3")
    alike = [
        dataclasses.replace(one, id="b"),
        Question(id="c", question=" how many ½-LITRE jugs fit? ", answer="4"),
        Question(id="d", question="How many 1⁄2-litre jugs fit?", answer="3"),
    ]
    other = Question(id="e", question="How many ¼-litre jugs fit?", answer="6")
    assert [q.id for q in overlap([*alike, other], [one])] == ["b", "c", "d"]
    assert remove_overlap([*alike, other], [one]).train == (other,)
    assert normalised(one) == "how many 1⁄2-litre jugs fit?"
    assert remove_overlap([], [one]).train == ()
    assert remove_overlap(alike, []).removed == ()
