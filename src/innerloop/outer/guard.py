"""Stopping where going on would only spoil weights: a loss or a gradient that is no number."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class DivergedError(ArithmeticError):
    """A loss or the gradient of a step is no number any more. No step was made with it."""


@contextmanager
def naming(model: str) -> Iterator[None]:
    """`DivergedError` and whatever a sampler says of logits that are no numbers, with the model's name."""
    try:
        yield
    except DivergedError as error:
        raise DivergedError(f"model {model!r}: {error}") from error
    except RuntimeError as error:
        if "probability tensor contains" not in str(error):  # as torch's multinomial has it
            raise
        raise DivergedError(
            f"model {model!r} gives logits that are no numbers; use --dtype float32 or another model"
        ) from error


class Guarded:
    """Mixed into a transformers trainer: a step whose loss is no number ends the training before it is applied."""

    state: Any
    _names: list[str]  # of the questions of the step at hand

    def training_step(
        self, model: Any, inputs: dict[str, Any] | list[dict[str, Any]], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """One part of a step; raises `DivergedError` with the step and the questions of the batch."""
        self._names = inputs["question_ids"] if isinstance(inputs, dict) else [row["question_id"] for row in inputs]
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)  # type: ignore[misc]
        self._require(loss.item(), "loss")
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """The trainer asks for it behind the last part of a step, before the step is made."""
        found = super()._get_grad_norm(model, grad_norm)  # type: ignore[misc]
        self._require(float(found), "gradient")
        return found

    def _require(self, value: float, what: str) -> None:
        if not math.isfinite(value):
            remedy = "the last checkpoint is kept: lower --learning-rate, use --dtype float32, or look at these rows"
            if self.state.global_step == 0:  # nothing has changed the model yet
                remedy = "no step was made: use --dtype float32 or another model, or look at these rows"
            raise DivergedError(
                f"the {what} of step {self.state.global_step + 1} is {value:g} on the questions {_some(self._names)}; "
                f"{remedy}"
            )


def _some(names: list[str]) -> str:
    distinct = list(dict.fromkeys(names))
    return ", ".join(distinct[:3]) + (f" and {len(distinct) - 3} more" if len(distinct) > 3 else "")
