"""Gauge ``mlp``: patches on each layer's MLP (Dherin et al. 2025, arXiv 2507.16003, for k positions and all layers).

With Z the MLP's inputs at the branch's tokens of the reduced run and Z_full those of the full run, the projections into
the hidden layer get ΔW_in = W_in (Z_full − Z)ᵀ (Z⁺)ᵀ, so that the hidden layer is the full run's; the projection out of
it, ΔW_out, absorbs what is then still missing from the full run's residual stream. Needs blocks that add the plain
outputs of attention and MLP (pre-norm). Where the MLP reads the block's input itself (parallel blocks), it sees no
difference, and ΔW_out is all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

from torch import Tensor, nn

from innerloop.inner.anatomy import Anatomy, Layer, Mlp, project
from innerloop.inner.gauges.fit import Fit, Seen
from innerloop.inner.solve import RowSpace
from innerloop.inner.watch import first, input_of, layer_output


class MlpGauge:
    """See the module."""

    name: Literal["attention", "mlp"] = "mlp"

    def __init__(self, anatomy: Anatomy) -> None:
        self._layers = [(layer, anatomy.mlp_of(layer)) for layer in anatomy.layers]
        self.layers = tuple((*self._into(layer, mlp), mlp.out) for layer, mlp in self._layers)
        self.watches = tuple(layer_output(layer.name) for layer, _ in self._layers) + tuple(
            input_of(mlp.into[0]) for layer, mlp in self._layers if not layer.parallel
        )

    @staticmethod
    def _into(layer: Layer, mlp: Mlp) -> tuple[str, ...]:
        return () if layer.parallel else mlp.into

    @contextmanager
    def walking(self, model: nn.Module, full: Seen, fit: Fit) -> Iterator[None]:
        """Corrects each layer's MLP as the forward comes by."""
        with ExitStack() as hooks:
            for layer, mlp in self._layers:
                for handle in _hooks(model, layer, mlp, self._into(layer, mlp), full, fit):
                    hooks.callback(handle.remove)
            yield


def _hooks(model: nn.Module, layer: Layer, mlp: Mlp, into: tuple[str, ...], full: Seen, fit: Fit) -> Iterator[Any]:
    """The hooks of one layer; ``residual`` is the stream before the MLP adds to it, at the branch's rows."""
    residual: list[Tensor] = []
    spaces: list[RowSpace] = []

    def enter(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        residual[:] = [first(args, kwargs)[:, fit.branch]]
        spaces.clear()

    def mixed(_module: nn.Module, _args: tuple[Any, ...], out: Tensor) -> None:
        residual[0] = residual[0] + out[:, fit.branch]

    def widen(site: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor:
            x = args[0]
            if not spaces:  # all projections into the hidden layer read the same input
                spaces.append(fit.space(x))
            change = project(module, full[input_of(into[0])] - x[:, fit.branch])
            return fit.correct(site, spaces[0], x, out, change)

        return hook

    def narrow(_module: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor:
        x = args[0]
        change = full[layer_output(layer.name)] - residual[0] - out[:, fit.branch]
        return fit.correct(mlp.out, fit.space(x), x, out, change)

    yield model.get_submodule(layer.name).register_forward_pre_hook(enter, with_kwargs=True)
    for site in layer.outputs:
        yield model.get_submodule(site).register_forward_hook(mixed)
    for site in into:
        yield model.get_submodule(site).register_forward_hook(widen(site))
    yield model.get_submodule(mlp.out).register_forward_hook(narrow)
