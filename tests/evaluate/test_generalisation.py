"""Means over benchmarks within and across domains: each benchmark once, questions drawn again within each."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innerloop.errors import InputError
from innerloop.evaluate import resample
from innerloop.evaluate.compare import differences, permutation_p
from innerloop.evaluate.generalisation import CROSS, WITHIN, intervals, sides, weights
from innerloop.evaluate.measures import measures
from innerloop.evaluate.summary import summarise
from innerloop.schema import Score

SHARES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=3, max_size=12)


def scores(series: str, found: dict[tuple[str, str], list[int]], n: int = 4) -> list[Score]:
    """``found``: right of n samples per question, by (benchmark, domain)."""
    return [
        Score(
            id=f"{series}|{benchmark}-{i}",
            series=series,
            question_id=f"{benchmark}-{i}",
            benchmark=benchmark,
            domain=domain,
            right=right,
            wrong=n - right,
            undecided=0,
        )
        for (benchmark, domain), counts in found.items()
        for i, right in enumerate(counts)
    ]


@settings(deadline=None)
@given(st.lists(SHARES, min_size=1, max_size=4))
def test_each_benchmark_counts_once(parts: list[list[float]]) -> None:
    values = np.concatenate(parts)[:, None]
    names = [i for i, part in enumerate(parts) for _ in part]
    (found,) = intervals(values, names, resamples=200)
    assert found.mean == pytest.approx(np.mean([np.mean(part) for part in parts]))
    assert found.low <= found.mean + 1e-12
    assert found.high >= found.mean - 1e-12
    assert weights(values, names)[:, 0] @ values[:, 0] == pytest.approx(found.mean)
    if len(parts) == 1:
        assert found == resample.intervals(values, resamples=200)[0]


def test_the_interval_is_that_of_independent_benchmarks() -> None:
    """Against the normal approximation, whose error is small for a hundred questions each."""
    generator = np.random.default_rng(0)
    parts = [generator.beta(2, 2, size) for size in (100, 400, 150)]
    names = [i for i, part in enumerate(parts) for _ in part]
    (found,) = intervals(np.concatenate(parts)[:, None], names)
    error = math.sqrt(sum(np.var(part, ddof=1) / len(part) for part in parts)) / 3
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.06)


def test_benchmarks_without_a_difference_keep_their_exact_bounds() -> None:
    values = np.array([0.0] * 30 + [1.0] * 30)[:, None]
    (found,) = intervals(values, ["a"] * 30 + ["b"] * 30)
    unseen = 1 - 0.025 ** (1 / 30)
    assert (found.low, found.mean, found.high) == pytest.approx((0.5 - unseen / 2, 0.5, 0.5 + unseen / 2))
    assert "exact bounds" in (found.reason or "")
    one = np.array([0.0] * 30 + [0.0, 1.0] * 15)[:, None]
    (found,) = intervals(one, ["a"] * 30 + ["b"] * 30)
    (alone,) = resample.intervals(one[30:])
    assert found.high - found.mean > (alone.high - alone.mean) / 2


@pytest.mark.parametrize(
    ("values", "names", "reason"),
    [
        ([0.0, 1.0, math.nan, math.nan], "aabb", "no question with a value in b"),
        ([0.0, 1.0, 1.0], "aab", "an interval needs at least 2 questions of each benchmark; b"),
    ],
)
def test_what_has_no_interval_says_why(values: list[float], names: str, reason: str) -> None:
    (found,) = intervals(np.array(values)[:, None], list(names))
    assert math.isnan(found.low)
    assert found.reason == reason


def test_sides() -> None:
    found = scores("x", {("aime", "math"): [1], ("gpqa", "science"): [2], ("lcb", "code"): [3]})
    assert {name: [s.benchmark for s in own] for name, own in sides(found, ["math"]).items()} == {
        WITHIN: ["aime"],
        CROSS: ["gpqa", "lcb"],
    }
    assert [s.benchmark for s in sides(found, ["math", "code"])[WITHIN]] == ["aime", "lcb"]
    with pytest.raises(InputError, match=r"--trained-on maths: no question is of this domain \(they are of code, math"):
        sides(found, ["maths"])


def test_tables_and_differences() -> None:
    one = scores("A", {("aime", "math"): [0, 4, 0, 2], ("gpqa", "science"): [1, 2, 3], ("lcb", "code"): [0, 1] * 5})
    two = scores("B", {("aime", "math"): [4, 4, 0, 4], ("gpqa", "science"): [1, 3, 3], ("lcb", "code"): [1, 1] * 5})
    columns = measures(one, (1,))
    rows = {
        row.value: row for row in summarise({"A": one}, columns, trained_on=["math"]) if row.group == "generalisation"
    }
    assert rows[WITHIN].cells[0].score.mean == pytest.approx(6 / 16)
    assert rows[CROSS].cells[0].score.mean == pytest.approx((6 / 12 + 5 / 40) / 2)
    assert rows[CROSS].cells[0].if_wrong == pytest.approx(rows[CROSS].cells[0].score.mean)
    assert rows[CROSS].questions == 13
    found = {d.benchmark: d for d in differences({"A": one, "B": two}, columns, trained_on=["math"])}
    assert list(found) == [None, "aime", "gpqa", "lcb", WITHIN, CROSS]
    assert found[WITHIN].difference == found["aime"].difference
    assert found[WITHIN].p == found["aime"].p
    assert found[CROSS].difference.mean == pytest.approx((1 / 12 + 5 / 40) / 2)
    assert found[CROSS].p == permutation_p([0, 0.25 / 6, 0] + [0.25 / 20, 0] * 5) == 2 / 2**6
    assert found[CROSS].p_holm >= found[CROSS].p
