"""The intervals: closed forms, invariances, and how often they cover the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innerloop.evaluate.statistics import difference_interval, mean_interval

VALUES = st.floats(-100, 100, allow_nan=False).map(lambda x: round(x, 3))
TABLES = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=3), st.lists(VALUES, min_size=1, max_size=4), min_size=2, max_size=6
)


def test_the_mean_is_that_of_the_questions_not_of_the_values():
    interval = mean_interval({"a": [0.0, 0.0, 0.0, 0.0], "b": [1.0]}, resamples=200)
    assert interval.mean == 0.5
    assert (interval.questions, interval.values, interval.reason) == (2, 5, None)
    # two questions: the bootstrap means are 0, 1/2 and 1, and so few questions leave the whole range open
    assert (interval.low, interval.high) == (0.0, 1.0)


def test_the_interval_of_many_questions_is_students():
    generator = np.random.default_rng(1)
    values = generator.normal(3.0, 2.0, size=200)
    interval = mean_interval({str(i): [v] for i, v in enumerate(values)}, level=0.9)
    # t(199) at 95 % is 1.6525
    half = 1.6525 * values.std(ddof=1) / math.sqrt(200)
    assert interval.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.1 * half)


@pytest.mark.parametrize("questions", [8, 25])
def test_intervals_cover_the_truth_about_as_often_as_they_say(questions: int):
    generator = np.random.default_rng(2)
    covered = 0
    for _ in range(200):
        table = {}
        for i in range(questions):  # the question's own level, then two noisy trajectories of it
            level = generator.normal(1.0, 1.0)
            table[str(i)] = list(generator.normal(level, 0.5, size=2))
        interval = mean_interval(table, resamples=300, generator=generator)
        covered += interval.low <= 1.0 <= interval.high
    # 95 % of 200 is 190 ± 3; an interval over values instead of questions covers about 83 % here
    assert 0.905 <= covered / 200 <= 0.99


def test_repeating_a_questions_values_does_not_narrow_the_interval():
    table = {"a": [0.0], "b": [1.0], "c": [5.0], "d": [2.0]}
    repeated = {question: values * 50 for question, values in table.items()}
    once, often = mean_interval(table), mean_interval(repeated)
    assert (once.low, once.high) == pytest.approx((often.low, often.high))


@settings(max_examples=25, deadline=None)
@given(TABLES, st.floats(0.01, 50), st.floats(-50, 50))
def test_shift_and_scale_move_the_interval_with_them(table, scale, shift):
    moved = {question: [scale * v + shift for v in values] for question, values in table.items()}
    before = mean_interval(table, resamples=150, generator=3)
    after = mean_interval(moved, resamples=150, generator=3)
    for name in ("mean", "low", "high"):
        assert getattr(after, name) == pytest.approx(scale * getattr(before, name) + shift, abs=1e-6, rel=1e-6)
    assert before.low <= before.mean + 1e-9
    assert before.mean <= before.high + 1e-9


@settings(max_examples=25, deadline=None)
@given(TABLES, st.randoms(use_true_random=False))
def test_the_order_of_questions_and_values_does_not_matter(table, random):
    questions = list(table)
    random.shuffle(questions)
    shuffled = {q: random.sample(table[q], len(table[q])) for q in questions}
    assert mean_interval(table, resamples=150) == mean_interval(shuffled, resamples=150)


@settings(max_examples=15, deadline=None)
@given(TABLES, TABLES)
def test_swapping_the_sides_turns_the_difference_round(a, b):
    there = difference_interval(a, b, resamples=2000)
    back = difference_interval(b, a, resamples=2000)
    assert there.mean == pytest.approx(-back.mean)
    assert there.paired == back.paired
    spread = 1e-9 + max(there.high - there.low, back.high - back.low)
    assert abs(there.low + back.high) <= 0.35 * spread


def test_pairing_removes_what_the_questions_share():
    generator = np.random.default_rng(4)
    hard = generator.normal(0, 10, size=30)
    a = {str(i): [h + 1 + generator.normal(0, 0.1)] for i, h in enumerate(hard)}
    b = {str(i): [h] for i, h in enumerate(hard)}
    paired = difference_interval(a, b)
    apart = difference_interval(a, b, paired=False)
    assert paired.paired is True
    assert apart.paired is False
    assert paired.excludes(0.0)
    assert not apart.excludes(0.0)
    assert paired.questions == 30
    assert apart.questions == 60
    # unpaired: the half width is about t(29)·√(2·100/30) = 5.3
    assert apart.high - apart.low == pytest.approx(2 * 5.3, rel=0.4)


def test_a_difference_without_common_questions_is_unpaired():
    interval = difference_interval({"a": [1.0], "b": [2.0]}, {"c": [5.0], "d": [7.0], "e": [6.0]}, resamples=500)
    assert interval.paired is False
    assert interval.mean == pytest.approx(1.5 - 6.0)
    assert (interval.low, interval.high) == (1 - 7, 2 - 5)  # two questions on one side leave the whole range open


def test_only_common_questions_enter_a_paired_difference():
    interval = difference_interval({"a": [1.0, 3.0], "b": [4.0], "z": [100.0]}, {"a": [1.0], "b": [1.0], "y": [-100.0]})
    assert interval.mean == 2.0
    assert (interval.questions, interval.values) == (2, 5)


@pytest.mark.parametrize(
    ("table", "mean", "questions"),
    [({}, math.nan, 0), ({"a": []}, math.nan, 0), ({"a": [2.0, 4.0]}, 3.0, 1), ({"a": [math.nan]}, math.nan, 0)],
)
def test_what_is_undefined_is_nan_with_a_reason(table, mean, questions):
    interval = mean_interval(table)
    assert interval.mean == pytest.approx(mean, nan_ok=True)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert interval.questions == questions
    assert interval.reason is not None
    assert f"there are {questions}" in interval.reason
    assert not interval.excludes(0.0)


def test_undefined_values_are_left_out_and_counted():
    interval = mean_interval({"a": [1.0, math.nan], "b": [3.0], "c": [math.nan]}, resamples=200)
    assert interval.mean == 2.0
    assert (interval.questions, interval.values) == (2, 2)
    assert interval.reason == "undefined values left out: 2"


def test_equal_values_have_an_interval_of_no_width():
    interval = mean_interval({str(i): [0.25] for i in range(7)}, resamples=200)
    assert (interval.low, interval.mean, interval.high) == (0.25, 0.25, 0.25)


def test_one_seed_gives_one_interval():
    table = {str(i): [math.sin(i)] for i in range(9)}
    assert mean_interval(table, generator=5) == mean_interval(table, generator=np.random.default_rng(5))
    assert mean_interval(table, generator=5) != mean_interval(table, generator=6)


@pytest.mark.parametrize(("setting", "value"), [("level", 1.0), ("level", 0.0), ("level", 95.0), ("resamples", 10)])
def test_settings_are_checked(setting, value):
    with pytest.raises(ValueError, match=f"{setting} is {value}"):
        mean_interval({"a": [1.0], "b": [2.0]}, **{setting: value})
