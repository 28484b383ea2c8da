"""Extreme eigenvalues and trace of a symmetric matrix that is only known by its products with vectors.

A vector is a list of tensors, as the weights of a model are. Nothing is orthogonalised against earlier vectors, so
three of them are held at once: rounding lets eigenvalues appear twice, which does not touch the outermost ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Vector = list[Tensor]
Product = Callable[[Vector], Vector]


@dataclass(frozen=True)
class Extremes:
    """The outermost eigenvalues. Each has some eigenvalue of the matrix within its ``error`` (its residual's norm)."""

    top: float
    low: float
    top_error: float
    low_error: float
    steps: int


@dataclass(frozen=True)
class Trace:
    """Hutchinson's estimate and its standard error (NaN for a single sample)."""

    mean: float
    error: float


def lanczos(product: Product, like: Sequence[Tensor], *, steps: int, seed: int, tolerance: float = 1e-3) -> Extremes:
    """Highest and lowest eigenvalue by Lanczos' three-term recurrence from a random start.

    Stops when both residuals are below ``tolerance`` times the larger absolute value, or after ``steps`` products.
    """
    from scipy.linalg import eigh_tridiagonal

    generator = torch.Generator(like[0].device).manual_seed(seed)
    current = [torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device) for x in like]
    _scale(current, 1 / _norm(current))
    before = [torch.zeros_like(x) for x in current]
    diagonal: list[float] = []
    beside: list[float] = []
    found = Extremes(math.nan, math.nan, math.nan, math.nan, 0)
    while True:
        image = product(current)
        diagonal.append(_dot(current, image))
        for x, y, z in zip(before, image, current, strict=True):  # the vector before makes room for the next
            x.mul_(-beside[-1] if beside else 0.0).add_(y).add_(z, alpha=-diagonal[-1])
        del image
        rest = _norm(before)
        values, vectors = eigh_tridiagonal(np.array(diagonal), np.array(beside))
        errors = rest * np.abs(vectors[-1, [0, -1]])
        found = Extremes(float(values[-1]), float(values[0]), float(errors[1]), float(errors[0]), len(diagonal))
        size = float(np.abs(values).max())
        if len(diagonal) == steps or max(errors) <= tolerance * size or rest <= 1e-12 * size:
            return found
        beside.append(rest)
        _scale(before, 1 / rest)
        before, current = current, before


def hutchinson(product: Product, like: Sequence[Tensor], *, samples: int, seed: int) -> Trace:
    """The trace, as the mean of vᵀHv over vectors of random signs; exact for a diagonal matrix."""
    generator = torch.Generator(like[0].device).manual_seed(seed)
    found = []
    for _ in range(samples):
        signs = [
            torch.randint(0, 2, x.shape, generator=generator, device=x.device).to(x.dtype).mul_(2).sub_(1) for x in like
        ]
        found.append(_dot(signs, product(signs)))
    error = float(np.std(found, ddof=1)) / math.sqrt(samples) if samples > 1 else math.nan
    return Trace(float(np.mean(found)), error)


def _dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """In float64 across tensors; within one, float32 sums of torch are pairwise."""
    return math.fsum(float((x * y).sum(dtype=torch.float64)) for x, y in zip(a, b, strict=True))


def _norm(a: Sequence[Tensor]) -> float:
    return math.sqrt(_dot(a, a))


def _scale(a: Sequence[Tensor], factor: float) -> None:
    for x in a:
        x.mul_(factor)
