from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from innerloop.outer.callbacks import Flat, FlatRewardError


def steps(callback: Flat, shares: list[float], history: list[dict[str, Any]]) -> None:
    """Log a step for each share of flat groups, behind those of a history, as the trainer does."""
    for share in shares:
        logs = {"reward": -1.0, "frac_reward_zero_std": share}
        history.append(logs)
        callback.on_log(None, SimpleNamespace(log_history=history, global_step=len(history)), None, logs=logs)


def test_a_training_ends_where_nothing_moved_from_its_start() -> None:
    with pytest.raises(FlatRewardError, match=r"in 3 steps .* \(-1 on average\)"):
        steps(Flat(3), [1.0] * 5, [])
    steps(Flat(3), [1.0, 0.5, 1.0, 1.0, 1.0], [])


def test_one_that_goes_on_knows_of_the_steps_before() -> None:
    history: list[dict[str, Any]] = []
    steps(Flat(3), [1.0, 0.75], history)
    steps(Flat(3), [1.0] * 5, history)
    flat: list[dict[str, Any]] = []
    steps(Flat(3), [1.0, 1.0], flat)
    with pytest.raises(FlatRewardError, match="in 3 steps"):
        steps(Flat(3), [1.0], flat)
