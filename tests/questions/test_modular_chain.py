"""The family of ours: nothing but the whole chain tells the answer."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter, defaultdict
from math import gcd

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare

from innerloop.evaluate.verify import gym as judge
from innerloop.questions import gym, load
from innerloop.questions.modular_chain import ModularChainConfig, ModularChainDataset
from innerloop.questions.oracles import traces
from innerloop.schema import Outcome, Question

CHAIN = re.compile(r"(\d+(?:[+*-]\d+)+)=\? mod (\d+), left to right")


def parts(question: str) -> tuple[list[int], list[str], int]:
    """Operands, operators, modulus."""
    found = CHAIN.fullmatch(question)
    assert found is not None, question
    return [int(n) for n in re.findall(r"\d+", found[1])], re.findall(r"[+*-]", found[1]), int(found[2])


def computed(operands: list[int], operators: list[str], modulus: int) -> int:
    """By Python's own precedence, with brackets."""
    text = "(" * len(operators) + str(operands[0])
    for sign, operand in zip(operators, operands[1:], strict=True):
        text += f"{sign}{operand})"
    return int(eval(text)) % modulus


def test_it_is_a_source_like_any_other() -> None:
    questions = load("gym:modular_chain?size=50&seed=0&min_ops=8&max_ops=8&modulus=10")
    assert len(questions) == 50
    for question in questions:
        operands, operators, modulus = parts(question.question)
        assert (len(operands), len(operators), modulus) == (9, 8, 10)
        assert question.answer == str(computed(operands, operators, modulus))
        assert (question.verifier, question.domain) == ("gym:modular_chain", "arithmetic")
    assert {len(parts(q.question)[1]) for q in load("gym:modular_chain?size=400")} == set(range(3, 13))


def test_its_scorer_judges_answers() -> None:
    (question,) = load("gym:modular_chain?size=1&modulus=97")
    assert judge.judge(question, question.answer).outcome is Outcome.RIGHT

    def verdict(answer: str) -> str:
        work = judge.judge(question, answer)
        return judge.run(work.payload)["outcome"]

    assert verdict(f" {question.answer}.0") == "wrong"
    assert (
        verdict(f"+{question.answer}") == verdict(f"0{question.answer}") == verdict(f"${question.answer}$") == "right"
    )
    assert verdict(str((int(question.answer) + 1) % 97)) == "wrong"
    dataset = ModularChainDataset(ModularChainConfig(seed=0, modulus=10))
    assert dataset.score_answer("00", {"answer": "0"}) == 1
    assert [dataset.score_answer(wrong, {"answer": "0"}) for wrong in (None, "", "-0", "10", "zero")] == [0, 0, 0, 0, 0]


@given(st.integers(3, 60), st.integers(0, 10**6), st.integers(0, 100))
def test_every_operation_can_be_undone(modulus: int, seed: int, index: int) -> None:
    dataset = ModularChainDataset(ModularChainConfig(seed=seed, modulus=modulus))
    item = dataset[index]
    operands, operators, _ = parts(item["question"])
    assert item["answer"] == str(computed(operands, operators, modulus))
    assert set(operators) & {"+", "-"}
    assert 0 <= operands[0] < modulus
    for sign, operand in zip(operators, operands[1:], strict=True):
        assert gcd(operand, modulus) == 1 < operand if sign == "*" else 0 <= operand < modulus
    results = {computed([first, *operands[1:]], operators, modulus) for first in range(modulus)}
    assert results == set(range(modulus)), "a bijection of the first operand: exactly uniform whatever the rest is"
    place = next(i for i, sign in enumerate(operators, start=1) if sign != "*")
    for other in (0, 1, modulus - 1):
        rest = [*operands[:place], other, *operands[place + 1 :]]
        assert (computed(rest, operators, modulus) == int(item["answer"])) == (other == operands[place])


