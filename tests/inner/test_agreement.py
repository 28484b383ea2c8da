"""Every run says how far its losses are from the definition."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from innerloop.evaluate.exactness import exactness
from innerloop.inner import agreement, attention
from innerloop.inner.probe import probe
from innerloop.schema import Curve
from innerloop.testing import tiny

pytestmark = pytest.mark.model


def test_positions_of_the_first_second_fourth_and_eighth_trajectory_are_run_afresh(make_item, caplog):
    loaded = tiny("llama")
    items = [make_item(0, length=0), *(make_item(i, length=21) for i in range(1, 10))]
    curves = list(probe(loaded, items))
    plain = list(probe(loaded, items, method="plain"))
    kept = {i: [place for place, loss in enumerate(curve.plain_loss) if loss is not None] for i, curve in
            enumerate(curves) if curve.plain_loss}  # fmt: skip
    assert kept == {1: [10], 2: [21], 4: [5], 8: [16]}, "one without tokens does not count"
    for i, [place] in kept.items():
        assert curves[i].plain_loss[place] == pytest.approx(plain[i].loss[place], abs=1e-6)
    seen = exactness(curves)
    assert seen.compared == 4
    assert 0 <= seen.apart < 1e-4
    assert exactness(plain).compared == 0, "the definition needs no comparison"
    assert not caplog.records
    assert all(not curve.plain_loss for curve in probe(loaded, items, compare=False))


@pytest.mark.parametrize("method", ["shared", "cached"])
def test_the_comparison_is_by_the_models_own_attention(make_item, method):
    """Also while the branches of other trajectories wait for theirs."""
    loaded = tiny("gemma3")
    items = [make_item(i, length=30) for i in range(4)]
    first, *_ = curves = list(probe(loaded, items, method=method))
    [apart] = [a - b for a, b in zip(first.loss, first.plain_loss, strict=True) if b is not None]
    assert abs(apart) < 1e-4
    plain = list(probe(loaded, items, method="plain"))
    assert np.abs(np.subtract([c.loss for c in curves], [c.loss for c in plain])).max() < 1e-4


def test_what_rounding_does_not_explain_is_said_once(make_item, monkeypatch, caplog):
    loaded = tiny("llama", seed=3)
    items = [make_item(i, length=20) for i in range(4)]
    monkeypatch.setattr(attention, "_with_lse", lambda q, k, v, scale: (q * 0, q[..., 0]))
    with caplog.at_level(logging.WARNING, logger="innerloop"):
        curves = list(probe(loaded, items))
    [record] = caplog.records
    said = record.getMessage()
    assert "after 10 tokens of q0/file-0 the loss is" in said
    assert "0.0001 is what float32 explains; --method plain measures by the definition" in said
    assert exactness(curves).apart > 1e-4
    assert exactness(curves).compared == 3


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precisions_are_within_what_rounding_explains(make_item, dtype, caplog):
    loaded = tiny("llama", dtype=dtype)
    curves = list(probe(loaded, [make_item(i, length=24) for i in range(4)]))
    assert 0 < exactness(curves).apart <= agreement.ALLOWED[getattr(torch, dtype)]
    assert not caplog.records


def test_the_comparison_is_kept_with_the_run(make_item):
    curves = list(probe(tiny("gpt2"), [make_item(i, length=9) for i in range(3)]))
    assert Curve.from_table(Curve.to_table(curves)) == curves
    older = Curve.to_table(curves).drop_columns(["plain_loss"])
    assert exactness(Curve.from_table(older)).compared == 0


def test_it_is_told_in_words():
    def curve(*pairs):
        losses, plain = zip(*pairs, strict=True)
        places = tuple(range(len(losses)))
        return Curve(question_id="q", trajectory_id="t", position=places, token_id=places, token=("a",) * len(places),
                     loss=losses, answer_tokens=1, plain_loss=plain)  # fmt: skip

    assert str(exactness([])) == "not compared with the definition"
    assert str(exactness([curve((1.0, 1.25))])) == "2.5e-01 nats from the definition, at a position run afresh"
    two = [curve((1.0, None), (2.0, 2.0)), curve((1.0, 1.5))]
    assert str(exactness(two)) == "5.0e-01 nats from the definition, at 2 positions run afresh"
