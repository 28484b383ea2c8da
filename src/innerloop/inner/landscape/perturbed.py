"""The model at θ + α₁δ₁ + α₂δ₂, one module at a time: no second copy of the weights, and θ is never written to.

Each module that holds moved weights gets them just before its forward, from a scratch buffer, and its own tensors back
right after it. So θ is restored bit for bit whatever happens in between. One forward serves many grid points: the
batch is grid points × rows, the module's forward runs per grid point on its part of the batch, and directions are drawn
once per module and forward.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.inner.landscape.directions import Directions
from innerloop.inner.landscape.scratch import Scratch, Whole
from innerloop.inner.landscape.weights import Weight, owned

Point = tuple[float, ...]  # one coordinate per direction


class Perturbed:
    """Lets a model run at points around θ: a context manager, and ``at`` around each forward inside it.

    ``slices`` says whether one forward can serve several points. It cannot where a module that holds moved weights has
    others inside it (state-space mixers): then give ``at`` one point at a time.
    """

    def __init__(self, model: nn.Module, directions: Directions, *, whole: bool = False) -> None:
        """``whole`` puts all moved weights in place at once, which takes a copy of them, but fits any model."""
        self._directions = directions
        found = owned(model, directions.weights)
        self._sites = {model: list(directions.weights.values())} if whole else found
        self.slices = not whole and not any(
            inner is not module and inner in found for module in found for inner in module.modules()
        )
        self._points: Sequence[Point] = ()
        self._own = {weight.parameter: weight.parameter.data for weight in directions.weights.values()}
        self._scratch: list[Scratch] = []  # one for each depth to which moved modules are nested
        self._depth = 0
        self._forwards: dict[nn.Module, Any] = {}

    def __enter__(self) -> Perturbed:
        for module, weights in self._sites.items():
            self._forwards[module] = module.__dict__.get("forward")
            module.forward = self._wrap(module, weights)
        return self

    def __exit__(self, *_: object) -> None:
        for module, forward in self._forwards.items():
            del module.forward
            if forward is not None:  # an instance may bring a forward of its own
                module.forward = forward
        self._put_back(self._own)

    @contextmanager
    def at(self, points: Sequence[Point]) -> Iterator[None]:
        """While the block runs, the model's batch is points × rows, point by point, each at its own weights."""
        if len(points) > 1 and not self.slices:
            raise ValueError("this model takes one point at a time")
        self._points = points
        try:
            yield
        finally:
            self._points = ()
            self._depth = 0

    def _wrap(self, module: nn.Module, weights: Sequence[Weight]) -> Callable[..., Any]:
        forward = module.forward

        def moved(*args: Any, **kwargs: Any) -> Any:
            if not self._points:
                return forward(*args, **kwargs)
            self._depth += 1
            try:
                return self._run(module, forward, weights, args, kwargs)
            finally:
                self._depth -= 1

        return moved

    def _run(
        self, module: nn.Module, forward: Callable[..., Any], weights: Sequence[Weight], args: Any, kwargs: Any
    ) -> Any:
        while len(self._scratch) < self._depth:
            self._scratch.append(Scratch(self._sites.values(), self._directions.count))
        drawn = self._scratch[self._depth - 1].of(weights)
        for weight, place in zip(weights, drawn, strict=True):
            self._directions.fill(weight, place.directions)
        whole = Whole(len(self._points))
        for index, point in enumerate(self._points):
            try:
                for weight, place in zip(weights, drawn, strict=True):
                    weight.parameter.data = place.move(self._own[weight.parameter], point)
                if self._forwards[module] is not None or not whole.add_product(module, args, index):
                    whole.add(forward(*whole.part(args, index), **whole.part(kwargs, index)), index)
            finally:
                self._put_back({weight.parameter: self._own[weight.parameter] for weight in weights})
        return whole.output

    def _put_back(self, own: Mapping[nn.Parameter, Tensor]) -> None:
        for parameter, data in own.items():
            parameter.data = data


def reads_elsewhere(model: nn.Module, weights: Mapping[str, Weight], forward: Callable[[], Tensor]) -> bool:
    """Whether a weight is used while the module that holds it is not running, where moving it would go unnoticed.

    The weights are put out of sight (NaN) except during their own module's forward; ``forward`` runs the model.
    """
    own = {weight.parameter: weight.parameter.data for weight in weights.values()}
    hidden = {p: torch.full((), math.nan, dtype=p.dtype, device=p.device).expand(p.shape) for p in own}
    with ExitStack() as stack:

        def show(held: Sequence[Weight], data: Mapping[nn.Parameter, Tensor]) -> Callable[..., None]:
            def hook(*_: object) -> None:
                for weight in held:
                    weight.parameter.data = data[weight.parameter]

            return hook

        stack.callback(show(list(weights.values()), own))
        for module, held in owned(model, weights).items():
            stack.callback(module.register_forward_pre_hook(show(held, own)).remove)
            stack.callback(module.register_forward_hook(show(held, hidden), always_call=True).remove)
        show(list(weights.values()), hidden)()
        return bool(forward().isnan().any())
