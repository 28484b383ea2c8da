"""Choosing support sets: against brute force, stable where equal, the same for the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import pvariance

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.outer.select import CHOICES, by_value, max_variance
from innerloop.outer.select.diverse import distance, runs
from innerloop.schema import Outcome, Question, Source, Trajectory

QUESTION = Question(id="q", question="?", answer="1")
WORDS = st.sampled_from(["a", "b", "c", "1", "+"])
TEXTS = st.lists(st.lists(WORDS, max_size=7).map(" ".join), min_size=1, max_size=7)


def trajectories(texts: Sequence[str], outcomes: Sequence[bool] | None = None) -> list[Trajectory]:
    return [
        Trajectory(
            id=f"q/file-{i}",
            question_id="q",
            text=text,
            source=Source.FILE,
            outcome=None if outcomes is None else Outcome.RIGHT if outcomes[i] else Outcome.WRONG,
        )
        for i, text in enumerate(texts)
    ]


@given(texts=TEXTS, seed=st.integers(0, 3), choice=st.sampled_from(sorted(CHOICES)), data=st.data())
def test_a_choice_is_k_different_ones_and_the_same_again(
    texts: list[str], seed: int, choice: str, data: st.DataObject
) -> None:
    given = trajectories(texts)
    count = data.draw(st.integers(1, len(given)))
    chosen = CHOICES[choice](seed)(QUESTION, given, count)
    assert len({trajectory.id for trajectory in chosen}) == count
    assert chosen == CHOICES[choice](seed)(QUESTION, given, count)
    assert all(trajectory in given for trajectory in chosen)


@given(outcomes=st.lists(st.booleans(), min_size=1, max_size=9), seed=st.integers(0, 9), data=st.data())
def test_max_variance_is_the_best_of_all_sets(outcomes: list[bool], seed: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(outcomes)))
    chosen = max_variance(seed)(QUESTION, trajectories(["t"] * len(outcomes), outcomes), count)
    found = [trajectory.outcome is Outcome.RIGHT for trajectory in chosen]
    assert len({trajectory.id for trajectory in chosen}) == count
    best = max(pvariance(list(map(float, own))) for own in combinations(outcomes, count))
    assert pvariance(list(map(float, found))) == pytest.approx(best)
    assert chosen == max_variance(seed)(QUESTION, trajectories(["t"] * len(outcomes), outcomes), count)


@given(data=st.permutations(range(6)), seed=st.integers(0, 3))
def test_what_is_drawn_does_not_depend_on_the_order_in_which_samples_came(data: list[int], seed: int) -> None:
    given = trajectories(["t"] * 6, [True, False] * 3)
    mixed = [given[i] for i in data]
    for choice in (CHOICES["random"](seed), max_variance(seed)):
        assert choice(QUESTION, mixed, 3) == choice(QUESTION, given, 3)


def test_max_variance_draws_among_equal_ones() -> None:
    given = trajectories(["t"] * 8, [True] * 4 + [False] * 4)
    assert len({tuple(t.id for t in max_variance(seed)(QUESTION, given, 2)) for seed in range(20)}) > 5


@given(texts=TEXTS, data=st.data())
def test_diverse_takes_the_farthest_and_is_within_half_of_the_best(texts: list[str], data: st.DataObject) -> None:
    given = trajectories(texts)
    count = data.draw(st.integers(1, len(given)))
    chosen = CHOICES["diverse"](0)(QUESTION, given, count)

    def apart(one: Trajectory, other: Trajectory) -> float:
        return distance(runs(one.text), runs(other.text))

    def spread(own: Sequence[Trajectory]) -> float:
        return min((apart(one, other) for one, other in combinations(own, 2)), default=1.0)

    def reach(trajectory: Trajectory, own: Sequence[Trajectory]) -> float:
        return min(apart(trajectory, other) for other in own)

    mean = {trajectory.id: sum(apart(trajectory, other) for other in given) for trajectory in given}
    assert mean[chosen[0].id] == min(mean.values())
    for i in range(1, count):
        left = [trajectory for trajectory in given if trajectory not in chosen[:i]]
        assert reach(chosen[i], chosen[:i]) == max(reach(trajectory, chosen[:i]) for trajectory in left)
    assert spread(chosen) >= max(spread(own) for own in combinations(given, count)) / 2 - 1e-12


@given(texts=st.lists(st.lists(WORDS, max_size=7).map(" ".join), min_size=3, max_size=3))
def test_the_distance_is_a_metric(texts: list[str]) -> None:
    a, b, c = map(runs, texts)
    assert distance(a, a) == 0
    assert distance(a, b) == distance(b, a)
    assert (distance(a, b) == 0) == (a == b)
    assert 0 <= distance(a, b) <= 1
    assert distance(a, c) <= distance(a, b) + distance(b, c) + 1e-12


def test_words_numbers_and_signs_count_and_case_does_not() -> None:
    assert runs("So 3+4 = 7") == {("so", "3", "+"), ("3", "+", "4"), ("+", "4", "="), ("4", "=", "7")}
    assert runs("") == {()}
    assert distance(runs("So, it is 7."), runs("so , IT is\n7 .")) == 0
    # 4 and 4 runs, 2 of them shared: 1 − 2/6
    assert distance(runs("a b c d e f"), runs("a b c d x y")) == pytest.approx(1 - 2 / 6)


def test_diverse_by_hand() -> None:
    texts = ["one two three four", "one two three five", "six seven eight nine", "one two three four five"]
    chosen = CHOICES["diverse"](0)(QUESTION, trajectories(texts), 4)
    # Runs: {123, 234}, {123, 235}, {678, 789}, {123, 234, 345}; row sums 2, 2.42, 3, 2.08.
    assert [trajectory.id[-1] for trajectory in chosen] == ["0", "2", "1", "3"]


def test_equal_ones_keep_their_order() -> None:
    given = trajectories(["x", "x", "x", "x"])
    assert list(
        by_value({f"q/file-{i}": value for i, value in enumerate((1.0, 2.0, 1.0, 2.0))})(QUESTION, given, 3)
    ) == [
        given[1],
        given[3],
        given[0],
    ]
    assert list(CHOICES["diverse"](0)(QUESTION, given, 2)) == given[:2]
    assert list(CHOICES["shortest"](0)(QUESTION, given, 2)) == given[:2]


def test_an_undefined_value_never_beats_a_defined_one() -> None:
    given = trajectories(["x", "x", "x", "x"])
    values = {f"q/file-{i}": value for i, value in enumerate((float("nan"), -1.0, 3.0, float("nan")))}
    assert list(by_value(values)(QUESTION, given, 3)) == [given[2], given[1], given[0]]
