"""The smallest change of a weight that turns given inputs into given outputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_RANK = 1e-11  # singular values below this share of the largest are taken for zero (float64 inputs have 1e-16)


@dataclass(frozen=True)
class RowSpace:
    """Inputs X = RᵀQᵀ of k rows, per batch entry, in float64.

    ``basis`` Q (n × k) has orthonormal columns that span the rows; ``inverse`` is R⁻¹ (k × k), the pseudo-inverse where
    the rows are dependent. ``condition`` is the ratio of the largest to the smallest singular value (infinite where
    rows are dependent), ``rank`` the number of independent rows.
    """

    basis: Float[Tensor, "batch n k"]
    inverse: Float[Tensor, "batch k k"]
    condition: Float[Tensor, " batch"]
    rank: Float[Tensor, " batch"]

    @property
    def deficient(self) -> Bool[Tensor, " batch"]:
        """Whether some row is a combination of the others, so that not every output can be reached."""
        return self.rank < self.inverse.shape[-1]

    def smallest(self, change: Float[Tensor, "batch k out"]) -> Float[Tensor, "batch out k"]:
        """U of the smallest ΔW = U Qᵀ (Frobenius norm) with ΔW Xᵀ = changeᵀ; the least-squares one where deficient."""
        return change.double().transpose(1, 2) @ self.inverse


def row_space(rows: Float[Tensor, "batch k n"]) -> RowSpace:
    """Decomposes k input rows in float64, whatever their dtype: R may be badly conditioned, and costs little.

    With more rows than inputs (k > n) the rows are dependent.
    """
    wide = rows.double().transpose(1, 2)
    if wide.shape[1] < wide.shape[2]:
        wide = torch.nn.functional.pad(wide, (0, 0, 0, wide.shape[2] - wide.shape[1]))  # zero inputs: Q stays n × k
    basis, triangle = torch.linalg.qr(wide)
    left, values, right = torch.linalg.svd(triangle)
    largest = values[:, :1].clamp_min(torch.finfo(torch.float64).tiny)
    kept = values > _RANK * largest
    scaled = torch.where(kept, 1 / values.clamp_min(torch.finfo(torch.float64).tiny), 0.0)
    inverse = right.transpose(1, 2) @ (scaled[..., None] * left.transpose(1, 2))
    smallest = torch.where(kept.all(dim=-1), values[:, -1], 0.0)
    return RowSpace(
        basis=basis[:, : rows.shape[2]],
        inverse=inverse,
        condition=largest[:, 0] / smallest,
        rank=kept.sum(dim=-1).double(),
    )
