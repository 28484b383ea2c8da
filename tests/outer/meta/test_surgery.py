"""What torchjd's aggregators do to family gradients, as `Surgery` uses them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from innerloop.outer.meta.surgery import Surgery, gram_matrix


def gradients(rows: Tensor) -> dict[str, dict[str, Tensor]]:
    """Families a, b, … with their gradients cut into two parameters."""
    return {chr(97 + i): {"one": row[:2].clone(), "two": row[2:].clone()} for i, row in enumerate(rows)}


def joined(surgery: Surgery, rows: Tensor, seed: int = 0) -> Tensor:
    found = surgery.join(gradients(rows), seed)
    return torch.cat([found["one"], found["two"]])


def cosines(rows: Tensor, way: Tensor) -> Tensor:
    return rows @ way / (rows.norm(dim=1) * way.norm())


CONFLICT = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]], dtype=torch.float64)


@pytest.mark.parametrize("method", ["pcgrad", "upgrad"])
def test_two_families_in_conflict_agree_afterwards(method: str) -> None:
    mean = CONFLICT.mean(0)
    assert cosines(CONFLICT, mean).min() < -0.2, "the mean pushes a family uphill"
    assert cosines(CONFLICT, joined(Surgery(method), CONFLICT)).min() > -1e-9


def test_pcgrad_by_hand() -> None:
    one, two = CONFLICT
    first = one - (one @ two) / (two @ two) * two
    second = two - (one @ two) / (one @ one) * one
    torch.testing.assert_close(joined(Surgery("pcgrad"), CONFLICT), (first + second) / 2)


def test_upgrad_as_published() -> None:
    """The example of its documentation; projected onto the dual cone by hand for two rows, it is PCGrad's mean."""
    expected = torch.tensor([0.2929, 1.9004, 1.9004], dtype=torch.float64)
    torch.testing.assert_close(joined(Surgery("upgrad"), CONFLICT), expected, rtol=1e-3, atol=1e-3)


def test_cagrad_solves_its_own_problem() -> None:
    """max over d with ‖d − g₀‖ ≤ c ‖g₀‖ of min_f ⟨g_f, d⟩, by search over the circle in the plane of the gradients."""
    c, mean = 0.5, CONFLICT.mean(0)
    found = joined(Surgery("cagrad", c=c), CONFLICT)
    assert (found - mean).norm() == pytest.approx(float(c * mean.norm()), rel=1e-4)
    basis = torch.linalg.qr(CONFLICT.T)[0].T
    angles = torch.linspace(0, 2 * torch.pi, 100_001, dtype=torch.float64)
    ways = mean + c * mean.norm() * (torch.cos(angles)[:, None] * basis[0] + torch.sin(angles)[:, None] * basis[1])
    best = (ways @ CONFLICT.T).min(1).values.max()
    assert float((CONFLICT @ found).min()) == pytest.approx(float(best), rel=1e-3)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), families=st.integers(2, 6))
def test_upgrad_pushes_no_family_uphill(seed: int, families: int) -> None:
    rows = torch.randn(families, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert cosines(rows, joined(Surgery("upgrad"), rows)).min() > -1e-4


@pytest.mark.parametrize("method", ["pcgrad", "upgrad"])
def test_without_conflict_the_mean_stays(method: str) -> None:
    rows = torch.rand(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(joined(Surgery(method), rows), rows.mean(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["pcgrad", "cagrad", "upgrad"])
def test_small_gradients_get_the_same_surgery(method: str) -> None:
    """torchjd alone takes gradients of norm 1e-3 for zero."""
    large = joined(Surgery(method), CONFLICT)
    small = joined(Surgery(method), 1e-6 * CONFLICT)
    torch.testing.assert_close(1e6 * small, large, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", ["pcgrad", "cagrad", "upgrad"])
def test_no_gradient_at_all_and_one_family_alone(method: str) -> None:
    assert torch.equal(joined(Surgery(method), torch.zeros(3, 4)), torch.zeros(4))
    alone = joined(Surgery(method, c=0.0), CONFLICT[:1])
    torch.testing.assert_close(alone, CONFLICT[0], rtol=1e-5, atol=1e-6)


def test_the_order_of_pcgrad_comes_from_the_seed_alone() -> None:
    rows = torch.randn(5, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = joined(Surgery("pcgrad"), rows, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert torch.equal(joined(Surgery("pcgrad"), rows, seed=1), first)
    assert any(not torch.equal(joined(Surgery("pcgrad"), rows, seed=seed), first) for seed in range(2, 8))


def test_the_gram_matrix_is_that_of_the_flat_gradients() -> None:
    rows = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    found = gram_matrix(list(gradients(rows).values()))
    torch.testing.assert_close(found, rows.double() @ rows.double().T, rtol=1e-6, atol=1e-6)


def test_tasks_of_a_family_are_averaged() -> None:
    shares = Surgery("pcgrad").shares(["a", "b", "a", "a"])
    assert [(share.bucket, round(share.weight, 6)) for share in shares] == [
        ("a", 0.333333),
        ("b", 1.0),
        ("a", 0.333333),
        ("a", 0.333333),
    ]
