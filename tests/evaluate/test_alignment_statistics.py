"""Agreement of predicted and true changes: by hand, against scipy, and under resampling of questions."""

from __future__ import annotations

import dataclasses
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from innerloop.evaluate.alignment import AlignmentRow, summarise
from innerloop.evaluate.statistics import Interval
from innerloop.schema import Update

INTERVALS = [field.name for field in dataclasses.fields(AlignmentRow) if field.type == "Interval"]


def record(question: str, position: int, predicted: float | None, actual: float, **more: object) -> Update:
    """A point: its loss starts at 3 nats, its null has a spread of 0.5."""
    values: dict[str, object] = {
        "id": f"{question}/solution",
        "question_id": question,
        "trajectory_id": f"{question}/solution",
        "position": position,
        "gauge": "attention",
        "scope": "weights",
        "placement": "kept",
        "loss": 3.0 + actual,
        "full_loss": 3.0 + actual,
        "base_loss": 3.0,
        "residual": 0.0,
        "rank": 4,
        "norm": 1.0,
        "relative": 0.01,
        "condition": 10.0,
        "predicted": predicted,
        "null_sd": 0.5,
        "cosine": 0.01,
    }
    return Update(**(values | more))  # type: ignore[arg-type]


def only(updates: list[Update], **options: object) -> AlignmentRow:
    groups = {update.trajectory_id: "solution" for update in updates}
    [row] = summarise(updates, groups, **options)  # type: ignore[arg-type]
    return row


def points(count: int, seed: int = 0, per: int = 3) -> list[Update]:
    draw = random.Random(seed)
    made = []
    for q in range(count):
        for i in range(per):
            predicted = draw.gauss(-1, 1)
            made.append(record(f"q{q}", i + 1, predicted, 0.7 * predicted + draw.gauss(0, 0.3)))
    return made


def test_by_hand() -> None:
    # predicted −1, −2, 1; actual −1, −1, 0.5
    row = only([record("a", 1, -1.0, -1.0), record("b", 1, -2.0, -1.0), record("c", 1, 1.0, 0.5)])
    assert (row.questions, row.points) == (3, 3)
    assert row.slope_origin.mean == pytest.approx((1 + 2 + 0.5) / (1 + 4 + 1))
    # about the means (−2/3, −1/2): covariance 2.5, variances 14/3 and 1.5
    assert row.slope.mean == pytest.approx(2.5 / (14 / 3))
    assert row.intercept.mean == pytest.approx(-0.5 + 2 / 3 * 2.5 / (14 / 3))
    assert row.correlation.mean == pytest.approx(2.5 / math.sqrt(14 / 3 * 1.5))
    assert row.sign_agreement.mean == 1.0
    assert row.z.mean == pytest.approx((2 + 4 - 2) / 3)  # −predicted in halves of a nat
    assert row.pooled_z.mean == pytest.approx((1 + 2 - 1) / math.sqrt(3 * 0.25))
    assert row.cosine.mean == pytest.approx(0.01)
    for name in INTERVALS:
        if not name.startswith(("step_", "causal_")):
            interval: Interval = getattr(row, name)
            assert interval.reason is None
            assert interval.low <= interval.high


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(3, 12), per=st.integers(1, 4), shift=st.floats(-100, 100))
def test_correlation_and_line_are_scipys(seed: int, count: int, per: int, shift: float) -> None:
    updates = [dataclasses.replace(u, predicted=u.predicted + shift) for u in points(count, seed, per)]  # type: ignore[operator]
    row = only(updates, resamples=200)
    predicted = np.array([u.predicted for u in updates], dtype=float)
    actual = np.array([u.loss - u.base_loss for u in updates])
    line = stats.linregress(predicted, actual)
    assert row.correlation.mean == pytest.approx(stats.pearsonr(predicted, actual).statistic, abs=1e-6)
    assert row.slope.mean == pytest.approx(line.slope, rel=1e-6, abs=1e-6)
    assert row.intercept.mean == pytest.approx(line.intercept, rel=1e-6, abs=1e-5)
    assert row.slope_origin.mean == pytest.approx(float(predicted @ actual / (predicted @ predicted)))


