"""From samples to scores: counting, votes, and what undecided verdicts leave open."""

from __future__ import annotations

import itertools
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innerloop.errors import InputError
from innerloop.evaluate.measures import Measure, measures
from innerloop.evaluate.tally import cluster, tally
from innerloop.evaluate.verify.votes import answer_key
from innerloop.schema import Curve, Outcome, Question, Score, Source, Status, Trajectory

R, W, U = Outcome.RIGHT, Outcome.WRONG, Outcome.UNDECIDED


def sample(number: int, outcome: Outcome | None, answer: str | None = None, **more: object) -> Trajectory:
    values = {"id": f"q/{number}", "question_id": "q", "text": "", "source": Source.FILE, "sample": number}
    return Trajectory(**(values | {"outcome": outcome, "answer": answer} | more))


def counted(samples: list[Trajectory], **more: object) -> Score:
    (found,) = tally("s", samples, {}, **more)
    return found


def test_counts_votes_and_lengths() -> None:
    found = counted(
        [
            sample(0, R, "1/2", tokens=10),
            sample(1, R, r"\frac{1}{2}", tokens=20),
            sample(2, W, "North  West", status=Status.TRUNCATED),
            sample(3, W, r"\text{north west}"),
            sample(4, W, None),
            sample(5, U, "0.5"),
            sample(6, None, " ", status=Status.ERROR),
            sample(7, R, "9", source=Source.SHUFFLED),
        ]
    )
    assert (found.right, found.wrong, found.undecided, found.samples) == (2, 3, 2, 7), "a control is no sample"
    assert (found.truncated, found.failed, found.tokens) == (1, 1, 15)
    assert (found.votes_right, found.votes_wrong, found.votes_undecided) == ((2, 0), (0, 2), (1, 0))
    assert (found.abstained, found.abstained_undecided) == (2, 1)
    assert Score.from_table(Score.to_table([found])) == [found]


def test_the_order_in_which_samples_finished_does_not_show() -> None:
    questions = {name: Question(id=name, question="?", answer="1") for name in ("b", "a", "c")}
    samples = [sample(i, R, question_id=name, id=f"{name}/{i}") for i, name in enumerate(["z", "c", "y", "a", "b"])]
    found = tally("s", samples, questions)
    assert [score.question_id for score in found] == ["b", "a", "c", "y", "z"]
    assert tally("s", samples[::-1], questions) == found


def test_equal_votes_are_the_same_value_not_the_same_text() -> None:
    assert answer_key("10{,}000") == answer_key("10000") == answer_key("$10,000$")
    assert answer_key(r"\frac{3}{4}") == answer_key("0.75") != answer_key("75%")
    assert answer_key("(A)") != answer_key("(B)")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([R, W, U]), st.sampled_from("abc")), min_size=1, max_size=7), st.data())
def test_undecided_samples_are_bounded_by_every_way_to_decide_them(
    rows: list[tuple[Outcome, str]], data: st.DataObject
) -> None:
    found = counted([sample(i, outcome, answer) for i, (outcome, answer) in enumerate(rows)])
    k = data.draw(st.integers(1, len(rows)))
    open_ = [i for i, (outcome, _) in enumerate(rows) if outcome is U]
    for kind, tau in (("avg", None), ("pass", None), ("mg-pass", None), ("g-pass", 0.5), ("maj", None)):
        measure = Measure(kind=kind, k=k, tau=tau)
        low, high = measure.bounds(found)
        reached = []
        for decision in itertools.product((R, W), repeat=len(open_)):
            decided = dict(zip(open_, decision, strict=True))
            rest = [sample(i, decided.get(i, outcome), answer) for i, (outcome, answer) in enumerate(rows)]
            reached.append(measure.value(counted(rest)))
        assert (low, high) == pytest.approx((min(reached), max(reached)), abs=1e-12), kind
        value = measure.value(found)
        assert math.isnan(value) == (len(rows) - len(open_) < (1 if kind == "avg" else k)), kind


def test_the_decided_samples_alone_make_the_value() -> None:
    found = counted([sample(0, R), sample(1, W), sample(2, U), sample(3, U)])
    assert Measure(kind="avg").value(found) == 0.5, "not a quarter"
    assert Measure(kind="avg").bounds(found) == (0.25, 0.75)
    assert Measure(kind="pass", k=2).value(found) == 1.0
    assert math.isnan(Measure(kind="pass", k=3).value(found))
    assert Measure(kind="pass", k=3).bounds(found) == (0.75, 1.0)


def test_the_best_by_answer_loss_needs_curves() -> None:
    samples = [sample(i, outcome) for i, outcome in enumerate((W, R, R, W))]
    curves = [
        Curve(
            question_id="q",
            trajectory_id=f"q/{i}",
            position=(0, 1),
            token_id=(None, 1),
            token=(None, "x"),
            loss=(3.0, loss),
            answer_tokens=1,
        )
        for i, loss in enumerate((0.5, 0.1, 2.0, 1.0))
    ]
    found = counted(samples, curves=curves)
    names = [measure.name for measure in measures([found], (2, 4))]
    assert names[-2:] == ["best of 2 by answer loss", "best of 4 by answer loss"]
    assert Measure(kind="best", k=4).value(found) == 1.0
    # Pairs by loss: (.1 .5) (.1 1) (.1 2) right, (.5 1) (.5 2) (1 2) wrong
    assert Measure(kind="best", k=2).value(found) == pytest.approx(0.5)
    assert not [m for m in measures([counted(samples)], (2,)) if m.kind == "best"]


def test_which_columns_there_are() -> None:
    plain = counted([sample(i, R) for i in range(4)])
    assert [m.name for m in measures([plain])] == [
        "avg@4", "Pass@1", "Pass@4", "mG-Pass@4", "G-Pass@4 (τ=0.5)", "G-Pass@4 (τ=0.75)", "G-Pass@4 (τ=1)",
    ]  # fmt: skip
    fewer = counted([sample(i, R, "1") for i in range(2)])
    assert [m.name for m in measures([plain, fewer], (2,), (1,))] == [
        "avg@n", "Pass@2", "maj@2", "mG-Pass@2", "G-Pass@2 (τ=1)",
    ]  # fmt: skip
    with pytest.raises(InputError, match="--k 3: question 'q' has only 2 samples; take a k up to 2"):
        measures([plain, fewer], (1, 3))


def question(metadata: object) -> Question:
    return Question(id="q", question="?", answer="1", metadata=json.dumps(metadata))


def test_templates() -> None:
    assert cluster(question({"template": 7})) == "7"
    assert cluster(question({"other": 7})) is None
    assert cluster(Question(id="q", question="?", answer="1", metadata="not JSON")) is None
    symbolic = {"family": "gsm_symbolic", "entry": {"metadata": {"variables": {"name": "Ann", "n": 3}}}}
    same = {"family": "gsm_symbolic", "entry": {"metadata": {"variables": {"n": 9, "name": "Bob"}}}}
    assert cluster(question(symbolic)) == cluster(question(same)) is not None
