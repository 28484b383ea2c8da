"""Several processes that train one model: what they add up, and what they have to agree on.

In meta-learning every process takes some of a step's tasks, knows all tasks and all results, and updates as all others
do; transformers' trainers spread rows themselves. Without `torch.distributed` there is one process and nothing to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

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


def meet() -> None:
    """Wait until every process is here."""
    if _several():
        dist.barrier()


@contextmanager
def main_first() -> Iterator[None]:
    """The first process goes through the block before all others."""
    if rank():
        meet()
    yield
    if not rank():
        meet()


def any_of(flag: bool) -> bool:
    """Whether it is so in any process, so that all of them act alike."""
    if not _several():
        return flag
    told = torch.tensor(float(flag), device="cuda" if "nccl" in dist.get_backend() else "cpu")
    dist.all_reduce(told, op=dist.ReduceOp.MAX)
    return bool(told)


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
