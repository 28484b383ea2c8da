r"""Finding ``\boxed{}``: braces, nesting, and texts that are cut off."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.boxed import boxes, last_boxed


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"so $\boxed{18}$.", "18"),
        (r"first \boxed{3}, then \boxed{7}", "7"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed {5}", "5"),
        (r"\boxed 5 is it", "5"),
        (r"\fbox{x}", "x"),
        (r"\boxed{\boxed{9}}", "9"),
        (r"\boxed{x = \boxed{9}}", r"x = \boxed{9}"),
        (r"} { \boxed{4}", "4"),
        (r"\boxed{4} and then \boxed{5", "4"),
        (r"I put my answer within \boxed{}. \boxed{ }", None),
        (r"\boxed{never closed", None),
        ("boxed{5}", None),
        ("", None),
    ],
)
def test_the_last_closed_box_that_holds_something(text, content):
    assert last_boxed(text) == content


@given(st.recursive(st.text("ab1 +\n", min_size=1, max_size=5), lambda t: t.map(lambda x: "{" + x + "}"), max_leaves=4))
def test_balanced_content_comes_back(content):
    assert last_boxed(f"text {{ \\boxed{{{content}}} more") == (content.strip() or None)


def test_a_box_knows_its_place():
    text = r"ab \boxed{c} d"
    (box,) = boxes(text)
    assert text[box.start : box.end] == r"\boxed{c}"


def test_boxes_in_boxes_in_boxes_take_no_longer_than_their_length():
    start = time.process_time()
    deep = r"\boxed{ " * 12_000 + "9" + " }" * 12_000
    assert last_boxed(deep) == "9"
    assert time.process_time() - start < 2


@pytest.mark.slow
def test_many_unclosed_boxes_take_no_longer_than_their_length():
    start = time.process_time()
    assert last_boxed("\\boxed{" * 100_000) is None
    assert time.process_time() - start < 2  # matching each to the end of the text would take minutes
