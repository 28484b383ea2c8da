"""Where moved weights live while they are in place, and how one module's work is split among grid points."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.inner.landscape.directions import wide
from innerloop.inner.landscape.weights import Weight


@dataclass(frozen=True)
class Place:
    """Buffers for one weight: its part of each direction, and where it is moved to (``rounded``: to its own dtype)."""

    directions: Sequence[Tensor]
    moved: Tensor
    rounded: Tensor | None

    def move(self, own: Tensor, point: Sequence[float]) -> Tensor:
        """W + Σ αᵢ Dᵢ in the buffer, shaped as W, rounded to W's dtype once."""
        moved = self.moved.view(own.shape)
        torch.add(own, self.directions[0].view(own.shape), alpha=point[0], out=moved)
        for direction, coordinate in zip(self.directions[1:], point[1:], strict=True):
            moved.add_(direction.view(own.shape), alpha=coordinate)
        if self.rounded is None:
            return moved
        return self.rounded.view(own.shape).copy_(moved)


class Scratch:
    """Buffers as large as the largest module's weights, lent to one module after the other."""

    def __init__(self, sites: Iterable[Collection[Weight]], directions: int) -> None:
        self._directions = directions
        most = max(sites, key=lambda weights: sum(weight.parameter.numel() for weight in weights))
        self._size = sum(weight.parameter.numel() for weight in most)
        self._buffers: dict[tuple[str, torch.dtype], Tensor] = {}

    def of(self, weights: Collection[Weight]) -> list[Place]:
        """A place for each of a module's weights."""
        places, start = [], 0
        for weight in weights:
            own = weight.parameter
            dtype, size = wide(own.dtype), own.numel()
            *drawn, moved = (
                self._buffer(f"wide {index}", dtype, own.device)[start : start + size]
                for index in range(self._directions + 1)
            )
            rounded = None if own.dtype == dtype else self._buffer("own", own.dtype, own.device)[start : start + size]
            places.append(Place([part.view(weight.shape) for part in drawn], moved, rounded))
            start += size
        return places

    def _buffer(self, name: str, dtype: torch.dtype, device: torch.device) -> Tensor:
        key = (name, dtype)
        if key not in self._buffers:
            self._buffers[key] = torch.empty(self._size, dtype=dtype, device=device)
        return self._buffers[key]


class Whole:
    """The output of a module for a batch of ``points`` × rows, put together from its outputs for one point each."""

    def __init__(self, points: int) -> None:
        self._points = points
        self.output: Any = None

    def part(self, arguments: Any, index: int) -> Any:
        """The arguments, with each tensor's share that belongs to a point; points are outermost in the batch."""
        if self._points == 1:
            return arguments
        if isinstance(arguments, dict):
            return {name: self._share(value, index) for name, value in arguments.items()}
        return tuple(self._share(value, index) for value in arguments)

    def add(self, output: Any, index: int) -> None:
        """Take over the output for a point: a tensor, or a tuple of them."""
        if self._points == 1:
            self.output = output
        elif isinstance(output, Tensor):
            if index == 0:
                self.output = output.new_empty((self._points * output.shape[0], *output.shape[1:]))
            self._share(self.output, index).copy_(output)
        else:
            if index == 0:
                self.output = tuple(Whole(self._points) for _ in output)
            for whole, part in zip(self.output, output, strict=True):
                whole.add(part, index)
            if index == self._points - 1:
                self.output = tuple(whole.output for whole in self.output)

    def add_product(self, module: Any, arguments: Sequence[Any], index: int) -> bool:
        """For a plain ``nn.Linear``, write the product where it belongs without a copy. False for any other module."""
        plain = type(module) is nn.Linear  # a subclass may do anything
        if not plain or len(arguments) != 1:
            return False
        (x,) = arguments
        if index == 0:
            self.output = x.new_empty((*x.shape[:-1], module.out_features))
        given, out = (self._share(tensor, index).flatten(0, -2) for tensor in (x, self.output))
        if module.bias is None:
            torch.mm(given, module.weight.t(), out=out)
        else:
            torch.addmm(module.bias, given, module.weight.t(), out=out)
        return True

    def _share(self, value: Any, index: int) -> Any:
        if not isinstance(value, Tensor) or value.ndim == 0:
            return value
        return value.unflatten(0, (self._points, -1))[index]
