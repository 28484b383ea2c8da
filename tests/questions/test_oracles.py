"""Oracles: right to the end, true at every step, different ways, real mistakes."""

from __future__ import annotations

import ast
import math
import operator
import random
import re
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innerloop.errors import InputError
from innerloop.questions import load, oracles
from innerloop.questions.oracles import FAMILIES, Style, traces
from innerloop.questions.oracles.oracle import WAIT
from innerloop.schema import Outcome, Question

SOURCES = {  # several configurations of each family; a question without any trajectory is counted below
    "base_conversion": ["", "max_base=36&max_value=100000", "min_base=2&max_base=4"],
    "chain_sum": ["", "allow_negation=true&min_terms=1&max_terms=12", "max_digits=9"],
    "count_bits": ["", "max_n=5000"],
    "gcd": ["", "max_numbers=4&max_value=100000", "max_value=30"],
    "gsm_symbolic": [""],
    "lcm": ["", "max_numbers=4", "max_value=9&max_numbers=3"],
    "modular_chain": ["", "min_ops=1&max_ops=2&modulus=3", "min_ops=12&max_ops=20&modulus=97"],
    "number_sorting": ["", "max_decimals=0&max_value=5&min_value=-5", "max_numbers=30"],
    "products": ["", "min_terms=1&max_terms=4&allow_negation=true&max_digits=3"],
    "simple_equations": ["", "max_terms=12", "max_value=3&min_terms=3&max_terms=6"],
    "spell_backward": ["", "min_word_len=1&max_word_len=4"],
    "string_manipulation": ["", "min_num_rules=8&max_num_rules=20&max_string_length=40"],
}
RIGHT = [style for style in Style if style is not Style.WRONG]
SLIPPING = ["chain_sum", "gsm_symbolic", "lcm", "modular_chain", "products"]  # whose last step states the answer
ARITHMETIC = ["base_conversion", "chain_sum", "count_bits", "gcd", "gsm_symbolic", "lcm", "products"]


def sample(family: str, number: int, seed: int = 0) -> list[Question]:
    parts = SOURCES[family]
    found = []
    for place, parameters in enumerate(parts):
        more = f"&{parameters}" if parameters else ""
        found += load(f"gym:{family}?size={number // len(parts) + 1}&seed={seed + place}{more}")
    return found


def own_end(text: str) -> str:
    """What the trace itself ends in."""
    return text.splitlines()[-1] if text.endswith("]") else re.split(r"[ =;\n]", text)[-1]


def test_every_oracle_names_its_family() -> None:
    assert set(SOURCES) == set(FAMILIES)
    assert [oracles.oracle(family).family for family in FAMILIES] == list(FAMILIES)


@pytest.mark.model  # the verifier starts workers, and it takes its time
@pytest.mark.parametrize("family", FAMILIES)
def test_500_questions_are_traced_to_the_right_answer(family: str) -> None:
    """The answer that the trace itself ends in, judged by our verifier, over configurations and seeds."""
    from innerloop.evaluate.verify import Verifier

    questions = [q for seed in (0, 10) for q in sample(family, 300, seed)]
    assert len(questions) >= 500 or family in ("lcm", "gcd", "spell_backward")  # repeats are left out there
    items, none = [], 0
    for question in questions:
        found = [trace for style in RIGHT for trace in traces(question, style=style, seed=len(items))]
        none += not found
        items += [(question, f"{t.text}\n\\boxed{{{own_end(t.text)}}}") for t in found if t.style is not Style.LONG]
    with Verifier() as verifier:
        verdicts = verifier.verify(items)
    wrong = [
        (item, verdict) for item, verdict in zip(items, verdicts, strict=True) if verdict.outcome is not Outcome.RIGHT
    ]
    assert wrong == []
    assert none / len(questions) < 0.02, "only equations without a letter and endless rewritings are left out"


@pytest.mark.model  # worker processes
@pytest.mark.parametrize("family", FAMILIES)
def test_the_wrong_style_ends_in_an_answer_that_the_verifier_calls_wrong(family: str) -> None:
    from innerloop.evaluate.verify import Verifier

    items = []
    for question in sample(family, 60, seed=20):
        short = {trace.method: trace.text for trace in traces(question, seed=4)}
        for trace in traces(question, style="wrong", seed=4):
            right, wrong = short[trace.method], trace.text
            start = len(wrong) - len(trace.answer)
            assert wrong[start:] == trace.answer != question.answer
            assert wrong[:start] == right[: len(right) - len(question.answer)], "one slip, in the answer, at the end"
            assert own_end(wrong) == trace.answer
            items.append((question, f"{wrong}\n\\boxed{{{trace.answer}}}"))
    assert bool(items) == (family in SLIPPING)
    with Verifier() as verifier:
        assert {verdict.outcome for verdict in verifier.verify(items)} <= {Outcome.WRONG}


