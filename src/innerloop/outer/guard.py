"""Stopping where going on would only spoil weights: a loss that is no number."""

from __future__ import annotations

from typing import Any

import torch


class NotFiniteError(RuntimeError):
    """The loss of a step is NaN or infinite."""


class Guarded:
    """Mixed into a transformers trainer: a step whose loss is no number ends the training before it is applied."""

    state: Any

    def training_step(
        self, model: Any, inputs: dict[str, Any] | list[dict[str, Any]], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """One part of a step; raises `NotFiniteError` with the step and the questions of the batch."""
        names = inputs["question_ids"] if isinstance(inputs, dict) else [row["question_id"] for row in inputs]
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)  # type: ignore[misc]
        if not torch.isfinite(loss).all():
            raise NotFiniteError(
                f"the loss of step {self.state.global_step + 1} is {loss.item():g} on the questions {_some(names)}; "
                "the last checkpoint is kept: lower --learning-rate, use --dtype float32, or look at these rows"
            )
        return loss


def _some(names: list[str]) -> str:
    distinct = list(dict.fromkeys(names))
    return ", ".join(distinct[:3]) + (f" and {len(distinct) - 3} more" if len(distinct) > 3 else "")