def test_a_mean_counts_each_question_once() -> None:
    row = only(
        [record("a", i, -1.0, -1.0, cosine=0.1) for i in (1, 2, 3)]
        + [record("b", 1, -1.0, 1.0, cosine=0.3), record("c", 1, 2.0, 1.0, cosine=0.5)]
    )
    assert row.sign_agreement.mean == pytest.approx((1 + 0 + 1) / 3)
    assert row.cosine.mean == pytest.approx(0.3)
    assert row.z.mean == pytest.approx((2 + 2 - 4) / 3)
    # All points of a question count as one draw of the null: their spreads add up, not their variances
    assert row.pooled_z.mean == pytest.approx((3 + 1 - 2) / math.sqrt(1.5**2 + 0.5**2 + 0.5**2))


def test_more_positions_of_the_same_questions_are_no_more_evidence() -> None:
    few = points(6, per=2)
    many = [dataclasses.replace(u, position=u.position + 2 * k) for u in few for k in range(20)]
    once, often = only(few), only(many)
    for name in ("correlation", "slope", "z", "pooled_z", "sign_agreement", "null_correlation"):
        first, second = getattr(once, name), getattr(often, name)
        assert (second.mean, second.low, second.high) == pytest.approx((first.mean, first.low, first.high), abs=1e-6)
    assert (once.points, often.points, once.questions, often.questions) == (12, 240, 6, 6)


@pytest.mark.slow
def test_intervals_over_questions_cover_the_truth() -> None:
    covered = 0
    for trial in range(100):
        draw = np.random.default_rng(trial)
        updates = []
        for q in range(20):  # a question has a slope of its own, 0.7 on average
            slope = 0.7 + 0.3 * draw.standard_normal()
            for i, x in enumerate(draw.standard_normal(4)):
                updates.append(record(f"q{q}", i + 1, x, slope * x + 0.1 * draw.standard_normal()))
        slope = only(updates, resamples=300).slope_origin
        covered += slope.low <= 0.7 <= slope.high
    # 95 % of 100 is 95 ± 2; drawing points instead of questions covers about 80 %
    assert covered >= 0.89 * 100


def test_the_nulls_correlation_is_what_drawn_predictions_give() -> None:
    updates = points(5, per=1)
    row = only(updates)
    actual = np.array([u.loss - u.base_loss for u in updates])
    drawn = np.random.default_rng(9).normal(size=(20_000, 5))
    found = stats.pearsonr(drawn, actual[None], axis=1).statistic
    assert row.null_correlation.mean == pytest.approx(0.0, abs=0.03)
    assert row.null_correlation.low == pytest.approx(np.quantile(found, 0.025), abs=0.03)
    assert row.null_correlation.high == pytest.approx(np.quantile(found, 0.975), abs=0.03)


def test_steps_and_layer_causal_predictions_have_points_of_their_own() -> None:
    def causal(predicted: float, cosine: float) -> dict[str, float]:
        return {"causal_predicted": predicted, "causal_null_sd": 1.0, "causal_cosine": cosine}

    updates = []
    for q, slope in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
        updates += [
            record(q, 0, 0.0, 0.0, cosine=None, causal_predicted=0.0, causal_null_sd=0.0),
            record(q, 4, -1.0, -slope, step_predicted=-1.0, step_null_sd=0.25, **causal(-2.0, 0.2)),
            record(q, 9, -1.5, 0.5 - slope, step_predicted=0.5, step_null_sd=0.25, **causal(3.0, 0.4)),
        ]
    row = only(updates[::-1])
    assert (row.points, row.step_correlation.values, row.causal_correlation.values) == (6, 6, 6)
    # steps: predicted −1, 0.5; actual −slope, +0.5
    assert row.step_slope_origin.mean == pytest.approx((1 + 2 + 3 + 3 * 0.25) / (3 * 1.25))
    assert row.step_sign_agreement.mean == 1.0
    assert row.step_z.mean == pytest.approx((4 - 2) / 2)
    assert row.causal_z.mean == pytest.approx((2 - 3) / 2)
    assert row.causal_cosine.mean == pytest.approx(0.3)
    assert row.causal_sign_agreement.mean == pytest.approx(0.5)


