"""The outer loss: the weighted mean of the token losses of a batch (RaML eq. 8 with weight on the answer alone)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def weighted_loss(
    logits: Float[Tensor, "row token vocab"],
    input_ids: Int[Tensor, "row token"],
    weights: Float[Tensor, "row token"],
    normaliser: Tensor | float | None = None,
) -> Float[Tensor, ""]:
    """−Σ wᵢ log p(xᵢ | x₍<ᵢ₎) / Σ wᵢ in nats, over all rows together.

    ``weights[:, i]`` belongs to the prediction of token i; the first token is never predicted. ``normaliser`` replaces
    Σ wᵢ where a batch is worked through in parts. Without any weight the loss is 0.
    """
    shifted = logits[:, :-1].float() if logits.dtype.itemsize == 2 else logits[:, :-1]
    token_losses = torch.nn.functional.cross_entropy(
        shifted.flatten(0, 1), input_ids[:, 1:].flatten(), reduction="none"
    )
    kept = weights[:, 1:].to(token_losses.dtype)
    total = kept.sum() if normaliser is None else torch.as_tensor(normaliser, dtype=kept.dtype, device=kept.device)
    return (token_losses.view_as(kept) * kept).sum() / total.clamp(min=torch.finfo(kept.dtype).tiny)
