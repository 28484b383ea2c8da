"""What counts as a final answer, and what does not."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.chat import DELIMITERS
from innerloop.evaluate.verify.extract import extract_answer, final, visible


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
        ("(B) The Peace of Utrecht", "(B) The Peace of Utrecht"),
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


@pytest.mark.parametrize(("start", "end"), DELIMITERS)
def test_thinking_of_every_known_model_holds_no_answer(start, end):
    assert extract_answer(f"{start}perhaps \\boxed{{3}}{end}So \\boxed{{4}}") == "4"
    assert extract_answer(f"{start}perhaps \\boxed{{3}}{end}") is None
    assert extract_answer(f"{start}perhaps \\boxed{{3}}") is None


def test_a_mark_that_ends_every_turn_ends_the_visible_answer_too():
    thought = "<|channel|>analysis<|message|>perhaps \\boxed{3}<|end|><|start|>assistant"
    for closing in ("", "<|end|>", "<|return|>"):
        assert visible(f"{thought}<|channel|>final<|message|>It is \\boxed{{4}}{closing}") == "It is \\boxed{4}"
    assert visible("no channels at all<|end|>") == "no channels at all<|end|>"


@pytest.mark.parametrize(
    ("stated", "answer"),
    [
        ("$35, because 7 days at $5 make $35.", "$35"),
        (r"\$35, because 7 days at \$5 make \$35.", r"\$35"),
        ("$6.50 per day, since $13/2 = $6.50.", "$6.50 per day"),
        ("$900 ($75 per month).", "$900"),
        ("$90,000 - $30,000 = $60,000.", "$60,000"),
        ("$12.00+$3.00=$15.00.", "$15.00"),
        ("**$15**, since 5 × $3 = $15.", "$15"),
        ("US$15, not US$12.", "US$15"),
        ("3 × $4 = $12.", "$12"),
        ("12 dollars ($3 each).", "12 dollars"),
        ("$7.50/hour, at $1 per job.", "$7.50/hour"),
        ("$10-$12.", "$10-$12"),
        ("$15 = $12.", "$15 = $12"),  # no sum: two amounts
        ("$15 or $12.", "$15 or $12"),
        ("$15 (or $12).", "$15 (or $12)"),
        ("$x$ and $y$.", "$x$ and $y$"),
        ("$3$ or $4$.", "$3$ or $4$"),
        ("$x$, where $x$ is the price.", "x"),
        ("$ 5 $.", "5"),
        ("$$5$$", "5"),
        ("$5$ km.", "5 km"),
        (r"$\frac{1}{2}$ of the cake.", r"\frac{1}{2}"),
        (r"$18 \text{ dollars per day}$ in all.", r"18 \text{ dollars per day}"),
    ],
)
def test_amounts_are_no_maths(stated, answer):
    assert extract_answer(f"The answer is {stated}") == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is 7. But one case is missing, so the answer is 8.", "8"),
        ("Answer: A. That fails on a closer look, so the answer is C.", "C"),
        ("Answer: It is not A, the answer is B", "B"),
        ("Answer: It is not A, it is B", "B"),
        ("Final answer: ANSWER: E", "E"),
        ("Answer: The correct option is C.", "C"),
        ("**Answer:** B. **Explanation:** A is bad.", "B"),
        ("Hence answer is D", "D"),
        ("My answer: 4, final answer: 5", "5"),
        ("The answer is B; no, the correct answer is C.", "C"),
        ("The answer is 5. Is the answer 6?", "5"),
        ("The answer is 5. Or the answer is 6?", "5"),
        ("The answer is 7. Does that help?", "7"),
        ("The answer is 7. Perhaps the answer is not 7.", "7"),
        ("The answer is 7. If the answer is 8, then all of it fails.", "7"),
        ("The answer is 7. One might think the answer is 8.", "7"),
        ("ANSWER IS E. A is incorrect.", "E. A is incorrect"),
        ("The answer is Rome. You will find the answer in the table.", "Rome"),
        ("# Answer\n\n9", "9"),
        ("The answer is:\n\n\\[\n9\n\\]", "9"),
    ],
)
def test_the_last_statement_of_a_line_counts(text, answer):
    assert extract_answer(text) == answer


STEP = "The first part gives \\boxed{12} rows.\n\n"


@pytest.mark.parametrize(
    ("after", "answer"),
    [
        ("Answer: 36", "36"),
        ("**Answer: C**", "C"),
        ("**Answer:** 36 rows", "36 rows"),
        ("Answer: (C) The Peace of Utrecht", "(C) The Peace of Utrecht"),
        ("Answer: There are 36 rows.", "There are 36 rows"),
        ("The correct option is (C).", "(C)"),
        ("## Final Answer\n\n36", "36"),
        ("Therefore, the answer is $36$.", "36"),
        ("So the answer is **36**.", "36"),
        ("The final answer is Utrecht.", "Utrecht"),
        ("#### 36 rows", "36 rows"),
    ],
)
def test_an_explicit_statement_wins_over_a_box_before_it(after, answer):
    assert extract_answer(STEP + after) == answer


@pytest.mark.parametrize(
    "after",
    [
        "The answer is in the table.",
        "So this answer is wrong.",
        "The answer is correct.",
        "The answer is approximately 12.1.",
        "The answer is 36?",
        "The answer is not 36.",
        "If the answer is 36, something is wrong.",
        "I verify that the answer is 36.",
        "Your answer is 36",
        "The answer is 5 more than the other one.",
        "The answer is obtained by adding 5 and 7.",
        "Answer: To find the total, we add 3 and 4 and get what is needed.",
        "Question: What is 3 + 4?\nAnswer: 7",  # made up by the model
        r"The answer is \boxed{12}.",
        "Answer: 36\nNo: \\boxed{12}",
    ],
)
def test_no_other_mention_does(after):
    assert extract_answer(STEP + after) == "12"


@pytest.mark.parametrize(
    ("stated", "answer"),
    [
        ("9:15 a.m.", "9:15 a.m."),
        ("9 a.m. on Friday.", "9 a.m. on Friday"),
        ("9 a.m. The train leaves then.", "9 a.m"),
        ("Mt. Etna.", "Mt. Etna"),
        ("E. coli", "E. coli"),
        ("5 in. by 3 in.", "5 in. by 3 in"),
        ("Dr. Watson.", "Dr. Watson"),
        ("J. R. R. Tolkien. He wrote it.", "J. R. R. Tolkien"),
        ("Martin Luther King Jr. He was born in 1929.", "Martin Luther King Jr"),
        ("No. 5", "No. 5"),
        ("no. This fails at once.", "no"),
        ("gold, silver, bronze.", "gold, silver, bronze"),
        ("gold, silver and bronze, since these are left.", "gold, silver and bronze"),
        ("3, 5, and 7.", "3, 5, and 7"),
        ("a big, red dog", "a big, red dog"),
        ("Rome, Italy.", "Rome, Italy"),
        ("Rome, the capital of Italy.", "Rome"),
        ("Rome, which is in Italy.", "Rome"),
        ("Rome. I hope it is correct.", "Rome"),
        ("Gone So Soon.", "Gone So Soon"),
        ("Where the Wild Things Are.", "Where the Wild Things Are"),
        ('"as you like it", because it says so.', '"as you like it"'),
        ("'x. y'.", "'x. y'"),
        ("['x. y', 'z, because'] because of f.", "['x. y', 'z, because']"),
        ("{'a': 'so it is'}, since f returns it.", "{'a': 'so it is'}"),
        ("[0,1) ∪ (2,3], as shown.", "[0,1) ∪ (2,3]"),
        ("42, so we are done.", "42"),
        ("42 as required.", "42"),
        ("42 (because 6 times 7 is 42).", "42"),
        ("5 apples, and that is it.", "5 apples"),
        ("40, or 50.", "40, or 50"),
        ("40. Or 50.", "40. Or 50"),
        ("40, maybe 50.", "40, maybe 50"),
        ("**40** or **50**.", "40 or 50"),
        ("I think it is Rome.", "Rome"),
        ("not Rome, but Paris.", "Paris"),
    ],
)
def test_where_a_statement_ends(stated, answer):
    assert extract_answer(f"The answer is {stated}") == answer


def test_the_amount_that_a_sentence_stresses_is_the_answer():
    assert extract_answer("**Answer:** Tim spends **$75** on tea in 30 days.") == "$75"
    assert extract_answer("**Answer:** Tim spends less than **$75** in 30 days.") != "$75"


def test_a_statement_is_known_with_the_sentence_that_it_was_cut_from():
    found = final("The answer is say when you are done.")
    assert (found.answer, found.sentence) == ("say", "say when you are done")
    assert final(r"\boxed{5}").sentence is None
