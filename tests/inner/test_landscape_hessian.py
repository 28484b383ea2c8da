"""Lanczos and Hutchinson against matrices of which all is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from innerloop.inner.landscape.hessian import hutchinson, lanczos


def quadratic(eigenvalues, shapes=((3, 4), (8,)), seed=0):
    """The Hessian of ½ wᵀAw, by double backward, with w in tensors of these shapes; A has the eigenvalues given."""
    draw = torch.Generator().manual_seed(seed)
    size = len(eigenvalues)
    turn, _ = torch.linalg.qr(torch.randn(size, size, generator=draw, dtype=torch.float64))
    matrix = turn @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ turn.T
    weights = [torch.randn(s, generator=draw, dtype=torch.float64, requires_grad=True) for s in shapes]
    flat = torch.cat([weight.flatten() for weight in weights])
    slopes = torch.autograd.grad(0.5 * flat @ matrix @ flat, weights, create_graph=True)
    return weights, lambda vector: list(torch.autograd.grad(slopes, weights, vector, retain_graph=True))


EIGENVALUES = [9.0, 5.0, *np.linspace(-1, 2, 17).tolist(), -4.0]


def test_outermost_eigenvalues_of_a_quadratic():
    weights, product = quadratic(EIGENVALUES)
    found = lanczos(product, weights, steps=20, seed=0, tolerance=1e-10)
    assert found.top == pytest.approx(9, rel=1e-8)
    assert found.low == pytest.approx(-4, rel=1e-8)
    assert max(found.top_error, found.low_error) < 1e-6


def test_the_error_bounds_the_distance_to_an_eigenvalue():
    weights, product = quadratic(EIGENVALUES)
    for steps in range(1, 12):
        found = lanczos(product, weights, steps=steps, seed=1, tolerance=0.0)
        assert found.steps == steps
        for value, error in ((found.top, found.top_error), (found.low, found.low_error)):
            assert min(abs(value - true) for true in EIGENVALUES) <= error + 1e-9


def test_it_stops_when_it_is_exact_enough():
    weights, product = quadratic(EIGENVALUES)
    assert lanczos(product, weights, steps=20, seed=0, tolerance=0.05).steps < 12
    weights, product = quadratic([2.0] * 20)  # one product says it all
    found = lanczos(product, weights, steps=20, seed=0)
    assert (found.steps, found.top) == (1, pytest.approx(2))


def test_the_zero_matrix():
    weights = [torch.zeros(3)]
    found = lanczos(lambda vector: [torch.zeros(3)], weights, steps=5, seed=0)
    assert (found.top, found.low, found.steps) == (0, 0, 1)


def test_the_trace_of_a_diagonal_matrix_is_exact():
    diagonal = torch.arange(6.0)
    found = hutchinson(lambda vector: [diagonal * vector[0]], [torch.zeros(6)], samples=3, seed=0)
    assert found.mean == 15
    assert found.error == 0


@pytest.mark.slow
def test_the_trace_of_a_quadratic_is_within_its_errors():
    weights, product = quadratic(EIGENVALUES)
    off = []
    for seed in range(40):
        found = hutchinson(product, weights, samples=30, seed=seed)
        off.append((found.mean - sum(EIGENVALUES)) / found.error)
    assert np.mean(np.abs(off) < 2) > 0.8, "about 95 % within two standard errors"
    assert abs(np.mean(off)) < 0.6, "unbiased"


def test_one_sample_has_no_error():
    assert math.isnan(hutchinson(lambda vector: vector, [torch.zeros(4)], samples=1, seed=0).error)


def test_vectors_are_never_kept_by_the_caller():
    """The product may give back the same tensor again and again."""
    weights, product = quadratic(EIGENVALUES)
    store = [torch.zeros_like(weight) for weight in weights]

    def reuses(vector):
        for place, part in zip(store, product(vector), strict=True):
            place.copy_(part)
        return store

    assert lanczos(reuses, weights, steps=20, seed=0) == lanczos(product, weights, steps=20, seed=0)