@pytest.mark.parametrize("family", FAMILIES)
def test_traces_are_true_different_and_correct_themselves(family: str) -> None:
    offered = []
    for question in sample(family, 30, seed=3):
        short = {t.method: t.text for t in traces(question)}
        long = {t.method: t.text for t in traces(question, style="long")}
        corrected = {t.method: t.text for t in traces(question, style="corrected")}
        offered.append(len(long))
        assert len(set(short.values())) == len(short), "two ways are two texts"
        assert short.keys() | corrected.keys() <= long.keys()
        for method, text in short.items():
            assert "boxed" not in text + long[method]
            assert question.answer in long[method].splitlines()[-1]
            if family in ARITHMETIC:
                assert false_parts(text) == []
                assert family == "gsm_symbolic" or false_parts(long[method]) == []  # there, units stand in between
            if method in corrected:
                check_correction(question, method, text, corrected[method])
    if family != "gsm_symbolic":
        assert sum(offered) / len(offered) >= 2


def check_correction(question: Question, method: str, short: str, corrected: str) -> None:
    """The mistake is another line than the right one, which follows at once; the rest is the short trace."""
    joint = oracles.oracle_of(question).joint
    lines = corrected.split(joint)
    if joint == "\n" and question.verifier == "gym:gsm_symbolic":
        lines = corrected.split("\n")
    (place,) = [i for i, line in enumerate(lines) if line.startswith(WAIT)]
    right = lines[place].removeprefix(WAIT)
    assert lines[place - 1] != right
    assert joint.join([*lines[: place - 1], right, *lines[place + 1 :]]) == short
    arithmetic = question.verifier.removeprefix("gym:") in ARITHMETIC
    if arithmetic and method not in ("bits", "multiples", "hexadecimal"):  # their mistakes may be no false equations
        assert len(false_parts(lines[place - 1])) >= 1
    if question.verifier == "gym:modular_chain":
        assert lines[place - 1].rpartition("=")[0] == right.rpartition("=")[0] or method == "from-the-end"


EQUATION = re.compile(r"(?<![\w.])[-\d(][-\d +*/().]*(?:= *[-\d(][-\d +*/().]*)+")


def false_parts(text: str) -> list[str]:
    """Equations between plain numbers that do not hold."""
    found = []
    for match in EQUATION.finditer(text):
        sides = [value(side) for side in match.group().rstrip(" .").split("=")]
        if len(set(sides)) > 1:
            found.append(match.group())
    return found


def value(side: str) -> Fraction:
    return walk(ast.parse(side.strip().rstrip("."), mode="eval").body)


def walk(node: ast.expr) -> Fraction:
    operators = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
    if isinstance(node, ast.Constant):
        return Fraction(str(node.value))
    if isinstance(node, ast.UnaryOp):
        return -walk(node.operand)
    assert isinstance(node, ast.BinOp)
    return operators[type(node.op)](walk(node.left), walk(node.right))


def test_the_checker_of_equations_finds_false_ones() -> None:
    assert false_parts("Take it: 2 + 3 = 5. And 7 = 2 * 3 + 1; (4 + 4) * 10 = 80") == []
    assert false_parts("2 + 3 = 6, 7 = 2 * 3 + 1 and 1 / 4 = 0.25") == ["2 + 3 = 6"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_question_style_and_seed_give_the_same(family: str) -> None:
    questions = sample(family, 12)
    for style in Style:
        once = [traces(q, style=style, seed=5) for q in questions]
        assert once == [traces(q, style=style, seed=5) for q in questions]
    firsts = {tuple(t.method for t in traces(q, style="long", seed=seed)) for q in questions for seed in range(3)}
    assert len(firsts) > 1 or family == "gsm_symbolic", "the order is drawn"


def ask(family: str, text: str, answer: object) -> Question:
    return Question(id="q", question=text, answer=str(answer), verifier=f"gym:{family}")


def check_all(question: Question, least: int = 1) -> None:
    """``traces`` itself compares every method's end with the answer that Python gives."""
    for style in RIGHT:
        found = traces(question, style=style)
        assert len(found) >= (0 if style is Style.CORRECTED else least)
        assert all(trace.style is Style.LONG or own_end(trace.text) == question.answer for trace in found)


WHOLE = st.integers(1, 10**6)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=9), st.randoms(use_true_random=False))
def test_any_chain_is_summed(terms: list[int], rng: random.Random) -> None:
    signs = [rng.choice("+-") for _ in terms[1:]]
    text = str(terms[0]) + "".join(f" {sign} {term}" for sign, term in zip(signs, terms[1:], strict=True))
    total = terms[0] + sum(term if sign == "+" else -term for sign, term in zip(signs, terms[1:], strict=True))
    check_all(ask("chain_sum", f"State the final answer to the following arithmetic problem: {text} =", total))


