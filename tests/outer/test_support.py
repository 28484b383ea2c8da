from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.errors import InputError
from innerloop.outer.select import CHOICES
from innerloop.outer.support import enough, passes, support_sets
from innerloop.schema import Question, Source, Trajectory


def question(name: str) -> Question:
    return Question(id=name, question=f"{name}?", answer="1")


def trajectory(name: str, number: int, text: str = "so") -> Trajectory:
    return Trajectory(id=f"{name}/file-{number}", question_id=name, text=text, source=Source.FILE)


QUESTIONS = [question(f"q{i}") for i in range(5)]


def given_trajectories(count: int) -> list[Trajectory]:
    return [trajectory(q.id, i, "x" * (count - i)) for q in QUESTIONS for i in range(count)]


@given(size=st.integers(1, 6), count=st.integers(1, 4), seed=st.integers(0, 99))
def test_every_pass_shows_each_question_once_and_trajectories_come_equally_often(
    size: int, count: int, seed: int
) -> None:
    sets = support_sets(QUESTIONS, given_trajectories(6), size, CHOICES["random"](seed))
    order = list(passes(sets, count * size, seed))
    for turn in range(count * size):
        assert {name for name, _ in order[turn * 5 : turn * 5 + 5]} == {q.id for q in QUESTIONS}
    times = Counter(shown.id for _, shown in order if shown)
    assert set(times.values()) == {count}
    assert len(times) == 5 * size
    assert order == list(passes(sets, count * size, seed))


def test_the_number_of_passes_over_a_question_does_not_depend_on_its_trajectories() -> None:
    lengths = {
        k: len(list(passes(support_sets(QUESTIONS, given_trajectories(4), k, CHOICES["first"](0)), 3, 0)))
        for k in (1, 4)
    }
    assert lengths == {1: 15, 4: 15}


def test_passes_come_in_different_orders() -> None:
    sets = support_sets(QUESTIONS, given_trajectories(1), 1, CHOICES["first"](0))
    order = [name for name, _ in passes(sets, 4, 0)]
    assert len({tuple(order[i : i + 5]) for i in range(0, 20, 5)}) > 1


def test_too_few_trajectories_are_named() -> None:
    few = [*given_trajectories(2), trajectory("q0", 7)]
    with pytest.raises(InputError, match=r"--support 3: 4 of 5 questions have fewer right trajectories \(q1 has 2\)"):
        support_sets(QUESTIONS, few, 3, CHOICES["first"](0))
    with pytest.raises(InputError, match=r"--support 1: 5 of 5 .* has 0\)"):
        support_sets(QUESTIONS, [], None, CHOICES["first"](0))
    kept, others = enough(QUESTIONS, few, 3)
    assert ([q.id for q in kept], others) == (["q0"], 4)


def test_simple_choices() -> None:
    own = given_trajectories(4)[:4]
    assert list(CHOICES["first"](0)(QUESTIONS[0], own, 4)) == own
    assert list(CHOICES["shortest"](0)(QUESTIONS[0], own, 3)) == own[:0:-1]
    drawn = {tuple(t.id for t in CHOICES["random"](seed)(QUESTIONS[0], own, 4)) for seed in range(20)}
    assert len(drawn) > 5
