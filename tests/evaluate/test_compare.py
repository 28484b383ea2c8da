"""Intervals of whole tables, permutation p-values and Holm's correction, each against an independent second way."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from innerloop.evaluate.compare import clusters_of, differences, holm, permutation_p
from innerloop.evaluate.measures import measures
from innerloop.evaluate.resample import intervals
from innerloop.evaluate.statistics import expanded_level
from innerloop.schema import Score


def score(question: int, right: int, n: int = 8, **more: object) -> Score:
    return Score(
        id=f"s|{question}", series="s", question_id=f"q-{question}", right=right, wrong=n - right, undecided=0, **more
    )


# Intervals


def scipys(values: np.ndarray) -> tuple[float, float]:
    found = stats.bootstrap(
        (values,), np.mean, confidence_level=expanded_level(0.95, len(values)), method="BCa", n_resamples=9999, rng=1
    )
    return found.confidence_interval.low, found.confidence_interval.high


def test_the_interval_is_that_of_scipys_bootstrap() -> None:
    draw = np.random.default_rng(0)
    values = np.column_stack([draw.random(40), draw.random(40) ** 6, 1 - draw.random(40) ** 9])
    for column, found in enumerate(intervals(values)):
        low, high = scipys(values[:, column])
        assert found.mean == pytest.approx(values[:, column].mean(), abs=1e-12)
        assert (found.low, found.high) == pytest.approx((low, high), abs=0.04 * (high - low))
        assert found.questions == 40
    skewed = intervals(values)[2]
    assert skewed.mean - skewed.low > 1.3 * (skewed.high - skewed.mean), "it reaches further to where the tail is"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.001, 0.25, 0.5, 0.999, 1.0]), min_size=2, max_size=9))
def test_any_few_questions_have_an_interval_around_their_mean(values: list[float]) -> None:
    for ranges in ([(0.0, 1.0)], [(-1.0, 1.0)], [None]):
        (found,) = intervals(np.array(values)[:, None], ranges=ranges, resamples=500)
        assert ranges[0] is None or ranges[0][0] <= found.low <= found.high <= ranges[0][1]
        assert found.low - 1e-12 <= found.mean <= found.high + 1e-12


def test_a_few_odd_questions_do_not_rule_out_others() -> None:
    values = np.append(np.ones(48), [0.5, 0.75])[:, None]
    (found,) = intervals(values)
    assert found.low < scipys(values[:, 0])[0] < found.mean < found.high <= 1
    assert "but 2 score the same" in (found.reason or "")
    binomial = stats.binomtest(49, 50).proportion_ci(0.95, method="exact")
    (one,) = intervals(np.append(np.ones(49), [0.0])[:, None])
    assert (one.low, one.high) == pytest.approx((binomial.low, binomial.high), abs=0.03)


def test_a_cluster_counts_once() -> None:
    """Questions that repeat a template add nothing: three copies of each question are the question."""
    values = np.random.default_rng(1).random((20, 1))
    names = [i for i in range(20) for _ in range(3)]
    (alone,) = intervals(values)
    (copied,) = intervals(np.repeat(values, 3, axis=0), names)
    (unaware,) = intervals(np.repeat(values, 3, axis=0))
    assert (copied.mean, copied.low, copied.high) == pytest.approx((alone.mean, alone.low, alone.high), abs=1e-12)
    assert unaware.high - unaware.low < 0.7 * (copied.high - copied.low), "what ignoring the templates would claim"


def test_clusters_of_different_sizes_keep_the_mean_over_questions() -> None:
    values = np.array([[1.0], [1.0], [1.0], [0.0], [0.5]] * 3)
    names = [f"{name}{i}" for i in range(3) for name in "aaabc"]
    (found,) = intervals(values, names)
    assert found.mean == pytest.approx(0.7)
    assert found.low < 0.7 < found.high


@pytest.mark.parametrize("questions", [2, 5, 30, 200])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_nothing_seen_is_not_nothing(questions: int, value: float) -> None:
    (found,) = intervals(np.full((questions, 1), value))
    exact = stats.binomtest(int(value * questions), questions).proportion_ci(0.95, method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-12)
    assert "exact bound" in (found.reason or "")


def test_no_difference_anywhere_is_bounded_too() -> None:
    (found,) = intervals(np.zeros((30, 1)), ranges=[(-1.0, 1.0)])
    assert found.low == -found.high
    assert 0.05 < found.high < 0.2
    (unbounded,) = intervals(np.full((30, 1), 7.0), ranges=[None])
    assert (unbounded.low, unbounded.high) == (7.0, 7.0)


def test_undefined_values_are_left_out_and_counted() -> None:
    values = np.array([[0.0, math.nan], [1.0, math.nan], [1.0, 0.5], [math.nan, math.nan]])
    first, second = intervals(values)
    assert first.mean == pytest.approx(2 / 3)
    assert first.questions == 3
    assert first.reason == "questions without a value left out: 1"
    assert second.mean == 0.5
    assert math.isnan(second.low)
    assert "at least 2" in (second.reason or "")


# Permutation


def by_hand(values: Sequence[float]) -> float:
    """The definition, every sign pattern in turn."""
    seen = abs(sum(values)) - 1e-9
    patterns = list(itertools.product((-1, 1), repeat=len(values)))
    return sum(abs(sum(s * v for s, v in zip(p, values, strict=True))) >= seen for p in patterns) / len(patterns)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([-1.0, -0.5, -0.125, 0.0, 0.25, 0.75, 1.0]), min_size=1, max_size=9))
def test_few_questions_are_tested_exactly(values: list[float]) -> None:
    assert permutation_p(values) == pytest.approx(by_hand(values), abs=1e-12)


@pytest.mark.parametrize(("better", "worse"), [(9, 2), (5, 5), (1, 0), (30, 12)])
def test_right_or_wrong_is_mcnemars_exact_test(better: int, worse: int) -> None:
    values = [1.0] * better + [-1.0] * worse + [0.0] * 20
    expected = stats.binomtest(better, better + worse, 0.5).pvalue
    tolerance = 1e-12 if better + worse <= 14 else 5 * math.sqrt(expected / 99_999)
    assert permutation_p(values) == pytest.approx(expected, abs=tolerance)


def test_many_questions_are_students_test() -> None:
    draw = np.random.default_rng(3)
    a, b = draw.normal(0.06, 0.3, 300), draw.normal(0, 0.3, 300)
    assert permutation_p(a - b) == pytest.approx(stats.ttest_rel(a, b).pvalue, abs=0.004)
    assert permutation_p((a - b)[:20]) == permutation_p((a - b)[:20]), "the same every time"
    assert permutation_p(np.full(40, 0.5)) == pytest.approx(1 / 100_000), "never 0"


def test_questions_of_one_template_flip_together() -> None:
    values, names = [0.5, 0.25, -0.125, 1.0, 0.5], ["a", "a", "b", "b", "c"]
    assert permutation_p(values, names) == pytest.approx(by_hand([0.75, 0.875, 0.5]), abs=1e-12)
    assert permutation_p([1.0] * 12, ["one"] * 12) == 1.0, "one template proves nothing"


def test_nothing_to_test() -> None:
    assert math.isnan(permutation_p([]))
    assert math.isnan(permutation_p([math.nan]))
    assert permutation_p([0.0, 0.0]) == 1.0
    assert permutation_p([1.0, 1.0, math.nan]) == 0.5


# Holm


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    with_gap = holm([0.01, math.nan, 0.03])
    assert math.isnan(with_gap[1])
    assert [with_gap[0], with_gap[2]] == pytest.approx([0.02, 0.03])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=7))
def test_holm_is_closed_testing_with_bonferroni(ps: list[float]) -> None:
    """A hypothesis is rejected where every intersection that holds it is: its p is the largest of theirs."""
    corrected = holm(ps)
    for i in range(len(ps)):
        sets = [s for size in range(1, len(ps) + 1) for s in itertools.combinations(range(len(ps)), size) if i in s]
        assert corrected[i] == pytest.approx(max(min(1.0, len(s) * min(ps[j] for j in s)) for s in sets), abs=1e-12)


# Series against each other


def test_differences_are_paired_by_question() -> None:
    base = {"a": [score(q, q % 9) for q in range(30)]}
    better = [score(q, min(8, q % 9 + 1)) for q in reversed(range(3, 40))]
    found = differences({**base, "b": better}, measures([*base["a"], *better], (1, 4), (0.5,)))
    assert [d.measure for d in found] == ["avg@8", "Pass@4", "mG-Pass@4", "G-Pass@4 (τ=0.5)"], "Pass@1 is the mean"
    mean = found[0]
    assert mean.difference.questions == 27, "those that both have"
    assert mean.difference.mean == pytest.approx(24 / 27 / 8)
    assert mean.difference.low > 0
    assert mean.p < 0.001
    assert [d.p_holm for d in found] == holm([d.p for d in found])


def test_differences_by_benchmark_where_there_are_several() -> None:
    a = [score(q, 2, benchmark="x" if q < 5 else "y") for q in range(10)]
    b = [score(q, 4 if q < 5 else 2, benchmark="x" if q < 5 else "y") for q in range(10)]
    found = [d for d in differences({"a": a, "b": b}, measures(a, (1,))) if d.measure == "avg@8"]
    assert [(d.benchmark, d.difference.mean) for d in found] == [(None, 0.125), ("x", 0.25), ("y", 0.0)]


def test_clusters_are_those_of_one_benchmark() -> None:
    assert clusters_of([score(0, 1), score(1, 1)]) is None
    assert clusters_of([score(0, 1, cluster="t"), score(1, 1, cluster="u")]) is None
    found = clusters_of([score(0, 1, cluster="t"), score(1, 1, cluster="t"), score(2, 1)])
    assert found is not None
    assert len(set(found)) == 2
