"""``train``: the outer loop; one recipe a file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

from innerloop.verbs.train.dpo import DpoSettings, dpo
from innerloop.verbs.train.grpo import GrpoSettings, grpo
from innerloop.verbs.train.init import InitResult, InitSettings, init
from innerloop.verbs.train.meta import MetaSettings, meta
from innerloop.verbs.train.result import TrainResult
from innerloop.verbs.train.settings import TrainSettings
from innerloop.verbs.train.sft import SftSettings, sft

__all__ = [
    "DpoSettings",
    "GrpoSettings",
    "InitResult",
    "InitSettings",
    "MetaSettings",
    "SftSettings",
    "TrainResult",
    "TrainSettings",
    "dpo",
    "grpo",
    "init",
    "meta",
    "sft",
    "train",
]


@singledispatch
def train(settings: Any, *, command: Sequence[str] | None = None) -> Any:  # noqa: ARG001
    """Run the recipe that the settings are of: `InitSettings`, `SftSettings`, …"""
    raise TypeError(f"train takes a recipe's settings (SftSettings, …), not {type(settings).__name__}")


train.register(InitSettings, init)
train.register(SftSettings, sft)
train.register(DpoSettings, dpo)
train.register(GrpoSettings, grpo)
train.register(MetaSettings, meta)
