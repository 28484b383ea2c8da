"""Votes: answers that a question's verifier calls equal are one, and others are not."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.evaluate.tally import tally
from innerloop.evaluate.verify import choice, math, number, text
from innerloop.evaluate.verify.job import Job
from innerloop.evaluate.verify.values import equal, read
from innerloop.evaluate.verify.votes import answer_key, question_key
from innerloop.schema import Outcome, Question, Source, Trajectory

# Verifier, reference, answers: those of one row are one vote, those of different rows are not.
GROUPS = [
    ("math", "5", [["5", "x = 5", "5.0", r"\$5", "10/2", r"\frac{10}{2}", "5 apples"], ["6", "y = 6"], ["-5"]]),
    ("math", "x = 5", [["5", "x = 5"], ["y = 5"], ["6", "x=6"]]),
    ("math", "50", [["50", r"50\%", "x = 50"], ["40", "40 percent"], ["0.5", r"\frac12"]]),
    ("math", r"25\%", [["25", "25%", "0.25"], ["30", "30%"], ["2500%"]]),
    ("math", r"5 \text{ cm}", [["5", "5 cm", "0.05 meters", "50 mm"], ["5 m", "500 cm"], ["6", "6 cm"]]),
    ("math", r"\sqrt{2}", [[r"\sqrt{2}", r"\frac{2}{\sqrt2}"], [r"\sqrt{8}", r"2\sqrt{2}", "8^{1/2}"], ["2"]]),
    ("math", "x^2-1", [["(x-1)(x+1)", "x^2-1"], ["(x+1)^2", "x^2+2x+1"], ["X^2 + 2X + 1"]]),
    ("math", "(1, 2)", [["(1,2)", "x = 1, y = 2"], ["(2, 1)", "x=2, y=1"], ["[1, 2]", r"1 \le x \le 2"]]),
    ("math", "1, 2", [["1,2", "2, 1", r"\{1, 2\}", "x=1 or x=2"], ["1, 3", r"\{3, 1\}"], ["1"], ["2"]]),
    ("math", "x > 3", [["x>3", r"(3, \infty)", "3 < x"], ["x>4", r"(4,\infty)"], ["x<3"], [r"[3, \infty)"]]),
    ("math", "x+y=1", [["2x+2y=2", "y = 1 - x"], ["x - y = 1", "2y - 2x + 2 = 0"], ["x+y=2"]]),
    ("math", "4:30 p.m.", [["4:30 PM", "16:30"], ["4:30 a.m.", "4:30"], ["5:30 pm", "17:30"]]),
    ("math", "2:3", [["4:6", "2:3", r"\frac23"], ["3:2", "6:4"], ["1:2"]]),
    ("math", "101_2", [["101", "101_2", "12_3"], ["110", "110_2"], ["201"]]),
    ("math", "(C)", [["C", "(C)", r"\text{(C)}", "(C) 12"], ["B", "(B)", "(B) 7"]]),
    ("math", "12", [["12", r"\textbf{(B)}\ 12"], ["13", "(C) 13"]]),
    ("math", "ellipse", [["Ellipse", r"\text{ellipse}"], ["circle", "Circle"]]),
    ("choice", "B", [["B", "(b)", "B. Paris", r"\text{(B)}"], ["C", "(C)", "C) London"], ["none"]]),
    ("number", "50", [["50", "50%", "$50", "(50)", "50!"], ["41", "41 %"]]),
    ("number", "0.33", [["1/3", "0.33", "0.333", "33%"], ["0.34"]]),
    ("quantity", "10 m/s", [["10 m/s", "36 km/h", "10"], ["3 m/s", "3"]]),
    ("literal", "[1, 2]", [["[1, 2]", "[1,2]", "f(3) == [1, 2]"], ["[2, 1]"], ["(1, 2)", "(1,2)"]]),
    ("text", "café", [["cafe\u0301", "CAFÉ"], ["cafe"]]),
    ("gym:chain_sum", "5", [["5", r"\text{5}"], ["6"]]),
]


@pytest.mark.parametrize(("verifier", "reference", "groups"), GROUPS)
def test_equal_answers_are_one_vote(verifier, reference, groups):
    keys = [{answer_key(answer, verifier, reference) for answer in group} for group in groups]
    assert [len(own) for own in keys] == [1] * len(groups), keys
    assert len(set.union(*keys)) == len(groups), keys


JUDGES = {"math": math, "number": number, "choice": choice, "text": text}


@pytest.mark.parametrize(("verifier", "reference", "groups"), [row for row in GROUPS if row[0] in JUDGES])
def test_the_verdict_and_the_votes_agree(verifier, reference, groups):
    question = Question(id="q", question="?", answer=reference, verifier=verifier)
    right = question_key(reference, question)
    for answer in itertools.chain(*groups):
        word = JUDGES[verifier].judge(question, answer)
        outcome = math.run(word.payload)["outcome"] if isinstance(word, Job) else word.outcome.value
        assert (outcome == "right") == (question_key(answer, question) == right), answer


SMALL = st.integers(-20, 20)
VALUES = st.one_of(
    st.builds(str, SMALL),
    st.builds(r"\frac{{{}}}{{{}}}".format, SMALL, st.integers(1, 6)),
    st.builds("{}%".format, SMALL),
    st.builds("x = {}".format, SMALL),
    st.builds(r"{}\sqrt{{{}}}".format, st.integers(1, 4), st.integers(1, 9)),
    st.builds("{}x + {}y = {}".format, st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
    st.builds("(x + {})(x + {})".format, st.integers(1, 4), st.integers(1, 4)),
    st.builds("x^2 + {}x + {}".format, st.integers(1, 4), st.integers(1, 4)),
    st.builds("({}, {})".format, SMALL, SMALL),
    st.builds("{}, {}".format, SMALL, SMALL),
    st.builds(r"x \ge {}".format, SMALL),
    st.builds(r"[{}, \infty)".format, SMALL),
    st.builds("{}:{}".format, st.integers(1, 9), st.integers(1, 9)),
    st.builds("{} hours {} minutes".format, st.integers(1, 3), st.integers(0, 59)),
    st.builds("{} minutes".format, st.integers(60, 240)),
)


@given(VALUES, VALUES, VALUES)
@pytest.mark.slow
def test_keys_of_generated_values_agree_with_their_equality(one, other, reference):
    right = answer_key(reference, "math", reference)
    for answer in (one, other):
        assert (answer_key(answer, "math", reference) == right) == equal(read(answer), read(reference))
    if answer_key(one) == answer_key(other):
        assert equal(read(one), read(other))


def test_long_answers_are_keyed_as_they_are_written():
    assert answer_key("x + " * 500 + "1") == answer_key(" " + "x + " * 500 + "1")
    assert answer_key(r"n \le 1234!") == answer_key(r"1234! \ge n") != answer_key(r"n \le 1235!")
    assert answer_key("9^{9^{9^{9^9}}}") == answer_key("9^{9^{9^{9^9}}}") != answer_key("9^{9^{9^9}}")


def test_votes_are_counted_beside_the_reference():
    def sample(number: int, answer: str) -> Trajectory:
        return Trajectory(
            id=f"q/{number}",
            question_id="q",
            text="",
            source=Source.FILE,
            sample=number,
            answer=answer,
            outcome=Outcome.RIGHT if number < 3 else Outcome.WRONG,
        )

    samples = [sample(place, answer) for place, answer in enumerate(["50", "x = 50", r"50\%", "41", "41.0"])]
    (score,) = tally("s", samples, {"q": Question(id="q", question="?", answer="50")})
    assert (score.votes_right, score.votes_wrong) == ((3, 0), (0, 2))
