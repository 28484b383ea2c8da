"""The parts together on a tiny language model: what adaptation gives grows, and a stopped run goes on the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from innerloop.outer.meta import checkpoint
from innerloop.outer.meta.choosing import Choosing
from innerloop.outer.meta.language import LanguageLoss
from innerloop.outer.meta.sampler import Record, Shape, TaskSampler
from innerloop.outer.meta.settings import MetaSettings
from innerloop.outer.meta.train import Metrics, meta_train
from innerloop.outer.rows import Row
from innerloop.testing import tiny

pytestmark = pytest.mark.model

SMALL = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 48, "head_dim": 8}


def record(family: int, number: int) -> Record:
    """A family repeats its own letter; a question says how often."""
    question = f"f{family}-{number}"
    prompt, letters = (60, 49 + number % 9), (97 + family,) * (4 + number % 3)
    ids = (*prompt, *letters)
    rows = tuple(
        Row(question, f"{question}/{i}", ids + letters[:i], (0.0, 0.0) + (1.0,) * (len(letters) + i)) for i in (0, 1)
    )
    return Record(
        family=f"f{family}",
        question_id=question,
        trajectories=rows,
        answer=Row(question, None, ids[:3], (0.0, 0.0, 1.0)),
    )


def run(resume: checkpoint.MetaState | None = None) -> tuple[list[Metrics], list[checkpoint.MetaState]]:
    model = tiny("llama", **SMALL, attention_dropout=0.1).model.requires_grad_(True)
    settings = MetaSettings(algorithm="maml", inner_rate=0.2, steps=25, tasks=4, learning_rate=3e-3)
    records = [record(family, number) for family in range(4) for number in range(6)]
    sampler = TaskSampler(records, Shape(support=3, query=2), tasks=4, seed=0, choosing=Choosing())
    seen: list[Metrics] = []
    states: list[checkpoint.MetaState] = []

    def keep(training: Any, metrics: Metrics) -> None:
        seen.append(metrics)
        states.append(training.state())

    meta_train(model, LanguageLoss(model, pad_id=0, second_order=True), sampler, settings, on_step=keep, resume=resume)
    return seen, states


def test_a_language_model_learns_to_adapt_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    seen, states = run()
    assert seen[-1].query_loss < 0.5 * seen[0].query_loss
    assert all(metrics.gain is not None for metrics in seen)
    checkpoint.save(states[17], tmp_path / "step.safetensors")
    again, _ = run(checkpoint.load(tmp_path / "step.safetensors"))
    assert [metrics.step for metrics in again] == list(range(19, 26))
    for one, other in zip(again, seen[18:], strict=True):
        assert one.query_loss == pytest.approx(other.query_loss, abs=1e-6)
        assert one.gain == pytest.approx(other.gain, abs=1e-6)
        assert one.spent == other.spent
