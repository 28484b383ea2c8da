"""The verifiers that need no worker process, and the quick side of those that do."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.evaluate.verify import choice, gym, math, none, number, quantity, text
from innerloop.evaluate.verify.job import Job
from innerloop.evaluate.verify.plain import folded, plain
from innerloop.evaluate.verify.values import Collection, Several, read
from innerloop.evaluate.verify.values.kinds import Tuple
from innerloop.schema import Outcome, Question, Verdict


def question(answer: str, **fields) -> Question:
    return Question(id="q", question="?", answer=answer, **fields)


def judged(module, reference: str, answer: str) -> str:
    """The outcome, in this process."""
    word = module.judge(question(reference), answer)
    return module.run(word.payload)["outcome"] if isinstance(word, Job) else word.outcome.value


@pytest.mark.parametrize(
    ("latex", "expected"),
    [
        (r"\text{north west}", "north west"),
        (r"\frac{1}{2}", "1/2"),
        (r"\dfrac12", "1/2"),
        (r"$x$", "x"),
        (r"\(x\)", "x"),
        (r"10{,}000", "10,000"),
        (r"\$5", "$5"),
        (r"\textbf{\text{a}}", "a"),
        (r"90^\circ", "90°"),
        (r"\frac{x+1}{2}", "(x+1)/2"),
        (r"\frac{1}{2x}", "1/(2x)"),
        (r"\frac{1}{2}x", "1/2 x"),
        (r"2\frac{1}{3}", "2 1/3"),
        ("Zu\u0308rich", "Zürich"),
        ("plain", "plain"),
    ],
)
def test_latex_becomes_plain_text(latex, expected):
    assert plain(latex) == expected


@given(st.text(max_size=100))
def test_folding_twice_changes_nothing(value):
    simple = value.replace("\\", "").replace("$", "").replace("{", "")
    assert folded(folded(simple)) == folded(simple)


@pytest.mark.parametrize(
    ("reference", "answer", "right"),
    [
        ("Paris", " paris ", True),
        ("New York", r"\text{new  york}", True),
        ("Paris", "Paris, France", False),
        ("True", "False", False),
        ("caf\u00e9", "cafe\u0301", True),
        ("9:15 a.m.", "9:15 a.m", True),
        ("9:15 a.m", "9:15 p.m.", False),
        ("New York", "“New York.”", True),
        ("'a' or 'b'", "a' or 'b", False),
        ("Oklahoma!", "Oklahoma", True),
        ("...", "..", False),
        (r"\frac{x+1}{2}", "x+1/2", False),
        (r"\frac{x+1}{2}", "(x+1)/2", True),
    ],
)
def test_text(reference, answer, right):
    assert text.judge(question(reference), answer).outcome is (Outcome.RIGHT if right else Outcome.WRONG)


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        ("(b)", "B"),
        ("B. Paris", "B"),
        ("B) 12", "B"),
        (r"\text{(B)}", "B"),
        (r"\textbf{(B) }12", "B"),
        ("option B", "B"),
        ("B and C", None),
        ("A, C", None),
        ("Both", None),
        ("A dog", None),
        ("", None),
    ],
)
def test_choice_letters(answer, letter):
    assert choice.letter(answer) == letter


def test_choice():
    assert choice.judge(question("(C)"), "C.").outcome is Outcome.RIGHT
    assert choice.judge(question("C"), "D").outcome is Outcome.WRONG
    assert choice.judge(question("C"), "none of them").reason == "the final answer is no single letter"
    assert choice.judge(question("Paris"), "C").outcome is Outcome.UNDECIDED


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("18", 18),
        ("-18", -18),
        ("−18", -18),
        ("1,234.50", Fraction("1234.5")),
        ("$18", 18),
        (r"\$18.00", 18),
        ("-$5", -5),
        ("$-5", -5),
        ("18 dollars", 18),
        ("18 dollars per day.", 18),
        ("42\\text{ square inches}", 42),
        ("5 m/s^2", 5),
        ("12 cm^2", 12),
        ("25%", 25),
        ("90^\\circ", 90),
        ("3/4", Fraction(3, 4)),
        (r"\frac{3}{4}", Fraction(3, 4)),
        ("2 1/2", Fraction(5, 2)),
        ("1.5e3", 1500),
        (r"1.5 \times 10^{-3}", Fraction("0.0015")),
        ("x = 5", 5),
        ("about 7", 7),
        (".5", Fraction(1, 2)),
        ("12,34", None),
        ("3x", None),
        ("3 pi", None),
        (r"3\pi", None),
        (r"2\sqrt{3}", None),
        ("3 million", 3_000_000),
        ("5!", 5),  # there are no formulas here, so this is a mark
        ("(42)", 42),
        ("[42]", 42),
        ("42:", 42),
        ("1 000 000", 10**6),
        ("1,23,45,678", 12345678),
        ("18€", 18),
        (r"1\frac{1}{2}", Fraction(3, 2)),
        ("5 hours 30 minutes", None),
        ("2x = 4", None),
        ("18 and 20", None),
        ("18 to 20", None),
        ("1/0", None),
        ("1e999999999", None),
        ("eighteen", None),
        ("", None),
    ],
)
def test_numbers_are_read(written, value):
    found = number.of(written)
    assert (found.value if found else None) == value


def test_single_letters_are_units_only_where_asked():
    assert read("5 m").unit is None
    assert read("5 m", short=True).unit.spelled == "m"


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9))
def test_any_way_to_write_a_number_reads_the_same(value):
    for written in (f"{value}", f"{value:,}", f"${value}$", f"{value} dollars", f"\\boxed{{{value}}}"[7:-1]):
        assert number.of(written).value == Fraction(value)


@pytest.mark.parametrize(
    ("reference", "answer", "right"),
    [
        ("18", "18.0", True),
        ("18", "18.4", False),
        ("18", "17.99999999", True),
        ("0.33", "1/3", True),
        ("0.33", "0.34", False),
        ("20.4", "20.39", True),
        ("2.5", "2.54", False),
        ("25", "25%", True),
        ("0.25", "25%", True),
        ("25%", "0.25", True),
        ("25%", "25%", True),
        ("25%", "0.25%", False),
        ("1000000", "1000001", True),  # within 1e-6, as stated
        ("1000000", "1000002", False),
        ("0", "0.0", True),
        ("11", "Tom could buy 11 more CDs", True),
        ("11", "Tom could buy 12 more CDs", False),
        ("11", "Tom had 22 and bought 11 more", False),
        ("3", "about 3 million people", False),
    ],
)
def test_number_tolerances(reference, answer, right):
    assert number.judge(question(reference), answer).outcome is (Outcome.RIGHT if right else Outcome.WRONG)


@given(st.fractions(min_value=1, max_value=1000), st.fractions(min_value=-2, max_value=2))
def test_equality_is_a_band_around_the_reference(reference, offset):
    def of(value: Fraction) -> number.Plain:
        return number.Plain(value=value)

    inside = abs(offset) <= 1
    assert number.equal(of(reference * (1 + offset / 10**6)), of(reference)) is inside


def test_a_reference_that_is_no_number_is_undecided():
    verdict = number.judge(question("eighteen"), "18")
    assert verdict.outcome is Outcome.UNDECIDED
    assert "eighteen" in verdict.reason


def test_none_is_undecided_with_a_reason():
    verdict = none.judge(question("-"), "5")
    assert verdict.outcome is Outcome.UNDECIDED
    assert verdict.reason


@pytest.mark.parametrize(
    ("reference", "answer", "outcome"),
    [
        ("18", "18", Outcome.RIGHT),
        ("73", "073", Outcome.RIGHT),
        ("0", "-0", Outcome.RIGHT),
        ("5", "-5", Outcome.WRONG),
        ("1" * 5000, "+" + "1" * 5000, Outcome.RIGHT),
        ("10{,}000", "10000", Outcome.RIGHT),
        ("18", "19", Outcome.WRONG),
        ("18", "18 dollars", Outcome.RIGHT),
        ("8", "Anne is 8 years old", Outcome.RIGHT),
        (r"\text{4:30 p.m.}", r"4:30 \text{ p.m.}", Outcome.RIGHT),
        ("listen", "silent", Outcome.WRONG),  # as products of letters they are equal
        (r"\text{Evelyn}", "evelyn", Outcome.RIGHT),
        (r"\boxed{5}", "5", Outcome.RIGHT),
        (r"\frac{3}{4}", "3/4", Outcome.RIGHT),
        ("0.5", "50%", Outcome.RIGHT),
        ("3000000", "3 million", Outcome.RIGHT),
        ("4", "n = 5", Outcome.WRONG),
    ],
)
def test_math_without_algebra(reference, answer, outcome):
    verdict = math.judge(question(reference), answer)
    assert isinstance(verdict, Verdict)
    assert verdict.outcome is outcome


@pytest.mark.parametrize(
    ("reference", "answer"),
    [("x^2+2x+1", "(x+1)^2"), ("3", "3x"), ("3", r"3\pi"), ("2^{10}", "1024"), (r"\int_0^1 x dx", "1/2")],
)
def test_what_needs_algebra_goes_to_a_worker(reference, answer):
    assert isinstance(math.judge(question(reference), answer), Job)


@pytest.mark.parametrize(
    ("family", "answer", "read"),
    [
        ("countdown", "40*(94 - 90) + 83", ["40 * (94 - 90) + 83"]),
        ("simple_integration", "-x**9 + 9*x**4/2 + C", ["-x ** 9 + 9 * x ** 4 / 2 + C"]),
        ("countdown", "__import__('os').system('ls')", []),
        ("countdown", "exec(chr(105)+chr(109))", []),
        ("countdown", "().__class__", []),
        ("countdown", "(1).real", []),
        ("countdown", "[1 for a in (2)]", []),
        ("countdown", "ｅｘｅｃ(1)", []),  # Python reads full-width letters as plain ones
        ("chain_sum", "print(1)", ["print(1)"]),  # compared as text
    ],
)
def test_scorers_that_evaluate_get_plain_formulas_only(family, answer, read):
    assert gym._readings(family, answer) == read


def test_the_broken_scorer_is_not_asked():
    halting = question("True", verifier="gym:game_of_life_halting")
    assert gym.judge(halting, "true").outcome is Outcome.RIGHT
    assert gym.judge(halting, "anything").outcome is Outcome.WRONG


@pytest.mark.parametrize(
    "answer",
    [
        r"A \approx B",
        "A ≈ B",
        r"A \to B",
        "A → B",
        r"A \rightarrow B",
        r"A \xrightarrow{x} B",
        "A -> B",
        "A => B",
        r"A \implies B",
        "A = B",
        "A == B",
        "A := B",
        r"A \stackrel{?}{=} B",
        r"A \neq B",
        r"A \equiv B",
        r"A \sim B",
        "A or B",
        r"A \text{ or } B",
        "A (or B)",
        "A, B",
        "A; B",
        r"A \quad B",
        r"A \\ B",
        "A. B",
        r"\begin{cases} A \\ B \end{cases}",
        "x = A, x = B",
        "x = A = B",
        "A = B = A",
        r"A\text{ B}",
        "A rather than B",
    ],
)
@pytest.mark.parametrize(("one", "other"), [("3", "8"), ("0.5", "0.7"), ("-1", "1")])
def test_two_guesses_are_wrong_for_both(answer, one, other):
    said = answer.replace("A", one).replace("B", other)
    for reference in (one, other):
        for judge in (math.judge, number.judge, quantity.judge):
            assert judge(question(reference), said).outcome is Outcome.WRONG


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("3.14", r"x \approx 3.14"),
        ("0.667", r"\frac{2}{3} \approx 0.667"),
        ("0.66", r"\frac{2}{3} \approx 0.66"),
        ("3", r"2.7 \approx 3"),
        ("1500", r"1.5 \times 10^3 = 1500"),
        ("2", r"2x + 1 = 5 \implies x = 2"),
        ("4", "x^2 = 16, x = 4"),
        ("26", "f(5) = 26"),
        ("90", "1.5 hours = 90 minutes"),
        ("1234", "1,234"),
        ("36", r"\sum_{i=1}^{8} i = 36"),
    ],
)
def test_one_value_may_be_said_in_several_ways(reference, answer):
    assert number.judge(question(reference), answer).outcome is Outcome.RIGHT
    assert not isinstance(read(answer), Several)
    first = math.judge(question(reference), answer)
    assert isinstance(first, Job) or first.outcome is Outcome.RIGHT


@pytest.mark.parametrize(
    ("answer", "same"),
    [
        (r"\sqrt{4} = 2", True),
        (r"\sqrt{9} \approx 2", False),
        (r"\frac{0.5}{1} \approx \frac{0.7}{1}", False),
        ("5! = 120", True),
    ],
)
def test_formulas_are_compared_by_their_values(answer, same):
    (reference,) = (part.strip() for part in answer.replace("\\approx", "=").split("=")[1:])
    assert judged(math, reference, answer) == ("right" if same else "wrong")


def test_references_of_several_values_are_compared_as_they_were():
    for reference in ("3, 8", r"\{3, 8\}", "(3, 8)", r"3 \text{ or } 8", r"\pm 3"):
        assert isinstance(read(reference), Collection | Tuple)
    assert judged(math, "(3, 8)", "3, 8") == "right"


@pytest.mark.parametrize(
    "answer",
    [
        *("A or B", "(A) → (B)", r"A \to B", "A ≈ B", "A = B", "A/B", "(A) Paris or (B) London", "A. → B.", "(A)(B)"),
        *("A. Paris or B. London", "A) 3, B) 4", "A: or maybe B:", r"\text{A} \approx \text{B}"),
    ],
)
def test_two_options_are_no_option(answer):
    assert choice.letter(answer) is None


@pytest.mark.parametrize(
    ("answer", "letter"),
    [("B. Vitamin A and C", "B"), ("(C) both (A) and (B)", "C"), ("B. J. Smith, C. Jones", "B"), ("A: 3 to 8", "A")],
)
def test_letters_in_the_text_of_an_option_are_no_options(answer, letter):
    assert choice.letter(answer) == letter


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        *(("d) cost", "D"), ("c. 12", "C"), ("D - the cost of it", "D"), ("C — some words", "C"), ("D, cost", "D")),
        *(
            (r"D \text{ (cost)}", "D"),
            ("Option D: cost", "D"),
            ("（C）", "C"),
            ("Ｃ", "C"),
            ("C：Rome", "C"),
            ("Ⓒ", "C"),
        ),
        *((r"\textbf{(C)}\ 12", "C"), (r"\mathrm{C}", "C"), ("[[C]]", "C"), ("**C**", "C"), ("**C.** Rome", "C")),
        *(("C)", "C"), ("'C'", "C"), ("C 12", "C"), ("A (cost)", "A"), ("A: a train", "A"), ("option (c)", "C")),
        *(("I think it is C", "C"), ("The correct answer is C", "C"), ("Rome (C)", "C"), ("A is correct", "A")),
        *(("D. A is incorrect", "D"), ("D. B and C are wrong", "D"), ("D, because A and B fail", "D")),
        *(("D, not A", "D"), ("not A but D", "D"), ("It is not A, it is D", "D"), ("Option D, not option A", "D")),
        *(
            ("A train leaves", None),
            ("I think so", None),
            ("A small (red) train", None),
            ("the answer is a train", None),
        ),
        *(("Vitamin C", None), ("E-mail", None), ("B's", None), ("i.e. foo", None), ("U.S.", None)),
        *(("A is incorrect", None), ("not A", None), ("neither A nor B", None), ("D. A is correct", None)),
        *(("A (B)", None), ("A - B", None), ("It could be A or B", None), ("C or maybe D", None)),
    ],
)
def test_forms_of_an_option(answer, letter):
    assert choice.letter(answer) == letter


LONG = ["5 " + "a" * 180 + "1", "a " * 9000, "\\(" * 9000, "1 " * 9000, "-" * 18000, "{" * 18000, "$\\$" * 4000]


@pytest.mark.parametrize("answer", LONG)
def test_no_answer_takes_long_to_judge(answer):
    start = time.process_time()
    for judge in (math.judge, number.judge, choice.judge, text.judge):
        judge(question("5"), answer)
    assert time.process_time() - start < 2
