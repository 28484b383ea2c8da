"""``--trajectories oracle…``: which trajectories it gives, and what it says where it cannot."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from innerloop.errors import InputError
from innerloop.evaluate.aggregate import aggregate
from innerloop.evaluate.groups import grouped
from innerloop.questions import load
from innerloop.report.statements import statements
from innerloop.rollout.given import given, is_file
from innerloop.rollout.sample import before_box
from innerloop.schema import Curve, Mode, Outcome, Question, Source, Status, Trajectory
from innerloop.store import Run
from innerloop.verbs.scoring import Known, read
from innerloop.verbs.trajectories import gather, judged

Cli = Callable[..., Any]
GCD = load("gym:gcd?size=6&seed=3")


def test_records_are_complete_right_and_of_no_model() -> None:
    found = given("oracle", GCD)
    for trajectory in found:
        question = next(q for q in GCD if q.id == trajectory.question_id)
        method = trajectory.id.removeprefix(f"{question.id}/oracle-").removesuffix("-short-0")
        assert method in ("division", "subtraction", "primes", "halving")
        assert (trajectory.source, trajectory.outcome, trajectory.status) == (
            Source.ORACLE,
            Outcome.RIGHT,
            Status.COMPLETE,
        )
        assert (trajectory.model, trajectory.mode, trajectory.answer) == (None, Mode.PLAIN, question.answer)
        assert trajectory.final == f"{trajectory.text}\n\n**Final Answer**\n\\boxed{{{question.answer}}}"
        assert before_box(trajectory.final).removesuffix("\n\n**Final Answer**") == trajectory.text
    assert len({trajectory.id for trajectory in found}) == len(found)
    assert [t.sample for t in found if t.question_id == GCD[0].id] == list(range(len(found) // len(GCD)))[:4]


def test_the_number_the_styles_and_the_methods_can_be_chosen() -> None:
    def names(source: str, seed: int = 0) -> list[str]:
        return [t.id.partition("/oracle-")[2] for t in given(source, GCD[:1], seed=seed)]

    assert len(names("oracle?per_question=2")) == 2
    assert sorted(names("oracle?method=primes,division")) == ["division-short-0", "primes-short-0"]
    assert names("oracle?style=long&method=primes") == ["primes-long-0"]
    mixed = names("oracle?style=short,corrected&method=division,primes&per_question=3")
    assert [name.split("-")[1] for name in mixed] == ["short", "short", "corrected"], "methods first, then styles"
    assert names("oracle?per_question=1", seed=4) == names("oracle?per_question=1", seed=4)
    assert len({tuple(names("oracle?per_question=1", seed=seed)) for seed in range(9)}) > 1


def test_one_per_question_takes_different_methods() -> None:
    found = given("oracle?per_question=1", load("gym:gcd?size=40"))
    assert len(found) == 40
    assert len(Counter(t.id.split("oracle-")[1] for t in found)) == 4


def test_questions_without_a_trajectory_are_skipped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    nothing = dataclasses.replace(GCD[0], id="none", question="What is it?")
    with caplog.at_level(logging.INFO, "innerloop"):
        found = given("oracle", [*GCD, nothing])
    assert {t.question_id for t in found} == {question.id for question in GCD}
    assert "oracle: 1 of 7 questions have no such trajectory and are skipped" in caplog.text


FALLS_SHORT = [dataclasses.replace(GCD[0], id="none", question="What is it?")]


@pytest.mark.parametrize(
    ("source", "questions", "message"),
    [
        (
            "oracle?per_question=9",
            GCD,
            r"6 of 6 questions have fewer than 9 such trajectories \(the least is \d, e\.g\.",
        ),
        ("oracle?per_question=1", [*GCD, *FALLS_SHORT], r"1 of 7 questions have fewer than 1.*the least is 0.*'none'"),
        ("oracle", FALLS_SHORT, r"1 of 1 questions have fewer than 1 such trajectories.*add styles: short, long"),
        ("oracle?style=brief", GCD, r"no style 'brief' \(there are short, long, corrected, wrong\)"),
        ("oracle?style=lon", GCD, r"no style 'lon' .*did you mean 'long'\?"),
        (
            "oracle?styles=long",
            GCD,
            r"no parameter 'styles' \(it has style, method, per_question\); did you mean 'style'",
        ),
        ("oracle?style", GCD, r"style has no value; write e\.g\. oracle\?style=long&per_question=2"),
        ("oracle?per_question=0", GCD, r"per_question is '0'; give a number of trajectories from 1 up"),
        ("oracle?per_question=two", GCD, r"per_question is 'two'"),
        ("oracle?method=euclid", GCD, r"no method 'euclid' \(there are division, subtraction, primes, halving\)"),
        ("oracle", [Question(id="a", question="1 + 1?", answer="2")], r"question 'a' is not from the gym"),
        ("oracle", load("gym:leg_counting?size=1"), r"gym:leg_counting: no oracle.*there is one for base_conversion"),
    ],
)
def test_faults_are_told_in_one_line(source: str, questions: list[Question], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        given(source, questions)
    assert "\n" not in str(caught.value)


def test_a_near_miss_is_told() -> None:
    with pytest.raises(
        InputError, match=r"'oracles': no such file or run folder; give 'solutions', 'oracle', .*'oracle'\?"
    ):
        given("oracles", GCD)


def test_it_is_no_file_and_needs_questions() -> None:
    assert not is_file("oracle?style=long")
    assert is_file("oracle.jsonl")
    with pytest.raises(InputError, match="--questions is missing"):
        gather(None, ["oracle"], limit=None, seed=0)
    questions, found = gather("gym:gcd?size=9&seed=3", ["oracle?style=long", "oracle?style=corrected"], limit=2, seed=1)
    assert {t.question_id for t in found} == {q.id for q in questions} == {q.id for q in GCD[:2]}
    assert gather("gym:gcd?size=9&seed=3", ["oracle?style=corrected"], limit=2, seed=2)[1] != found


def test_the_page_and_the_numbers_know_them() -> None:
    oracle, solution = (
        Trajectory(id=f"a/{source}", question_id="a", text="t", source=source, outcome=Outcome.RIGHT)
        for source in (Source.ORACLE, Source.SOLUTION)
    )
    control = Trajectory(id="a/oracle/shuffled", question_id="a", text="t", source=Source.SHUFFLED)
    groups = grouped([oracle, solution, control])
    group = groups[oracle.id]
    assert (group.key, group.label, group.kind) == ("oracle-any-any", "Oracle trajectories", "solution")
    assert groups[solution.id].rank < group.rank < groups[control.id].rank
    curves = [
        Curve(
            question_id="a",
            trajectory_id=t.id,
            position=(0, 1),
            token_id=(None, 1),
            token=(None, "t"),
            loss=(2.0, end),
            answer_tokens=1,
        )
        for t, end in ((oracle, 1.0), (solution, 1.5), (control, 2.5))
    ]
    result = aggregate(curves, [oracle, solution, control])
    pairs = {(d.minuend.label, d.subtrahend.label) for d in result.differences}
    assert ("Oracle trajectories", "Control: shuffled tokens") in pairs
    from innerloop.evaluate.rows import rows

    shown = rows(aggregate(curves[:1] + curves[2:], [oracle, control]))
    assert statements(shown["groups"], shown["differences"])[0].startswith("Oracle trajectories:")


def test_they_are_no_samples_to_score(tmp_path: Path) -> None:
    with Run.start(tmp_path / "R", "probe", {}, command=None, model=None) as run:
        run.write("questions", Question.to_table(GCD))
        run.write("trajectories", Trajectory.to_table(given("oracle", GCD)))
    with pytest.raises(InputError, match="holds no samples to score"):
        read(str(tmp_path / "R"), Known(), limit=None, out=tmp_path / "E")
    assert given(str(tmp_path / "R"), GCD) == given("oracle", GCD), "another run's oracle trajectories can be given"


@pytest.mark.model  # worker processes
def test_wrong_ones_carry_their_own_answer_and_the_verifiers_word() -> None:
    questions, found = gather("gym:chain_sum?size=5&seed=3", ["oracle", "oracle?style=wrong"], limit=None, seed=1)
    answers = {question.id: question.answer for question in questions}
    wrong = [t for t in found if t.id.endswith("-wrong-0")]
    assert wrong
    assert all(t.outcome is None and t.answer != answers[t.question_id] for t in wrong)
    assert all(str(t.final).endswith(f"\\boxed{{{t.answer}}}") for t in wrong)
    outcomes = {t.id: t.outcome for t in judged(found, questions)}
    assert {outcomes[t.id] for t in wrong} == {Outcome.WRONG}
    assert {outcomes[t.id] for t in found if t not in wrong} == {Outcome.RIGHT}


@pytest.mark.parametrize("verb", ["probe", "update", "landscape"])
def test_every_verb_tells_of_faults_before_it_loads_a_model(cli: Cli, tmp_path: Path, verb: str) -> None:
    out = tmp_path / "R"
    more = ("--plane", "path") if verb == "landscape" else ()
    common = (verb, *more, "--model", "nowhere/none", "--out", out, "--questions")
    ran = cli(*common, "gym:leg_counting?size=2", "--trajectories", "oracle")
    assert (ran.status, ran.out) == (2, "")
    assert "gym:leg_counting: no oracle for this family" in ran.err
    ran = cli(*common, "gym:gcd?size=2&seed=3", "--trajectories", "oracle?per_question=7")
    assert "2 of 2 questions have fewer than 7" in ran.err
    assert not out.exists()
    assert "oracle?style=short|long|corrected|wrong" in " ".join(cli(verb, "--help").out.replace("│", " ").split())


@pytest.mark.model
@pytest.mark.parametrize("verb", ["probe", "update", "landscape"])
def test_every_verb_takes_them(cli: Cli, tmp_path: Path, tiny_model: Path, verb: str) -> None:
    out = tmp_path / "R"
    more = ("--plane", "path", "--points", "3") if verb == "landscape" else ()
    ran = cli(
        *(verb, "--model", tiny_model, "--questions", "gym:modular_chain?size=2&max_ops=4", "--out", out),
        *("--trajectories", "oracle?per_question=2", "--controls", "shuffled", "--controls-of", "oracle", *more),
    )
    assert ran.status == 0, ran.err
    kept = Run.open(out).trajectories()
    assert Counter(t.source for t in kept) == {Source.ORACLE: 4, Source.SHUFFLED: 4}
    assert all(t.outcome is Outcome.RIGHT for t in kept if t.source is Source.ORACLE)
