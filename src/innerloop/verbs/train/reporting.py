"""Handing a training's numbers to the trackers that people have: TensorBoard, W&B, trackio.

The trainer reports its own steps. What held-out questions said is no step of its, so it is handed on beside it, through
the same connections, with the step that it belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from innerloop.errors import InputError

TRACKERS = ("tensorboard", "wandb", "trackio")


def check_reporters(names: Sequence[str]) -> None:
    """`InputError` for a tracker that is not known or not installed."""
    for name in names:
        if name not in TRACKERS:
            raise InputError(f"--report-to {name}: must be {', '.join(TRACKERS[:-1])} or {TRACKERS[-1]}")
        if find_spec(name) is None:
            raise InputError(f"--report-to {name}: the package is not installed; pip install {name}")


class Reporting:
    """The connections of a trainer to trackers; tells nobody anything before ``begin``."""

    def __init__(self) -> None:
        self._trainer: Any = None
        self._connections: list[Any] = []

    def begin(self, trainer: Any) -> None:
        """Find the trainer's connections."""
        from transformers.integrations.integration_utils import get_reporting_integration_callbacks

        kinds = tuple(get_reporting_integration_callbacks(trainer.args.report_to))
        self._trainer = trainer
        self._connections = [one for one in trainer.callback_handler.callbacks if kinds and isinstance(one, kinds)]

    def tell(self, numbers: Mapping[str, float]) -> None:
        """Report numbers at the trainer's present step."""
        for connection in self._connections:
            trainer = self._trainer
            connection.on_log(trainer.args, trainer.state, trainer.control, logs=dict(numbers), model=trainer.model)
