"""Data parallel in a few lines: every process takes some of a step's tasks, sums go over all of them.

Each process knows all tasks of a step and all results, so all of them update alike. Without
`torch.distributed` there is one process and nothing to do.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor


def rank() -> int:
    """Which process this is, from 0."""
    return dist.get_rank() if _several() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _several() else 1


def sum_over(tensors: Mapping[str, Tensor]) -> None:
    """Add up tensors over all processes, in place; the same names in the same order everywhere."""
    if _several():
        for tensor in tensors.values():
            dist.all_reduce(tensor)


def same_start(tensors: Mapping[str, Tensor]) -> None:
    """Give every process the first one's values, in place."""
    if _several():
        with torch.no_grad():
            for tensor in tensors.values():
                dist.broadcast(tensor, src=0)


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