@settings(deadline=None, max_examples=60)
@given(st.lists(WHOLE, min_size=2, max_size=5))
def test_any_numbers_have_their_divisor_and_multiple(numbers: list[int]) -> None:
    listed = ", ".join(map(str, numbers))
    check_all(
        ask("gcd", f"Find the Greatest Common Divisor (GCD) of these numbers: {listed}. Give", math.gcd(*numbers))
    )
    check_all(ask("lcm", f"Find the Least Common Multiple (LCM) of these numbers: {listed}", math.lcm(*numbers)))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-9999, 9999), min_size=1, max_size=3))
def test_any_factors_are_multiplied(factors: list[int]) -> None:
    text = " * ".join(map(str, factors))
    check_all(ask("products", f"Solve the following multiplication: {text}. Give only", math.prod(factors)))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(2, 36), st.integers(2, 36))
def test_any_bases(number: int, source: int, target: int) -> None:
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"

    def written(base: int) -> str:
        rest, text = number, ""
        while rest or not text:
            rest, digit = divmod(rest, base)
            text = digits[digit] + text
        return text

    assert int(written(source), source) == number
    asked = f"Now, convert the base-{source} number {written(source)} to base-{target}\n"
    check_all(ask("base_conversion", asked, written(target)))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(["0.0", "-0.0", "1.0", "-3.25", "7.5", "1e-05", "12.0"]), min_size=1, max_size=9))
def test_equal_numbers_keep_their_order(numbers: list[str]) -> None:
    for direction in ("ascending", "descending"):
        answer = sorted(numbers, key=float, reverse=direction == "descending")
        text = f"Sort these numbers in {direction} order: {', '.join(numbers)}\nPlease follow"
        check_all(ask("number_sorting", text, answer), least=1)


@settings(deadline=None, max_examples=60)
@given(st.integers(-50, 50).filter(bool), st.integers(-99, 99), st.integers(-99, 99), st.booleans())
def test_any_equation_is_solved(slope: int, shift: int, solution: int, turned: bool) -> None:
    letter = f"{slope}*x" if abs(slope) > 1 else "x" if slope > 0 else "-x"
    sign = "-" if shift < 0 else "+"
    left = f"{shift} {'-' if slope < 0 else '+'} {letter.lstrip('-')}" if turned else f"{letter} {sign} {abs(shift)}"
    check_all(ask("simple_equations", f"Solve for x: {left} = {slope * solution + shift}", solution))


def test_numbers_too_large_to_factor_leave_the_other_ways() -> None:
    a, b = 3 * (10**18 + 9), 6 * (10**18 + 9)
    question = ask("gcd", f"Find the Greatest Common Divisor (GCD) of these numbers: {a}, {b}. Give", math.gcd(a, b))
    assert {trace.method for trace in traces(question)} == {"division", "subtraction", "halving"}


def test_what_cannot_be_traced_has_no_traces() -> None:
    assert traces(ask("simple_equations", "Solve for x: 0 = 0", 5)) == []
    assert traces(ask("gcd", "What is the meaning of it?", 5)) == []
    assert traces(ask("string_manipulation", "Transform it", "x")) == []


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "gsm_symbolic"])
def test_another_answer_is_refused_in_one_line(family: str) -> None:
    question = sample(family, 2)[0]
    with pytest.raises(InputError, match=r"the oracle's method '.*' ends in .*, but the answer is '99x'") as caught:
        traces(ask(family, question.question, "99x"))
    assert "\n" not in str(caught.value)


def test_a_worked_solution_that_ends_elsewhere_is_no_trace() -> None:
    (question,) = load("gym:gsm_symbolic?size=1")
    other = Question(id="q", question="?", answer="123456789", solution=question.solution, verifier=question.verifier)
    assert traces(other, style="long") == []
    assert traces(Question(id="q", question="?", answer="1", verifier="gym:gsm_symbolic"), style="long") == []


def test_families_without_an_oracle_are_told() -> None:
    with pytest.raises(
        InputError, match=r"gym:gcf: no oracle for this family \(there is one for base_conversion, .*gcd"
    ):
        traces(ask("gcf", "?", 1))
    with pytest.raises(InputError, match=r"question 'q' is not from the gym \(its verifier is math\)"):
        traces(Question(id="q", question="?", answer="1"))
