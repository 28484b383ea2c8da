"""Random directions in weight space, drawn again whenever they are needed and never stored whole (Li et al. 2018).

The numbers depend on the seed, the direction's index, the parameter's name and the block of rows alone: not on threads,
on the order of drawing, or on what else is drawn. On a CPU they are the same on every machine; a GPU draws its own.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from innerloop.inner.landscape.weights import Weight, norms

Scaling = Literal["filter", "tensor"]

# Numbers that one generator draws, in whole rows; part of the definition of a direction. A GPU wants few, large ones:
# with those of a CPU, the launches of a 7B model's draw would take longer than its forward.
_BLOCK, _DEVICE_BLOCK = 2**17, 2**24
_Job = tuple[Any, tuple[int, int, int, int], Any]  # a block of rows, its key, its factors


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
        on_cpu = outs[0].device.type == "cpu"
        parts = list(enumerate(_parts(weight, _BLOCK if on_cpu else _DEVICE_BLOCK)))
        jobs: deque[_Job] = deque()
        for index, out in enumerate(outs):
            scale: Any = None if factors is None else factors[index].expand(weight.shape)
            rows: Any = out
            if on_cpu:  # cutting arrays is ten times as fast as cutting tensors
                rows, scale = out.numpy(), None if scale is None else scale.numpy()
            for block, part in parts:
                jobs.append((rows[part], (self.seed, index, name, block), None if scale is None else scale[part]))
        draw = _draw_block if on_cpu else _draw_on_device
        threads = torch.get_num_threads() if on_cpu else 1
        # Whoever is free takes the next block: a core may still be held by one of torch's threads that waits for work.
        others = [_threads(threads).submit(_run, draw, jobs) for _ in range(min(threads, len(jobs)) - 1)]
        _run(draw, jobs)
        for other in others:
            other.result()


def wide(dtype: torch.dtype) -> torch.dtype:
    """What moved weights are computed in before they are rounded to the weights' own type."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _parts(weight: Weight, block: int) -> Iterator[tuple[int, slice]]:
    """Blocks of whole rows, which index ``Weight.matrices``."""
    step = max(1, block // weight.columns)
    for group in range(weight.groups):
        for first in range(0, weight.rows, step):
            yield group, slice(first, min(first + step, weight.rows))


def _run(draw: Callable[..., None], jobs: deque[_Job]) -> None:
    while True:
        try:
            job = jobs.popleft()
        except IndexError:
            return
        draw(*job)


def _draw_block(rows: NDArray[Any], key: Sequence[int], scale: NDArray[Any] | None) -> None:
    """Draw into a contiguous block of rows, scaled; numpy lets other threads run meanwhile."""
    count = rows.size
    bits = np.random.SFC64(np.random.SeedSequence(key)).random_raw(-(-count // 4)).view(np.uint16)[:count]
    bits = bits.reshape(rows.shape)
    if rows.dtype == np.float32:
        np.take(_quantiles(), bits, out=rows, mode="clip")  # any mode but raise writes without a buffer between
    else:
        rows[...] = np.take(_quantiles(), bits)
    if scale is not None:
        np.multiply(rows, scale, out=rows)


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
