"""The metrics against known values, brute force, the HumanEval estimator and their own laws."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innerloop.evaluate.metrics import best_of_k, g_pass_at_k, majority_at_k, mg_pass_at_k, pass_at_k, threshold

# n, c, k: G-Pass at ¼, ½, ¾ and 1, and mG-Pass, computed apart from this code
KNOWN = [
    (32, 8, 8, (0.6668375118, 0.0822457051, 0.0007530685, 9.51e-8), Fraction(6469, 2103660)),
    (32, 16, 8, (0.9813743666, 0.6574589050, 0.1099864046, 0.0012235818), Fraction(637, 5394)),
    (32, 24, 8, (0.9999816510, 0.9884710457, 0.6914606923, 0.0699229914), Fraction(1058299, 2103660)),
    (32, 31, 8, (1, 1, 1, 0.75), Fraction(15, 16)),
    (48, 24, 16, (0.9975051022, 0.6199454182, 0.0152382624, 3.262e-7), Fraction(245157, 3065857)),
    (16, 12, 16, (1, 1, 1, 0), Fraction(1, 2)),
    (10, 5, 3, (0.9166666667, 0.5, 0.0833333333, 0.0833333333), Fraction(1, 18)),
    (10, 10, 3, (1, 1, 1, 1), Fraction(2, 3)),
]


@pytest.mark.parametrize(("n", "c", "k", "g", "mg"), KNOWN)
def test_known_values(n: int, c: int, k: int, g: tuple[float, ...], mg: Fraction) -> None:
    for tau, value in zip((0.25, 0.5, 0.75, 1.0), g, strict=True):
        digits = 5e-11 if value > 1e-6 else 5e-4 * value  # as many as are printed
        assert g_pass_at_k(n, c, k, tau) == pytest.approx(value, rel=0, abs=digits)
    assert mg_pass_at_k(n, c, k) == float(mg), "a ratio of whole numbers, rounded once"


def by_hand(n: int, c: int, k: int) -> list[int]:
    """How many right ones each of the C(n, k) subsets holds, every subset looked at."""
    return [sum(sample < c for sample in subset) for subset in itertools.combinations(range(n), k)]


@pytest.mark.parametrize("n", range(1, 13))
def test_all_subsets_up_to_twelve_samples(n: int) -> None:
    for c in range(n + 1):
        for k in range(1, n + 1):
            held = by_hand(n, c, k)
            total = len(held)
            assert pass_at_k(n, c, k) == float(Fraction(sum(x >= 1 for x in held), total))
            for twentieths in (1, 5, 7, 10, 13, 15, 20):
                enough = sum(20 * x >= twentieths * k for x in held)
                assert g_pass_at_k(n, c, k, twentieths / 20) == float(Fraction(enough, total))
            above = sum(max(0, x - math.ceil(Fraction(k, 2))) for x in held)
            assert mg_pass_at_k(n, c, k) == float(Fraction(2 * above, k * total))


@pytest.mark.parametrize(("n", "c", "k"), [(200, 0, 100), (200, 3, 10), (200, 199, 1), (100, 13, 100), (64, 1, 32)])
def test_the_estimator_of_the_humaneval_paper(n: int, c: int, k: int) -> None:
    expected = 1.0 if n - c < k else 1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1))
    assert pass_at_k(n, c, k) == pytest.approx(expected, abs=1e-12)


def test_mean_of_g_pass_is_what_mg_pass_is() -> None:
    """The definition by τ: 2 ∫ G-Pass@k_τ dτ from ½ to 1, as the sum over steps of 1/k."""
    for n, c, k in [(16, 9, 8), (16, 9, 7), (40, 33, 16)]:
        steps = [g_pass_at_k(n, c, k, Fraction(i, k)) for i in range(math.ceil(k / 2) + 1, k + 1)]
        assert mg_pass_at_k(n, c, k) == pytest.approx(2 * sum(steps) / k, abs=1e-15)


def test_thresholds_are_counted_in_whole_numbers() -> None:
    assert math.ceil(0.28 * 25) == 8, "what floats give"
    assert threshold(25, 0.28) == 7
    assert threshold(3, 1 / 3) == 1
    assert threshold(3, 2 / 3) == 2
    assert threshold(10, 0.1 + 0.2) == 3
    assert threshold(8, np.float32(0.5)) == 4
    assert threshold(7, Fraction(3, 7)) == 3
    assert all(threshold(k, j / k) == max(1, j) for k in range(1, 200) for j in range(k + 1))
    assert g_pass_at_k(25, 7, 25, 0.28) == 1.0
    assert g_pass_at_k(25, 6, 25, 0.28) == 0.0


samples = st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n)))
METRICS: list[Callable[[int, int, int], float]] = [
    pass_at_k,
    mg_pass_at_k,
    lambda n, c, k: g_pass_at_k(n, c, k, 0.5),
    lambda n, c, k: g_pass_at_k(n, c, k, 1.0),
]


@given(samples, st.sampled_from(METRICS))
def test_more_right_samples_never_score_less(row: tuple[int, int, int], metric: Callable[..., float]) -> None:
    n, c, k = row
    assert 0.0 <= metric(n, c, k) <= 1.0
    if c < n:
        assert metric(n, c, k) <= metric(n, c + 1, k)


@given(samples, st.floats(0, 1), st.floats(0, 1))
def test_a_higher_tau_is_harder_and_zero_is_pass_at_k(row: tuple[int, int, int], a: float, b: float) -> None:
    assert g_pass_at_k(*row, min(a, b)) >= g_pass_at_k(*row, max(a, b))
    assert g_pass_at_k(*row, 0) == g_pass_at_k(*row, 1e-9) == pass_at_k(*row)


@given(samples)
def test_more_tries_never_hurt_pass_at_k_nor_help_all_of_k(row: tuple[int, int, int]) -> None:
    n, c, k = row
    if k < n:
        assert pass_at_k(n, c, k) <= pass_at_k(n, c, k + 1)
        assert g_pass_at_k(n, c, k, 1.0) >= g_pass_at_k(n, c, k + 1, 1.0)
    assert pass_at_k(n, c, 1) == pytest.approx(c / n, abs=1e-15)
    assert mg_pass_at_k(n, n, k) == pytest.approx((k - k % 2) / k, abs=1e-15), "odd k: not 1 even for a perfect model"
    assert mg_pass_at_k(n, c, 1) == 0
    assert pass_at_k(n, 0, k) == 0


def test_arrays_broadcast_and_scalars_stay_scalars() -> None:
    values = pass_at_k(np.array([10, 20]), np.array([[0], [5]]), 3)
    assert values.shape == (2, 2)
    assert values.dtype == np.float64
    assert values[1, 0] == pass_at_k(10, 5, 3)
    assert isinstance(pass_at_k(10, 5, 3), float)
    assert isinstance(pass_at_k(np.int64(10), np.int32(5), 3), float)
    assert g_pass_at_k(8, 4, 4, [0.25, 0.5, 1.0]).tolist() == [g_pass_at_k(8, 4, 4, tau) for tau in (0.25, 0.5, 1.0)]
    assert mg_pass_at_k([8, 9], [4, 4], 4).tolist() == [mg_pass_at_k(8, 4, 4), mg_pass_at_k(9, 4, 4)]
    assert pass_at_k(np.array([8.0]), np.array([2.0]), 4).tolist() == [pass_at_k(8, 2, 4)], "tables make floats"
    assert pass_at_k(np.array([], dtype=int), np.array([], dtype=int), 1).shape == (0,)
    assert pass_at_k(2000, 1000, 1000) == 1.0, "no overflow"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, 0, 5), "k is 5, but there are only 4 samples"),
        ((4, 5, 2), "c is 5: of n = 4"),
        ((4, -1, 2), "c is -1"),
        ((4, 2, 0), "k is 0"),
        ((0, 0, 1), "k is 1, but there are only 0"),
        ((4, 2.5, 2), "c is 2.5: it must be a whole number"),
        ((4, math.nan, 2), "c is nan"),
        ((4, "2", 2), "c is '2'"),
        ((True, 0, 1), "n is True"),
        (([4, 4], [1, 5], 2), "c is 5"),
        (([4, 4, 4], [1, 1], 2), "do not go together"),
    ],
)
@pytest.mark.parametrize("metric", [pass_at_k, mg_pass_at_k, lambda n, c, k: g_pass_at_k(n, c, k, 0.5)])
def test_what_makes_no_sense_is_an_error(metric: Callable[..., object], arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metric(*arguments)


@pytest.mark.parametrize("tau", [-0.1, 1.1, math.nan])
def test_tau_lies_between_zero_and_one(tau: float) -> None:
    with pytest.raises(ValueError, match="tau is"):
        g_pass_at_k(4, 2, 2, tau)


# Majority vote and best of k


def vote(answers: Sequence[str | None], score: dict[str, float], k: int) -> float:
    """The definition: every subset votes, ties are split, None abstains."""
    subsets = list(itertools.combinations(answers, k))
    total = Fraction(0)
    for subset in subsets:
        counts = Counter(answer for answer in subset if answer is not None)
        top = [answer for answer, count in counts.items() if count == max(counts.values())]
        total += sum((Fraction(score[answer]) for answer in top), Fraction(0)) / max(len(top), 1)
    return float(total / len(subsets))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.sampled_from([0.0, 0.5, 1.0])), max_size=5),
    st.integers(0, 3),
    st.data(),
)
def test_a_vote_is_what_all_subsets_vote(votes: list[tuple[int, float]], abstained: int, data: st.DataObject) -> None:
    answers = [str(i) for i, (size, _) in enumerate(votes) for _ in range(size)][:10]
    votes = [(answers.count(str(i)), score) for i, (_, score) in enumerate(votes) if str(i) in answers]
    if not answers and not abstained:
        return
    k = data.draw(st.integers(1, len(answers) + abstained))
    expected = vote([*answers, *[None] * abstained], {str(i): score for i, (_, score) in enumerate(votes)}, k)
    assert majority_at_k(votes, abstained, k) == pytest.approx(expected, abs=1e-12)


def test_votes_by_hand() -> None:
    assert majority_at_k([(5, 1.0), (3, 0.0)], 0, 8) == 1.0
    assert majority_at_k([(4, 1.0), (4, 0.0)], 0, 8) == pytest.approx(0.5)
    assert majority_at_k([(2, 1.0), (1, 0.0)], 5, 8) == 1.0, "who gives no answer has no vote"
    assert majority_at_k([], 3, 2) == 0.0
    assert majority_at_k([(3, 1.0), (5, 0.0)], 0, 1) == pytest.approx(3 / 8)
    assert 0 < majority_at_k([(100, 1.0), (60, 0.0), *[(1, 0.0)] * 40], 56, 64) <= 1
    with pytest.raises(ValueError, match="k is 9"):
        majority_at_k([(5, 1.0), (3, 0.0)], 0, 9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.0, 1.0])), min_size=1, max_size=9), st.data())
def test_the_best_of_k_is_that_of_all_subsets(pairs: list[tuple[int, float]], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(pairs)))
    subsets = list(itertools.combinations(pairs, k))
    expected = Fraction(0)
    for subset in subsets:
        tied = [value for score, value in subset if score == min(subset)[0]]
        expected += Fraction(sum(tied)) / len(tied)
    found = best_of_k([score for score, _ in pairs], [value for _, value in pairs], k)
    # Drawing among ties of the subset or of the whole is the same by symmetry.
    assert found == pytest.approx(float(expected / len(subsets)), abs=1e-12)


def test_the_best_of_k_needs_a_value_for_every_score() -> None:
    with pytest.raises(ValueError, match="2 scores for 1 values"):
        best_of_k([1.0, 2.0], [1.0], 1)