def test_groups_and_models_are_apart_and_in_order() -> None:
    updates = [record(q, 1, -1.0, -1.0) for q in "abc"]
    control = [
        record(q, 1, 1.0, -1.0, id=f"{q}/s/shuffled", trajectory_id=f"{q}/s/shuffled", untrained=u)
        for q in "abc"
        for u in (False, True)
    ]
    lost = [record("z", 1, 5.0, 5.0)]
    unaligned = [record("a", 2, None, -1.0)]
    groups = {f"{q}/s/shuffled": "shuffled" for q in "abc"} | {f"{q}/solution": "solution" for q in "abc"}
    rows = summarise([*updates, *control, *lost, *unaligned], groups, resamples=200)
    assert [(row.group, row.untrained, row.points) for row in rows] == [
        ("shuffled", False, 3),
        ("solution", False, 3),
        ("shuffled", True, 3),
    ]
    assert [row.sign_agreement.mean for row in rows] == [0.0, 1.0, 0.0]


def test_the_order_of_updates_does_not_matter() -> None:
    updates = points(5)
    mixed = random.Random(1).sample(updates, len(updates))
    assert _plain(only(updates, resamples=200)) == pytest.approx(_plain(only(mixed, resamples=200)), nan_ok=True)


def _plain(row: AlignmentRow) -> list[float]:
    return [value for name in INTERVALS for value in dataclasses.astuple(getattr(row, name))[:3]]


@pytest.mark.parametrize("count", [1, 2])
def test_few_questions_have_numbers_but_no_interval(count: int) -> None:
    row = only(points(count))
    for name in ("correlation", "slope_origin", "slope", "intercept", "cosine", "z", "pooled_z", "null_correlation"):
        interval: Interval = getattr(row, name)
        assert math.isfinite(interval.mean)
        assert math.isnan(interval.low)
        assert math.isnan(interval.high)
        assert interval.reason is not None
        assert f"there are {count}" in interval.reason


def test_what_does_not_vary_has_no_correlation() -> None:
    row = only([record(q, 1, -0.1, -1.0 - i) for i, q in enumerate("abcd")])
    for interval in (row.correlation, row.slope, row.intercept):
        assert math.isnan(interval.mean)
        assert interval.reason == "the values do not vary"
    assert row.slope_origin.mean == pytest.approx(25.0)
    flat = only([record(q, 1, -0.1 - i, -1.0) for i, q in enumerate("abcd")])
    assert flat.slope.mean == pytest.approx(0.0)
    assert math.isnan(flat.correlation.mean)
    assert math.isnan(flat.null_correlation.mean)


def test_what_was_not_measured_says_so() -> None:
    row = only(points(4))
    for name in INTERVALS:
        if name.startswith(("step_", "causal_")):
            interval: Interval = getattr(row, name)
            assert (interval.reason, interval.values) == ("not measured", 0)
            assert math.isnan(interval.mean)
    assert summarise([record("a", 1, None, -1.0)], {"a/solution": "solution"}) == []


def test_position_zero_is_no_point() -> None:
    start = [record(q, 0, 1e-17, 0.0, cosine=None, null_sd=1e-17) for q in "abc"]
    row = only([*start, *(record(q, 1, -1.0 - i, -1.0 + i) for i, q in enumerate("abc"))])
    assert row.points == 3
    assert only(start).points == 0
    assert only(start).correlation.reason == "not measured"
