"""The layer-causal gradient: what a layer could learn from its own output alone.

The full gradient of a layer's weights also says how later layers will use its output, which a forward pass cannot
know. Deutch et al. (2024, "In-context learning and gradient descent revisited", arXiv 2311.07772) therefore give every
layer a loss of its own: its output goes through the model's final norm and head, the cross-entropy of the answer is
taken there, and nothing flows back into earlier layers. In the last layer the two gradients are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from innerloop.errors import InputError
from innerloop.inner.task import answer_losses
from innerloop.models import LoadedModel

_AGREEMENT = {torch.float64: 1e-9, torch.float32: 1e-3}  # logits; half precisions below
_HALF_AGREEMENT = 0.5
_LOGITS = 2**25  # numbers held at once


@dataclass(frozen=True)
class Readout:
    """A model's way from the residual stream behind the last layer to its logits."""

    norm: nn.Module
    head: nn.Module
    softcap: float | None

    def __call__(self, hidden: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch token vocabulary"]:
        """Logits of residual-stream states."""
        logits: Tensor = self.head(self.norm(hidden))
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


def readout(loaded: LoadedModel) -> Readout:
    """The final norm and the head. `InputError` where the model has no single norm behind its blocks."""
    model = loaded.model
    config = model.config.get_text_config()
    parts = list(model.base_model.named_children())
    lists = [i for i, (_, part) in enumerate(parts) if isinstance(part, nn.ModuleList)]
    behind = parts[lists[0] + 1 :] if lists else []
    norms = [part for name, part in behind if "norm" in name or name.startswith("ln_")]
    head = model.get_output_embeddings()
    if len(norms) != 1 or head is None:
        raise InputError(
            f"{type(model).__name__}: no final norm and head found behind the blocks (looked for one module with norm "
            f"or ln_ in its name), so there is no layer-causal gradient for this model"
        )
    return Readout(norms[0], head, getattr(config, "final_logit_softcapping", None))


def check_readout(
    found: Float[Tensor, "batch answer vocabulary"], expected: Float[Tensor, "batch answer vocabulary"], name: str
) -> None:
    """`InputError` where the readout of the last layer is not what the model itself says."""
    difference = float((found - expected).abs().max())
    if not difference <= _AGREEMENT.get(expected.dtype, _HALF_AGREEMENT) * max(1.0, float(expected.abs().max())):
        raise InputError(
            f"{name}: final norm and head give logits that are {difference:.1g} off the model's own, so there is no "
            f"layer-causal gradient for this model"
        )


def layer_gradients(
    read: Readout,
    states: Sequence[Float[Tensor, "batch answer width"]],
    outputs: Sequence[Mapping[str, Tensor]],
    answer: Int[Tensor, " answer"],
) -> Iterator[dict[str, Tensor]]:
    """Per layer δ at each of its sites: the gradient of the layer's own answer loss in the sites' outputs.

    ``states`` are the residual streams behind the layers at the answer's positions, ``outputs`` the outputs of each
    layer's sites, all of one forward whose graph is kept. Losses in nats per answer token, each batch entry its own.
    Only the way from a layer's sites to the layer's own output is walked back: earlier layers get nothing.
    """
    slopes = _slopes(read, states, answer)
    for state, slope, sites in zip(states, slopes, outputs, strict=True):
        found = torch.autograd.grad(state, list(sites.values()), grad_outputs=slope, retain_graph=True)
        yield dict(zip(sites, found, strict=True))


def _slopes(
    read: Readout, states: Sequence[Float[Tensor, "batch answer width"]], answer: Int[Tensor, " answer"]
) -> Iterator[Float[Tensor, "batch answer width"]]:
    """The gradient of each state's answer loss in the state, many layers at once: the head is large, rows are few."""
    entries = states[0].shape[0] * states[0].shape[1] * read.head.weight.shape[0]  # type: ignore[index]
    size = max(1, _LOGITS // int(entries))
    for start in range(0, len(states), size):
        cut = torch.stack([state.detach() for state in states[start : start + size]]).requires_grad_()
        logits = read(cut.flatten(0, 1))
        (found,) = torch.autograd.grad(answer_losses(logits, answer).sum(), cut)
        yield from found
