"""Stopping where going on would only spoil weights: a loss that is no number."""

from __future__ import annotations

from typing import Any

import torch


class NotFiniteError(RuntimeError):
    """The loss of a step is NaN or infinite."""


class Guarded:
    """Mixed into a transformers trainer: a step whose loss is no number ends the training before it is applied."""

    state: Any

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """One part of a step; raises `NotFiniteError` with the step and the questions of the batch."""
        names = inputs.get("question_ids")
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)  # type: ignore[misc]
        if not torch.isfinite(loss).all():
            about = f" on the questions {_some(names)}" if names else ""
            raise NotFiniteError(
                f"the loss of step {self.state.global_step + 1} is {loss.item():g}{about}; the last checkpoint is "
                "kept: lower --learning-rate, use --dtype float32, or look at these rows"
            )
        return loss


def _some(names: list[str]) -> str:
    distinct = list(dict.fromkeys(names))
    return ", ".join(distinct[:3]) + (f" and {len(distinct) - 3} more" if len(distinct) > 3 else "")
