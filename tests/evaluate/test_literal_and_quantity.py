"""Python literals, and numbers with units."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.evaluate.verify import Verifier, literal, quantity
from innerloop.evaluate.verify.job import Job
from innerloop.questions import load
from innerloop.schema import Outcome, Question, Verdict

RIGHT, WRONG, UNDECIDED = Outcome.RIGHT, Outcome.WRONG, Outcome.UNDECIDED


def judged(module, reference: str, answer: str) -> str:
    """The outcome, in this process."""
    word = module.judge(Question(id="q", question="?", answer=reference), answer)
    return module.run(word.payload)["outcome"] if isinstance(word, Job) else word.outcome.value


@pytest.mark.parametrize(
    ("reference", "answer", "outcome"),
    [
        ("'abc'", "'abc'", RIGHT),
        ("'abc'", '"abc"', RIGHT),
        ("'abc'", "abc", RIGHT),  # only the quotes are missing
        ("'abc'", "Abc", WRONG),
        ("'12'", "12", WRONG),  # a literal, of another type
        ("'[ac]'", "[ac]", RIGHT),
        ("'a b'", "'ab'", WRONG),
        ("'$x$'", "'$x$'", RIGHT),
        ("[('74', 31)]", "[ ( '74' , 31 ), ]", RIGHT),
        ("[1, 2]", "(1, 2)", WRONG),
        ("[1, 2]", "[2, 1]", WRONG),
        ("{'a': 1, 'b': 2}", "{'b': 2, 'a': 1}", RIGHT),
        ("{1, 2}", "{2, 1, 2}", RIGHT),
        ("1", "1.0", RIGHT),
        ("True", "1", RIGHT),  # as Python has it
        ("0.1", "1e-1", RIGHT),
        ("None", "''", WRONG),
        ("-5", "- 5", RIGHT),
        ("'a_b'", r"'a\_b'", RIGHT),  # LaTeX's escape
        (r"'a\\_b'", r"'a\_b'", RIGHT),  # Python's own reading
        (r"'a\nb'", r"'a\\nb'", WRONG),
        ("'a b'", "'a~b'", WRONG),
        ("{'a': 1}", r"\{'a': 1\}", RIGHT),
        ("['a']", r"\text{['a']}", RIGHT),
        ("[1]", "`[1]`", RIGHT),
        ("[1]", "f([3]) == [1]", RIGHT),
        ("[1]", "assert f('==') == [1]", RIGHT),
        ("'a == b'", "'a == b'", RIGHT),
        ("[1]", "result = [1]", RIGHT),
        ("b'x'", "b'x'", RIGHT),
        ("[1]", "[1] + []", WRONG),
        ("[1]", "__import__('os').getcwd()", WRONG),
        ("[1]", "(" * 5000 + ")" * 5000, WRONG),
        ("1", "9" * 6000, WRONG),
        ("f(x)", "1", UNDECIDED),
    ],
)
def test_literals(reference, answer, outcome):
    assert judged(literal, reference, answer) == outcome.value


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.tuples(x, x)))
@pytest.mark.slow
def test_every_literal_is_itself(value):
    assert judged(literal, repr(value), f" {value!r} ") == "right"
    assert judged(literal, repr([value]), repr((value,))) == "wrong"


def test_the_tags_of_cruxeval():
    text = "Let us see. [ANSWER]f('a') == 'b'[/ANSWER] No: [ANSWER]f('a') == 'c'[/ANSWER]"
    assert literal.final(text) == "f('a') == 'c'"
    assert literal.final("none") is None
    with Verifier() as verifier:
        verdicts = verifier.verify([(Question(id="q", question="?", answer="'c'", verifier="literal"), text)])
    assert verdicts[0].outcome is RIGHT


def test_every_reference_of_cruxeval_is_right(data_dir):
    questions = load(str(data_dir / "q_cruxeval.jsonl"))
    assert len(questions) > 300
    for question in questions:
        assert literal.run({"reference": question.answer, "answer": question.answer + " "})["outcome"] == "right"


@pytest.mark.parametrize(
    ("reference", "answer", "outcome"),
    [
        ("10 m/s", "36 km/h", RIGHT),
        ("10 m/s", "36 m/s", WRONG),
        ("10 m/s", "10", RIGHT),  # the unit was not repeated
        ("10", "10 m/s", RIGHT),
        ("10 m", "10 kg", WRONG),
        ("10 m", "10 km", WRONG),
        ("293.15 K", "20 °C", RIGHT),
        ("20 °C", "68 °F", RIGHT),
        ("20 °C", r"20^\circ\mathrm{C}", RIGHT),
        (r"9.8 \mathrm{~m} / \mathrm{s}^2", r"980 \text{ cm/s}^{2}", RIGHT),
        ("9.8 m/s^2", r"9.8\,\mathrm{m}\cdot\mathrm{s}^{-2}", RIGHT),
        ("9.8 m/s^2", "9.8 m s^-2", RIGHT),
        ("9.8 m/s²", "9.8 m s⁻²", RIGHT),
        ("2 kWh", "7.2 MJ", RIGHT),
        ("47 Ω", r"0.047 \mathrm{k}\Omega", RIGHT),
        (r"5 \mu m", "0.005 mm", RIGHT),
        ("90 degrees", r"\frac{180}{2} degrees", RIGHT),
        ("180°", r"180 degrees", RIGHT),
        ("1.50 × 10^3 J", "1.5 kJ", RIGHT),
        ("6.02e23", r"6.02 \times 10^{23}", RIGHT),
        ("0.33 m", "33.3 cm", RIGHT),  # half a unit of the reference's last digit
        ("0.33 m", "34 cm", WRONG),
        ("3 apples", "3 apple", RIGHT),
        ("3 apples", "3 pears", WRONG),
        ("3 million", "3", WRONG),
        ("3 million", "3000000", RIGHT),
        ("3 m or 4 m", "3 m", UNDECIDED),
        ("3 m", "3 or 4 m", WRONG),
        ("3 m", "much", WRONG),
        ("25 %", "25%", RIGHT),
        ("5 m", "5 m**9**9**9**9", WRONG),
        ("5 m", "5 __import__('os')", WRONG),
    ],
)
def test_quantities(reference, answer, outcome):
    assert judged(quantity, reference, answer) == outcome.value


@given(
    st.decimals(min_value=-(10**6), max_value=10**6, places=3, allow_nan=False),
    st.sampled_from(["m", "kg", "s", "°C", "N·m"]),
)
def test_a_quantity_is_itself_and_not_ten_times_itself(value, unit):
    text = f"{value} {unit}"
    assert judged(quantity, text, text) == "right"
    if abs(value) > 1:
        assert judged(quantity, text, f"{10 * value} {unit}") == "wrong"


def test_the_reason_names_the_other_kind_of_unit():
    word = quantity.judge(Question(id="q", question="?", answer="10 m"), "10 kg")
    assert isinstance(word, Job)
    assert quantity.run(word.payload)["reason"] == "a unit of another kind (kg for m)"
    assert isinstance(quantity.judge(Question(id="q", question="?", answer="10 m"), "10 m"), Verdict)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("f(1) == 2", "2"),
        ("assert f(g(1), ')') == [2]", "[2]"),
        ("assert f(1) == 2 == f(3) == 4", "4"),
        ("(x = 5)", "(5)"),
        ("1a = 5", "15"),
        ("x == 'a=b'", "'a=b'"),
        ("assert = 3", "3"),
        ("f(1) =", "f(1) ="),
        ("f(1 == 2", "f(1 == 2"),
        ("a === 5", "a === 5"),
        ("[1, 2]", "[1, 2]"),
    ],
)
def test_what_stands_in_front_of_a_literal(text, left):
    assert literal.without_front(text) == left
