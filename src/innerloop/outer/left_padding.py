"""Positions for rows that are padded on the left.

TRL pads prompts on the left and feeds no position ids, so a row's first token stands where the padding ends. Rotary
embeddings see distances alone and do not mind; learned absolute positions do, and so do rotary ones whose frequencies
change with length. Every row is therefore counted from its own first token, as it is when the model answers.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from jaxtyping import Int


def positions(mask: Int[torch.Tensor, "row token"]) -> Int[torch.Tensor, "row token"]:
    """The place of each token among those of its row that are no padding; padding has 0."""
    return (mask.cumsum(dim=-1) - 1).clamp(min=0)


def count_from_first_token(model: Any) -> None:
    """Give the model position ids for padded rows wherever none are given; nothing for one that takes none."""
    if "position_ids" in inspect.signature(model.forward).parameters:
        model.register_forward_pre_hook(_with_positions, with_kwargs=True)


def _with_positions(
    _: Any, arguments: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    mask, ids = named.get("attention_mask"), named.get("input_ids")
    if mask is None or ids is None or mask.shape != ids.shape or named.get("position_ids") is not None:
        return None  # generation counts by itself
    if bool(mask[:, 0].all()):  # padding on the right moves nothing
        return None
    return arguments, named | {"position_ids": positions(mask)}
