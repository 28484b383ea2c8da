import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from innerloop.inner.summary import summarise
from innerloop.schema import Curve


def curve(loss, position=None):
    position = tuple(position if position is not None else range(len(loss)))
    return Curve(
        question_id="q",
        trajectory_id="q/file-0",
        position=position,
        token_id=(None,) * len(position),
        token=(None,) * len(position),
        loss=tuple(map(float, loss)),
        answer_tokens=1,
    )


def test_a_straight_fall():
    s = summarise(curve([4, 3, 2, 1, 0]))
    assert (s.start, s.end, s.gain, s.area, s.downward) == (4, 0, 4, 2, 1)
    assert s.trend == pytest.approx(-1)


def test_area_weighs_positions_by_their_distance():
    # 2 for the first tenth, then falling to 0 over the rest: 0.1 · 2 + 0.9 · 1
    assert summarise(curve([2, 2, 0], [0, 1, 10])).area == pytest.approx(0.1 * 2 + 0.9 * 1)


def test_ties_are_no_downward_moves():
    assert summarise(curve([1, 1, 0, 1])).downward == pytest.approx(1 / 3)


def test_undefined_is_nan():
    lone = summarise(curve([1.5]))
    assert (lone.start, lone.end, lone.gain) == (1.5, 1.5, 0)
    assert all(map(math.isnan, (lone.area, lone.downward, lone.trend)))
    assert math.isnan(summarise(curve([1, 1, 1])).trend)
    late = summarise(curve([2, 1], [3, 5]))
    assert math.isnan(late.start)
    assert math.isnan(late.gain)
    assert late.end == 1


losses = hnp.arrays("float64", st.integers(3, 30), elements=st.integers(0, 20).map(float))


@given(losses, st.integers(1, 5), st.integers(0, 9))
def test_scaling_and_shifting_the_loss(loss, factor, shift):
    a, b = summarise(curve(loss)), summarise(curve(factor * loss + shift))
    assert b.gain == pytest.approx(factor * a.gain)
    assert b.area == pytest.approx(factor * a.area + shift)
    assert b.downward == a.downward
    assert b.trend == pytest.approx(a.trend, nan_ok=True)


@given(losses)
def test_reading_backwards_turns_gain_and_trend(loss):
    a, b = summarise(curve(loss)), summarise(curve(loss[::-1]))
    assert b.gain == pytest.approx(-a.gain)
    assert b.area == pytest.approx(a.area)
    assert b.trend == pytest.approx(-a.trend, nan_ok=True)
