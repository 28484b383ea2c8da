"""Gauge ``attention``: one patch per layer, on the output projection W_o of attention (or of another token mixer).

With O (k × d_in) the inputs of W_o at the branch's tokens in the reduced run, all earlier layers already patched, and
Y (k × d) the full run's outputs there: ΔW_o = (Y − O W_oᵀ)ᵀ (O⁺)ᵀ. Rank ≤ k, exact whatever the norms, gating and
experts, as long as O has rank k.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

from torch import Tensor, nn

from innerloop.inner.anatomy import Anatomy, Layer
from innerloop.inner.gauges.fit import Fit, Seen
from innerloop.inner.watch import first, input_of, output


class AttentionGauge:
    """See the module. Where a block simply adds attention's output to its input and the MLP reads the sum, that sum is
    restored rather than the output: what differs at the block's input (round-off of the layers before, or learned
    position embeddings of a contiguous run) is mended with it."""

    name: Literal["attention", "mlp"] = "attention"

    def __init__(self, anatomy: Anatomy) -> None:
        self._layers = anatomy.layers
        self.layers = tuple(layer.outputs for layer in anatomy.layers)
        self.watches = tuple(output(site) for sites in self.layers for site in sites) + tuple(
            input_of(layer.name) for layer in anatomy.layers if _restores_sum(layer)
        )

    @contextmanager
    def walking(self, model: nn.Module, full: Seen, fit: Fit) -> Iterator[None]:
        """Corrects each layer's W_o as the forward comes by."""
        entered: dict[str, Tensor] = {}  # what is missing at the branch's rows of a block's input

        def enter(layer: Layer) -> Any:
            def note(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                entered[layer.name] = full[input_of(layer.name)] - first(args, kwargs)[:, fit.branch]

            return note

        def correct(layer: Layer, site: str) -> Any:
            def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> Tensor:
                x = first(args, kwargs)
                change = full[output(site)] - out[:, fit.branch] + entered.get(layer.name, 0.0)
                return fit.correct(site, fit.space(x), x, out, change)

            return hook

        with ExitStack() as hooks:
            for layer in self._layers:
                if _restores_sum(layer):
                    block = model.get_submodule(layer.name)
                    hooks.callback(block.register_forward_pre_hook(enter(layer), with_kwargs=True).remove)
                for site in layer.outputs:
                    handle = model.get_submodule(site).register_forward_hook(correct(layer, site), with_kwargs=True)
                    hooks.callback(handle.remove)
            yield


def _restores_sum(layer: Layer) -> bool:
    return layer.adds and not layer.parallel and len(layer.outputs) == 1
