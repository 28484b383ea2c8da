"""Gradient surgery: one gradient per family, joined by torchjd so that no family is pushed uphill by the others.

- ``pcgrad`` (Yu et al. 2020, arXiv 2001.06782): each family's gradient loses its component against every other family
  that it conflicts with, in random order; the results are averaged. With two families none is pushed uphill; with more
  that is not guaranteed.
- ``cagrad`` (Liu et al. 2021, arXiv 2110.14048): the direction within c·‖mean‖ of the mean that helps the family that
  gains least the most.
- ``upgrad`` (Quinton and Rey 2024, arXiv 2406.16232): each gradient is projected onto the cone of directions that push
  no family uphill; the results are averaged. Never conflicts, up to the solver's tolerance.

All three need only the families' inner products: torchjd makes weights of their Gram matrix, and nothing as large as
the model is built. torchjd takes a Gram matrix with a trace below 1e-4 for zero, which would switch surgery off, or
stop training, once gradients are small; so it is given one of trace 1, which has the same weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.errors import InputError
from innerloop.outer.meta.combine import Gradients, Share

Method = Literal["pcgrad", "cagrad", "upgrad"]

_RIDGE = 1e-9  # on the diagonal of UPGrad's quadratic program, at trace 1


class Surgery:
    """Joins family gradients by a method of torchjd. ``c`` is CAGrad's radius."""

    def __init__(self, method: Method, *, c: float = 0.5) -> None:
        self.method = method
        try:
            self._weighting = _weighting(method, c)
        except ImportError as error:
            raise InputError(
                f"--combine {method} needs torchjd and its solvers: pip install 'innerloop[surgery]'"
            ) from error

    def shares(self, families: Sequence[str]) -> list[Share]:
        """The mean over the tasks of each family."""
        counts = Counter(families)
        return [Share(family, 1 / counts[family]) for family in families]

    def join(self, gradients: Mapping[str, Gradients], seed: int) -> Gradients:
        """Σ w_f g_f at the scale of the mean of the families."""
        rows = list(gradients.values())
        gram = gram_matrix(rows)
        weights = self.family_weights(gram, seed)
        return {
            name: sum(
                (float(weight) * row[name] for weight, row in zip(weights, rows, strict=True)), start=torch.zeros(())
            )
            for name in rows[0]
        }

    def family_weights(self, gram: Float[Tensor, "family family"], seed: int) -> Float[Tensor, " family"]:
        """What each family's gradient is multiplied with, given their inner products."""
        count, trace = len(gram), gram.trace()
        if not trace > 0:  # all gradients are zero: any weights do
            return torch.full((count,), 1 / count, dtype=gram.dtype)
        with torch.random.fork_rng(devices=[]):  # PCGrad draws its orders from the global generator
            torch.default_generator.manual_seed(seed)
            weights = self._weighting(gram / trace)
        return weights / count if self.method == "pcgrad" else weights  # PCGrad is defined as a sum

    def learn(self, losses: Mapping[str, float]) -> None:
        """Nothing to learn."""

    def weights(self) -> dict[str, float]:
        """None that last."""
        return {}

    def state(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore."""


def gram_matrix(rows: Sequence[Gradients]) -> Float[Tensor, "family family"]:
    """Inner products of gradients over all parameters, summed in float64 on the CPU."""
    gram = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for i, one in enumerate(rows):
        for j, other in enumerate(rows[: i + 1]):
            gram[i, j] = gram[j, i] = sum(
                float(torch.sum(one[name] * other[name], dtype=torch.float64)) for name in one
            )
    return gram


def _weighting(method: Method, c: float) -> Any:
    from torchjd.aggregation import CAGradWeighting, PCGradWeighting, UPGradWeighting
    from torchjd.linalg import QuadprogProjector

    if method == "pcgrad":
        return PCGradWeighting()
    if method == "cagrad":
        return CAGradWeighting(c=c)
    return UPGradWeighting(projector=QuadprogProjector(reg_eps=_RIDGE))
