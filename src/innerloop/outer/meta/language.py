"""The loss of a language model at other weights than its own, differentiable twice where that is wanted.

The model is called through `torch.func.functional_call`: the given tensors stand in for its trained parameters (all of
a small model, or a PEFT adapter's), everything else stays its own. Three things would go wrong in silence or late, and
are refused or handled here:

- Fused attention has no second derivative. PyTorch's own scaled dot-product attention is held to its MATH backend where
  one is needed (CPU and GPU alike; it builds the full matrix of scores); other kernels than that and ``eager`` are
  refused.
- Gradient checkpointing repeats the forward later, with the model's own weights instead of the given ones.
- Half-precision trained weights would round an inner step away.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from innerloop.errors import InputError
from innerloop.outer.loss import weighted_loss
from innerloop.outer.meta.task import Parameters
from innerloop.outer.rows import Row, collate

TWICE_DIFFERENTIABLE = ("eager", "sdpa")


class LanguageLoss:
    """loss(parameters, rows): the weighted mean token loss of rows, in nats. A batch is a tuple of rows.

    ``second_order`` makes it twice differentiable. The model is used in the mode (``train`` or ``eval``) it is in.
    """

    def __init__(self, model: nn.Module, *, pad_id: int, second_order: bool) -> None:
        _refuse(model, second_order)
        self.model = model
        self.pad_id = pad_id
        self.second_order = second_order
        self._device = next(model.parameters()).device

    def __call__(self, parameters: Parameters, batch: Sequence[Row]) -> Tensor:
        """The loss of a batch at the given parameters."""
        inputs = {name: tensor.to(self._device) for name, tensor in collate(batch, self.pad_id).items()}
        with sdpa_kernel(SDPBackend.MATH) if self.second_order else nullcontext():
            logits = functional_call(
                self.model,
                dict(parameters),
                (),
                {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"], "use_cache": False},
            ).logits
        return weighted_loss(logits, inputs["input_ids"], inputs["weights"])


def tokens_of(rows: Sequence[Row]) -> int:
    """What a batch takes through the model: rows times the longest, padding included."""
    return len(rows) * max(len(row.input_ids) for row in rows)


def _refuse(model: Any, second_order: bool) -> None:
    """`InputError` for a model on which the inner loop would go wrong."""
    kind = type(model).__name__
    if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        raise InputError(
            f"{kind}: gradient checkpointing repeats the forward with the wrong weights in an inner loop; switch it off"
        )
    halves = {
        str(p.dtype).removeprefix("torch.") for p in model.parameters() if p.requires_grad and p.dtype.itemsize < 4
    }
    if halves:
        raise InputError(
            f"{kind}: the trained weights are {', '.join(sorted(halves))}, in which small inner steps vanish; "
            "load the model with --dtype float32"
        )
    attention = getattr(getattr(model, "config", None), "_attn_implementation", "eager")
    if second_order and attention not in TWICE_DIFFERENTIABLE:
        raise InputError(
            f"{kind}: attention kernel {attention} has no second derivative; load the model with "
            f"attn_implementation {' or '.join(TWICE_DIFFERENTIABLE)}, or take fomaml or reptile"
        )
