"""What a gradient says of a low-rank patch, and of random patches like it.

With X the inputs of a site and δ = ∂L/∂(its outputs), both one row per token, the gradient of L in the site's weight is
G = δᵀX (out × n). It is never formed: with ΔW = C Qᵀ, Q orthonormal, ⟨ΔW, G⟩ = Σ C ∘ δᵀ(XQ), and ‖G‖² is the sum of
(δδᵀ) ∘ (XXᵀ) over pairs of tokens.

The null: random patches R Qᵀ with the same row space and norm, R uniform on the sphere of radius ‖ΔW‖ in out × rank
dimensions. What they predict, ⟨R Qᵀ, G⟩, has mean 0 and variance ‖ΔW‖² ‖GQ‖² / (out · rank).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.inner.patch import Factors, Patch

# Singular values of ``down`` below this share of the largest are taken for zero. In a step from one patch to the next
# the two row spaces may be the same up to the round-off of float32 inputs: that is one row space, not two.
_RANK = 1e-5


@dataclass(frozen=True)
class Frame:
    """One site's patches as ΔW = ``coefficients`` ``basis``ᵀ, in float64.

    The columns of ``basis`` are orthonormal; those that ``within`` marks with 1 span the patch's row space, which is
    that of the factor ``down``: of the inputs that the patch was made for.
    """

    coefficients: Float[Tensor, "batch out rank"]
    basis: Float[Tensor, "batch n rank"]
    within: Float[Tensor, "batch rank"]

    @classmethod
    def of(cls, factors: Factors) -> Frame:
        """From any factors: neither has to be orthonormal or of full rank."""
        basis, triangle = torch.linalg.qr(factors.down.double())
        turn, values, _ = torch.linalg.svd(triangle, full_matrices=False)
        coefficients = factors.up.double() @ triangle.transpose(1, 2) @ turn
        return cls(coefficients, basis @ turn, (values > _RANK * values[:, :1]).double())

    @property
    def squared_norm(self) -> Float[Tensor, " batch"]:
        """‖ΔW‖²."""
        return self.coefficients.square().sum(dim=(1, 2))


@dataclass(frozen=True)
class Overlap:
    """A patch against a gradient, per batch entry, in float64; those of several sites add up.

    ``inner`` is ⟨ΔW, G⟩, ``patch`` ‖ΔW‖², ``gradient`` ‖G‖², ``null`` the variance of ⟨·, G⟩ over the random patches.
    """

    inner: Float[Tensor, " batch"]
    patch: Float[Tensor, " batch"]
    gradient: Float[Tensor, " batch"]
    null: Float[Tensor, " batch"]

    def __add__(self, other: Overlap) -> Overlap:
        return Overlap(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def cosine(self) -> Float[Tensor, " batch"]:
        """cos(ΔW, −G): positive where the patch goes downhill; NaN where either is zero."""
        return -self.inner / (self.patch * self.gradient).sqrt()


def overlap(frame: Frame, x: Float[Tensor, "#batch token n"], delta: Float[Tensor, "#batch token out"]) -> Overlap:
    """One site's patches against its gradients δᵀX; one gradient may serve all patches."""
    if x.dtype in (torch.bfloat16, torch.float16):
        x, delta = x.float(), delta.float()
    along = (delta.transpose(1, 2) @ (x @ frame.basis.to(x.dtype))).double()  # G Q
    tokens = (delta @ delta.transpose(1, 2)) * (x @ x.transpose(1, 2))
    squared = frame.squared_norm
    size = frame.coefficients.shape[1] * frame.within.sum(dim=-1)
    return Overlap(
        inner=(frame.coefficients * along).sum(dim=(1, 2)),
        patch=squared,
        gradient=tokens.double().sum(dim=(1, 2)).clamp_min(0.0).expand_as(squared),
        null=squared * (along.square().sum(dim=1) * frame.within).sum(dim=-1) / size.clamp_min(1.0),
    )


def frames(patch: Patch) -> dict[str, Frame]:
    """The frame of every site."""
    return {site: Frame.of(factors) for site, factors in patch.items()}


def random_like(patch: Patch, generator: torch.Generator) -> Patch:
    """Random patches of the null: at every site the same row space and Frobenius norm, drawn on the CPU in float64."""
    return {site: _random(frame, generator) for site, frame in frames(patch).items()}


def _random(frame: Frame, generator: torch.Generator) -> Factors:
    noise = torch.randn(frame.coefficients.shape, generator=generator, dtype=torch.float64).to(frame.basis.device)
    noise = noise * frame.within[:, None]
    length = noise.square().sum(dim=(1, 2)).sqrt().clamp_min(torch.finfo(torch.float64).tiny)
    return Factors(noise * (frame.squared_norm.sqrt() / length)[:, None, None], frame.basis)


def total(parts: Mapping[str, Overlap]) -> Overlap:
    """The sum over sites."""
    found = list(parts.values())
    return sum(found[1:], start=found[0])
