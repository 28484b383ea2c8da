"""The trajectory's own plane and lines: directions made of the low-rank factors of θ'ᵢ − θ, without any dense ΔW kept.

The plane is spanned by the first two principal directions of {θ'ᵢ − θ}, about θ and not about their mean, since the
path begins at θ. Both come from the Gram matrix of the patches, and a direction's part at a weight is formed when that
weight is moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.inner.landscape.scoring import Row, losses
from innerloop.inner.landscape.weights import Weight, landscape_weights
from innerloop.inner.patch import Factors, Patch, gram, squared_norms
from innerloop.inner.watch import first
from innerloop.models import LoadedModel


class FactorDirections:
    """δₘ = Σ_b c[m, b] ΔW_b: combinations of the entries of a patch, formed at one weight at a time."""

    def __init__(self, loaded: LoadedModel, patch: Patch, coefficients: Float[Tensor, "direction batch"]) -> None:
        everything = landscape_weights(loaded.model)
        self._sites = {f"{site}.weight": factors for site, factors in patch.items()}
        self.weights = {name: everything[name] for name in self._sites}
        self.count = len(coefficients)
        self._coefficients = coefficients

    def fill(self, weight: Weight, outs: Sequence[Tensor]) -> None:
        """Write each direction's part at a weight."""
        factors = self._sites[weight.name]
        down = factors.down.transpose(1, 2).flatten(0, 1)  # (batch · rank) × in
        for coefficients, out in zip(self._coefficients, outs, strict=True):
            up = (factors.up * coefficients.to(factors.up)[:, None, None]).transpose(0, 1).flatten(1)
            dense = up @ down
            out.copy_((dense.T if weight.transposed else dense)[None])


@dataclass(frozen=True)
class PathPlane:
    """A trajectory's plane.

    ``coordinates`` are the path's own, one row per position, in units of ``length``, the distance of its farthest point
    from θ; ``captured`` is the share of Σᵢ ‖θ'ᵢ − θ‖² that lies in the plane (NaN for a path that never leaves θ).
    """

    directions: FactorDirections
    coordinates: Float[Tensor, "position 2"]
    length: float
    captured: float


def path_plane(loaded: LoadedModel, patch: Patch) -> PathPlane:
    """The plane of the path whose points are the entries of a patch (uncentred principal directions)."""
    products = torch.stack([gram(factors).double() for factors in patch.values()]).sum(dim=0).cpu()
    values, vectors = torch.linalg.eigh((products + products.T) / 2)
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    if len(values) == 1:  # a path of one point is a line; the other axis has no direction
        values, vectors = torch.cat([values, values.new_zeros(1)]), torch.cat([vectors, torch.zeros_like(vectors)], 1)
    length = float(products.diagonal().max().clamp_min(0).sqrt())
    signs = torch.where(vectors[-1, :2] < 0, -1.0, 1.0)  # the path ends in the first quadrant
    along = vectors[:, :2] * signs
    sizes = values[:2].sqrt()
    solid = sizes > 1e-9 * sizes[0] if length else torch.zeros(2, dtype=torch.bool)
    coefficients = torch.where(solid[:, None], length * along.T / sizes.clamp_min(1e-300)[:, None], 0.0)
    return PathPlane(
        directions=FactorDirections(loaded, patch, coefficients),
        coordinates=along * sizes / length if length else torch.zeros(len(products), 2, dtype=torch.float64),
        length=length,
        captured=float(values[:2].sum() / values.sum()) if length else float("nan"),
    )


def line(loaded: LoadedModel, along: Patch, length: float) -> FactorDirections:
    """The direction of a patch of one entry, ``length`` long; zero where the patch is."""
    size = norm(along)
    return FactorDirections(loaded, along, torch.full((1, 1), length / size if size else 0.0, dtype=torch.float64))


def norm(patch: Patch) -> float:
    """‖Δ‖ over all sites and entries of a patch."""
    return float(torch.stack([value.sum() for value in squared_norms(patch).values()]).sum().sqrt())


def gradient_factors(loaded: LoadedModel, row: Row, sites: Sequence[str]) -> Patch:
    """∇L_q(θ) at linear modules, in nats per answer token, as δᵀX: gradients at their outputs times their inputs.

    One entry, whose rank is the number of tokens. Needs no gradient of any weight.
    """
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def record(site: str, _module: object, args: object, kwargs: object, out: Tensor) -> Tensor:
        inputs[site] = first(args, kwargs).detach()  # type: ignore[arg-type]  # as torch hands them over
        outputs[site] = out if out.requires_grad else out.detach().requires_grad_()
        return outputs[site]

    handles = [
        loaded.model.get_submodule(site).register_forward_hook(partial(record, site), with_kwargs=True)
        for site in sites
    ]
    try:
        with torch.inference_mode(False), torch.enable_grad():
            loss = losses(loaded, [row])[0, 0]
            deltas = torch.autograd.grad(loss, [outputs[site] for site in sites])
    finally:
        for handle in handles:
            handle.remove()
    return {
        site: Factors(delta.detach().double().transpose(1, 2), inputs[site].double().transpose(1, 2))
        for site, delta in zip(sites, deltas, strict=True)
    }
