"""What counts as a final answer, and what does not."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.evaluate.verify.extract import extract_answer, visible


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"Reasoning. $\boxed{18}$", "18"),
        (r"\boxed{3} but no, \boxed{7}", "7"),
        ("work\n#### 18", "18"),
        ("work\n#### $1,080\n", "$1,080"),
        ("<answer>north</answer>", "north"),
        ("<answer>As you are aware, sir, began No.</answer>", "As you are aware, sir, began No."),
        ("<answer>_ Q\nQ _</answer>", "_ Q\nQ _"),
        ("<answer>1 2\n3 4</answer>", "1 2\n3 4"),
        (r"<answer>It is \boxed{5}</answer>", "5"),
        (r"<answer>3</answer> wait, \boxed{4}", "4"),
        (r"\boxed{4} <answer>$3$</answer>", "3"),
        ("So the final answer is 42.", "42"),
        ("**Final Answer:** 42", "42"),
        ("## Final Answer\n\n42 dollars\n", "42 dollars"),
        (r"The answer is $\frac{1}{2}$, because …", r"\frac{1}{2}"),
        ("The answer is 3.50. I hope it is correct.", "3.50"),
        ("The final answer to the question is: 7", "7"),
        ("The correct option is (B) since both hold.", "(B)"),
        ("Answer: 1/2\n", "1/2"),
        ("**Answer:** Anne is 8 years old.", "Anne is 8 years old"),
        ("The answer is 3.\nNo! The answer is 4.", "4"),
        (r"\[ \boxed{x} \]", "x"),
        ("18", "18"),
        ("$\\frac{1}{2}$", "\\frac{1}{2}"),
        ("**(B)**", "(B)"),
        ("Paris.", "Paris"),
    ],
)
def test_final_answers(text, answer):
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    "text",
    [
        "<think> maybe 42? let me check 17",
        "maybe 42? let me check 17",
        r"<think> so \boxed{42}",
        r"<think> \boxed{42} </think>",
        r"<think>a</think> <think> \boxed{42}",
        "so she has 18 eggs left and sells them all",
        "#### Step 1: add\nand so on, at length, for ever and ever",
        "I will put my answer within \\boxed{}.",
        "The answer is not 5",
        "The answer is 5?",
        "The answer is probably 5",
        "the answer",
        "So the answer depends on the number 5 alone",
        "",
        "   \n",
    ],
)
def test_no_final_answer(text):
    assert extract_answer(text) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<think>a</think>b", "b"),
        ("a</think>b", "b"),  # the template already held the beginning
        ("<think>a", ""),
        ("b<think>a", "b"),
        ("<think>a</think>b</think>c", "c"),
        ("[THINK]a[/THINK]b", "b"),
        ("plain", "plain"),
    ],
)
def test_thinking_is_cut_away(text, shown):
    assert visible(text) == shown


def test_delimiters_can_be_ones_own():
    text = r"<<\boxed{1}>> \boxed{2} << \boxed{3}"
    assert extract_answer(text, delimiters=[("<<", ">>")]) == "2"
    assert extract_answer(text, delimiters=[("", "")]) == "3"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is 1", None),  # it may go on: 18
        ("The answer is 18.\nNow let me che", "18"),
        (r"\boxed{18} and now I chec", "18"),
        ("18", None),
        ("work\n#### 18", "18"),
    ],
)
def test_in_a_truncated_text_the_last_sentence_states_nothing(text, answer):
    assert extract_answer(text, complete=False) == answer


@given(st.text(max_size=200), st.integers(-999, 999))
def test_a_box_at_the_end_of_any_text_is_found(text, number):
    before = text.translate(dict.fromkeys(map(ord, "<[◁")))  # no thinking that is left open
    assert extract_answer(f"{before}\n\\boxed{{{number}}}") == str(number)


@given(st.text(alphabet="<think>/ \\boxed{}#answer is:.$*1\n", max_size=300))
def test_no_text_breaks_it(text):
    answer = extract_answer(text)
    assert answer is None or isinstance(answer, str)


@pytest.mark.parametrize("text", ["**", "<answer>$ $</answer>"])
def test_marks_around_nothing_are_no_answer(text):
    assert extract_answer(text) is None


@pytest.mark.parametrize("part", ["<answer>", "the answer is ", "#### ", "\\(", "$", "final answer\n", "**", "\\text{"])
def test_the_time_grows_with_the_length_only(part):
    start = time.process_time()
    extract_answer(part * (40_000 // len(part)))
    assert time.process_time() - start < 2
