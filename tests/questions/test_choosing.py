"""Which questions are taken: drawn ones, cleaned ones, several sources by their weights."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.errors import InputError
from innerloop.outer.support import passes
from innerloop.questions import load, load_all
from innerloop.questions.choosing import drawn
from innerloop.questions.cleaning import NAMES, clean
from innerloop.schema import Question
from innerloop.verbs.rollout import RolloutSettings
from innerloop.verbs.shared import configuration
from innerloop.verbs.train.grpo import GrpoSettings, _in_whole_steps
from innerloop.verbs.train.sft import SftSettings


def file(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def sums(path: Path, count: int, first: int = 0) -> str:
    rows = [
        {"id": f"{path.stem}-{i}", "question": f"{i} + {i}?", "answer": f"{2 * i}"} for i in range(first, first + count)
    ]
    return file(path, rows)


# Drawn


@given(names=st.lists(st.text(max_size=4), unique=True, max_size=30), few=st.integers(0, 10), seed=st.integers(0, 9))
def test_more_questions_hold_the_fewer(names: list[str], few: int, seed: int) -> None:
    assert drawn(names, few, seed) <= drawn(names, few + 3, seed)
    assert len(drawn(names, few, seed)) == min(few, len(names))
    assert drawn(names[::-1], few, seed) == drawn(names, few, seed), "the source's order does not matter"


def test_a_draw_takes_each_question_equally_often() -> None:
    names = [f"q{i}" for i in range(20)]
    often = Counter(name for seed in range(1000) for name in drawn(names, 5, seed))
    assert set(often) == set(names)
    assert all(180 < count < 320 for count in often.values())  # 250 expected, sd 14


def test_drawn_questions_come_in_the_sources_order(tmp_path: Path) -> None:
    source = sums(tmp_path / "q.jsonl", 50)
    whole = [question.id for question in load(source)]
    found = [question.id for question in load(source, limit=8, seed=3, draw=True)]
    assert found == [name for name in whole if name in set(found)]
    assert found != whole[:8]
    assert [question.id for question in load(source, limit=8, seed=4, draw=True)] != found
    assert [question.id for question in load(source, limit=8)] == whole[:8], "without --draw the first ones"


def test_a_draw_needs_a_number_and_is_part_of_the_run() -> None:
    with pytest.raises(InputError, match="--draw: say with --limit how many"):
        RolloutSettings(questions="q", draw=True)
    assert "draw" not in configuration(RolloutSettings(questions="q", limit=3))
    assert configuration(RolloutSettings(questions="q", limit=3, draw=True))["draw"] is True


# Cleaned

MIXED = [
    ("How many apples?", "12", None),
    ("HOW many  apples?", "12", "unique"),
    ("What is half of 3?", "3/2", "integer-answer"),
    ("Give -4 + 1.", "-3", "integer-answer"),
    ("Prove that 2 is even. What is 2?", "2", "no-proof"),
    ("Which is even? (A) 3 (B) 4 (C) 5", "4", "no-choice"),
    ("Which is even?\nA. 3\nB. 4", "4", "no-choice"),
    ("In the figure, how long is a?", "4", "no-picture"),
    ("[asy] draw(0); [/asy] How long is it?", "5", "no-picture"),
    ("If A) holds, how many are there?", "6", None),
    ("The proofreader finds 7 faults. How many?", "7", None),
]
QUESTIONS = [Question(id=f"q{i}", question=text, answer=answer) for i, (text, answer, _) in enumerate(MIXED)]


@pytest.mark.parametrize("name", NAMES)
def test_each_filter_leaves_out_its_own(name: str) -> None:
    kept, removed = clean(QUESTIONS, [name])
    gone = {question.id for question in QUESTIONS} - {question.id for question in kept}
    assert gone == {f"q{i}" for i, (_, _, why) in enumerate(MIXED) if why == name}
    assert removed == {name: len(gone)}


def test_filters_count_one_after_the_other() -> None:
    kept, removed = clean([*QUESTIONS, QUESTIONS[2]], ["integer-answer", "unique"])
    assert removed == {"integer-answer": 3, "unique": 1}, "what a filter has left out is not counted again"
    assert len(kept) == len(QUESTIONS) - 3


def test_cleaning_comes_before_the_limit_and_says_its_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"id": f"q{i}", "question": text, "answer": answer} for i, (text, answer, _) in enumerate(MIXED)]
    source = file(tmp_path / "q.jsonl", rows)
    with caplog.at_level(logging.INFO, "innerloop"):
        found = load(source, limit=2, clean=("integer-answer", "unique"))
    assert [question.id for question in found] == ["q0", "q4"]
    assert "8 of 11 questions are left after cleaning (left out: integer-answer 2, unique 1)" in caplog.text
    with pytest.raises(InputError, match="--clean integer-answer leaves none of its 1 questions"):
        load(file(tmp_path / "r.jsonl", [{"question": "?", "answer": "x"}]), clean=("integer-answer",))


def test_a_trajectory_of_a_question_that_was_cleaned_away_is_left_out(tmp_path: Path) -> None:
    from innerloop.verbs.trajectories import gather

    source = file(
        tmp_path / "q.jsonl",
        [{"id": "a", "question": "1?", "answer": "1"}, {"id": "b", "question": "2?", "answer": "x"}],
    )
    told = file(tmp_path / "t.jsonl", [{"question_id": name, "text": "so"} for name in ("a", "b")])
    questions, given_ones = gather(source, [told], limit=None, seed=0, clean=("integer-answer",))
    assert [question.id for question in questions] == ["a"]
    assert [trajectory.question_id for trajectory in given_ones] == ["a"]


# Several sources


def test_several_sources_are_one_after_the_other(tmp_path: Path) -> None:
    first, other = sums(tmp_path / "a.jsonl", 3), sums(tmp_path / "b.jsonl", 2)
    assert [question.id for question in load_all([first, other])] == ["a-0", "a-1", "a-2", "b-0", "b-1"]
    assert len(load_all([first, first])) == 3, "the same question counts once"
    clash = file(tmp_path / "c.jsonl", [{"id": "a-0", "question": "Another?", "answer": "1"}])
    with pytest.raises(InputError, match="question 'a-0' is another one in"):
        load_all([first, clash])


@pytest.mark.parametrize("recipe", [SftSettings, GrpoSettings])
def test_one_source_is_recorded_as_it_always_was(recipe: Any) -> None:
    assert recipe(questions="q").questions == ("q",)
    assert configuration(recipe(questions="q"))["questions"] == "q"
    assert configuration(recipe(questions=("q", "r")))["questions"] == ["q", "r"]
    assert configuration(SftSettings())["questions"] is None
    with pytest.raises(InputError, match="--question-weights: 1 weights for 2 sources"):
        recipe(questions=("q", "r"), question_weights=(1.0,))
    with pytest.raises(InputError, match="--question-weights 0: must be more than 0"):
        recipe(questions=("q", "r"), question_weights=(1.0, 0.0))


@given(sizes=st.tuples(st.integers(1, 9), st.integers(1, 9)), weights=st.tuples(st.floats(0.1, 9), st.floats(0.1, 9)))
def test_a_pass_has_each_source_by_its_weight(sizes: tuple[int, int], weights: tuple[float, float]) -> None:
    groups = [[f"{source}{i}" for i in range(size)] for source, size in zip("ab", sizes, strict=True)]
    sets = {name: (name,) for group in groups for name in group}
    total = sum(sizes)
    order = [name for name, _ in passes(sets, 12, 0, mix=list(zip(groups, weights, strict=True)))]
    assert len(order) == 12 * total
    for turn in range(12):
        share = sum(name[0] == "a" for name in order[turn * total : (turn + 1) * total])
        assert abs(share - total * weights[0] / sum(weights)) < 1
    for group in groups:
        times = Counter(name for name in order if name in group)
        shown = [times[name] for name in group]
        assert max(shown) - min(shown) <= 1, "its questions take turns"


def test_grpo_asks_by_weight(tmp_path: Path) -> None:
    first, other = sums(tmp_path / "a.jsonl", 30), sums(tmp_path / "b.jsonl", 10, first=100)
    settings = GrpoSettings(questions=(first, other), question_weights=(1, 3), group=2, batch_size=2)
    order = _in_whole_steps(settings, load_all(settings.questions))
    assert Counter(name[0] for name in order) == {"a": 10, "b": 30}
    plain = GrpoSettings(questions=(first, other), group=2, batch_size=2)
    assert Counter(name[0] for name in _in_whole_steps(plain, load_all(plain.questions))) == {"a": 30, "b": 10}


# Fig. 8: the same questions for every K


def told(path: Path, counts: dict[str, int]) -> str:
    rows = [
        {"question_id": name, "text": f"{name} way {i}", "correct": True}
        for name, count in counts.items()
        for i in range(count)
    ]
    return file(path, rows)


@pytest.mark.model
@pytest.mark.parametrize("support", [1, 2, 4, 8])
def test_every_k_has_the_same_questions_and_rows(tmp_path: Path, model: Path, support: int) -> None:
    from innerloop.verbs.train.sft import _rows, _support

    questions = sums(tmp_path / "q.jsonl", 4)
    counts = {"q-0": 1, "q-1": 3, "q-2": 8}  # and nothing is right for q-3
    source = told(tmp_path / "t.jsonl", counts)
    settings = SftSettings(
        model=str(model),
        questions=(questions,),
        trajectories=(source,),
        support=support,
        at_most=True,
        select="first",
        per_pass="right",
    )
    found = _support(settings, settings.trajectories)
    assert {name: len(own) for name, own in found.sets.items()} == {
        name: min(support, count) for name, count in counts.items()
    }
    rows, _ = _rows(settings, settings.speaker(), found)
    assert Counter(row.question_id for row in rows) == counts, "as many rows as it has right ones, whatever K"
    distinct = {name: {row.trajectory_id for row in rows if row.question_id == name} for name in counts}
    assert {name: len(own) for name, own in distinct.items()} == {name: min(support, n) for name, n in counts.items()}


def test_at_most_is_for_a_number_and_not_for_leaving_out() -> None:
    with pytest.raises(InputError, match="--at-most: say with --support"):
        SftSettings(questions="q", at_most=True)
    with pytest.raises(InputError, match="--at-most and --skip-short"):
        SftSettings(questions="q", at_most=True, skip_short=True, support=2)
