"""Random directions in weight space, drawn again whenever they are needed and never stored whole (Li et al. 2018).

The numbers depend on the seed, the direction's index, the parameter's name and the block of rows alone: not on threads,
on the order of drawing, or on what else is drawn. On a CPU they are the same on every machine; a GPU draws its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from innerloop.inner.landscape.weights import Weight, norms

Scaling = Literal["filter", "tensor"]

_BLOCK = 2**17  # numbers that one generator draws, in whole rows; part of the definition of a direction


@runtime_checkable
class Directions(Protocol):
    """One direction or two in the space of some weights."""

    @property
    def count(self) -> int:
        """How many: 1 makes lines, 2 planes."""

    @property
    def weights(self) -> Mapping[str, Weight]:
        """The weights that are moved, by name."""

    def fill(self, weight: Weight, outs: Sequence[Tensor]) -> None:
        """Write each direction's part at a weight, shaped as `Weight.matrices`, in float32 or wider."""


class RandomDirections:
    """Normally distributed directions, scaled to the weights: per filter (Li et al. 2018) or per tensor (RaML's code).

    ``filter``: each filter of a direction has the norm of the weights' own filter. ``tensor``: each tensor of it has
    the norm of the weights' tensor. Making the object draws everything once to find the factors, one number per filter
    and direction, which are all that is kept.
    """

    def __init__(
        self, weights: Mapping[str, Weight], *, seed: int, scaling: Scaling = "filter", count: int = 2
    ) -> None:
        self.count = count
        self.weights = dict(weights)
        self.seed = seed
        self._factors: dict[str, list[Tensor]] = {}
        for weight in self.weights.values():
            own = weight.matrices()
            drawn = [torch.empty(weight.shape, dtype=wide(own.dtype), device=own.device) for _ in range(count)]
            self._draw(weight, drawn)
            axis = weight.filter_axis if scaling == "filter" else None
            target = norms(own, axis)
            self._factors[weight.name] = [(target / norms(noise, axis)).to(noise.dtype) for noise in drawn]

    def fill(self, weight: Weight, outs: Sequence[Tensor]) -> None:
        """Write each direction's part at a weight, on all of torch's threads."""
        self._draw(weight, outs, self._factors[weight.name])

    def _draw(self, weight: Weight, outs: Sequence[Tensor], factors: Sequence[Tensor] | None = None) -> None:
        name = int.from_bytes(hashlib.blake2b(weight.name.encode(), digest_size=8).digest(), "big")
        jobs = []
        for index, out in enumerate(outs):
            factor = factors[index].expand(weight.shape) if factors is not None else None
            for block, part in enumerate(_parts(weight)):
                scale = factor[part] if factor is not None else None
                jobs.append((out[part], (self.seed, index, name, block), scale))
        if outs[0].device.type != "cpu":
            for job in jobs:
                _draw_on_device(*job)
        elif torch.get_num_threads() == 1 or len(jobs) == 1:
            for job in jobs:
                _draw_block(*job)
        else:
            list(_threads(torch.get_num_threads()).map(_draw_block, *zip(*jobs, strict=True)))


def wide(dtype: torch.dtype) -> torch.dtype:
    """What moved weights are computed in before they are rounded to the weights' own type."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _parts(weight: Weight) -> Iterator[tuple[int, slice]]:
    """Blocks of whole rows, which index ``Weight.matrices``."""
    step = max(1, _BLOCK // weight.columns)
    for group in range(weight.groups):
        for first in range(0, weight.rows, step):
            yield group, slice(first, min(first + step, weight.rows))


def _draw_block(out: Tensor, key: Sequence[int], scale: Tensor | None) -> None:
    """Draw into a contiguous block of rows, scaled; numpy lets other threads run meanwhile."""
    rows = out.numpy()
    count = rows.size
    bits = np.random.SFC64(np.random.SeedSequence(key)).random_raw(-(-count // 4)).view(np.uint16)[:count]
    bits = bits.reshape(rows.shape)
    if rows.dtype == np.float32:
        np.take(_quantiles(), bits, out=rows, mode="clip")  # any mode but raise writes without a buffer between
    else:
        rows[...] = np.take(_quantiles(), bits)
    if scale is not None:
        np.multiply(rows, scale.numpy(), out=rows)


@lru_cache(maxsize=1)
def _quantiles() -> NDArray[np.float32]:
    """The standard normal distribution in 65,536 equally likely values: a lookup is five times as fast as a draw."""
    from scipy.special import ndtri

    steps = 2**16
    return ndtri((np.arange(steps) + 0.5) / steps).astype(np.float32)


def _draw_on_device(out: Tensor, key: Sequence[int], scale: Tensor | None) -> None:
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
    out.normal_(generator=torch.Generator(out.device).manual_seed(seed))
    if scale is not None:
        out.mul_(scale)


@lru_cache(maxsize=1)
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="innerloop-draw")