def test_the_answer_is_exactly_uniform_given_any_single_operand() -> None:
    """All chains of two operations modulo 6 with equal weight, operators drawn as the family draws them."""
    counts: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
    for signs in itertools.product("+-*", repeat=2):
        if set(signs) == {"*"}:
            continue
        ranges = [[5] if sign == "*" else range(6) for sign in signs]
        for operands in itertools.product(range(6), *ranges):
            for place, operand in enumerate(operands):
                counts[place, operand][computed(list(operands), list(signs), 6)] += 6 ** signs.count("*")
    assert all(len(set(own.values())) == 1 and len(own) == 6 for own in counts.values())


@pytest.mark.slow
def test_samples_show_no_shortcut() -> None:
    """6,000 chains: answers uniform, and independent of each operand, each operator and the value one step before."""
    dataset = ModularChainDataset(ModularChainConfig(seed=0, min_ops=8, max_ops=8))
    rows = [parts(dataset[i]["question"]) for i in range(6000)]
    answers = [computed(*row) for row in rows]
    assert chisquare(list(Counter(answers).values())).pvalue > 1e-3

    def pvalue(seen: list[object]) -> float:
        kinds = sorted(set(map(str, seen)))
        table = [[0] * 10 for _ in kinds]
        for thing, answer in zip(seen, answers, strict=True):
            table[kinds.index(str(thing))][answer] += 1
        return float(chi2_contingency(table).pvalue)

    tests = [pvalue([operands[i] for operands, _, _ in rows]) for i in range(9)]
    tests += [pvalue([operators[i] for _, operators, _ in rows]) for i in range(8)]
    tests += [pvalue([(operators[-1], operands[-1]) for operands, operators, _ in rows])]
    assert min(tests) > 1e-3 / len(tests)
    wrong = [computed(operands[:-1], operators[:-1], 10) for operands, operators, _ in rows]
    hits = sum(value == answer for value, answer in zip(wrong, answers, strict=True)) / len(rows)
    assert hits < 0.16, "3v, 7v and 9v are v for two of ten values; v + b and v - b are for one"


def test_no_step_may_be_left_out() -> None:
    """Any one operation left out, the answer stays once in ten times (an addition) or twice (a multiplication)."""
    dataset = ModularChainDataset(ModularChainConfig(seed=1, min_ops=6, max_ops=6))
    same = total = 0
    for operands, operators, modulus in (parts(dataset[i]["question"]) for i in range(1500)):
        for i in range(len(operators)):
            left_out = [*operands[: i + 1], *operands[i + 2 :]]
            value = computed(left_out, operators[:i] + operators[i + 1 :], modulus)
            same += value == computed(operands, operators, modulus)
            total += 1
    assert 0.08 < same / total < 0.16


def test_seeds_and_places_do_not_share_random_states() -> None:
    def texts(seed: int) -> list[str]:
        dataset = ModularChainDataset(ModularChainConfig(seed=seed, min_ops=10))
        return [dataset[i]["question"] for i in range(200)]

    assert texts(0) == texts(0)
    assert not set(texts(0)) & (set(texts(1)) | set(texts(gym.STRIDE)))


def test_the_short_trace_is_the_running_values() -> None:
    question = Question(id="q", question="3+5*7-8=? mod 10, left to right", answer="8", verifier="gym:modular_chain")
    found = {trace.method: trace.text for trace in traces(question)}
    assert found == {
        "running": "3+5=8;8*7=6;6-8=8",
        "reduce-last": "3+5=8;8*7=56;56-8=48;48%10=8",
        "from-the-end": "-8:*1+2;*7:*7+2;+5:*7+7;3*7+7=8",
    }
    (slip,) = [t.text for t in traces(question, style="corrected", seed=2) if t.method == "running"]
    assert re.search(r"(.)=\d;Wait, that is wrong: ", slip)


@pytest.mark.parametrize("seed", range(5))
def test_every_method_runs_through_any_chain(seed: int) -> None:
    rng = random.Random(seed)
    parameters = f"size=40&seed={seed}&modulus={rng.randint(3, 1000)}&min_ops=1&max_ops=20"
    for question in load(f"gym:modular_chain?{parameters}"):
        assert len(traces(question)) >= 2  # one operation modulo m may be the same in two ways
