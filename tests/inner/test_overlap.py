"""A gradient against low-rank patches: dense matrices as the second way, closed forms, and the null."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from innerloop.inner.overlap import Frame, frames, overlap, random_like, total
from innerloop.inner.patch import Factors, difference


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense(factors: Factors) -> torch.Tensor:
    return factors.up @ factors.down.transpose(1, 2)


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 3),
    tokens=st.integers(1, 6),
    out=st.integers(1, 7),
    inputs=st.integers(1, 7),
    rank=st.integers(1, 5),
    shared=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_an_overlap_is_that_of_the_dense_matrices(batch, tokens, out, inputs, rank, shared, seed):
    factors = Factors(draw(batch, out, rank, seed=seed), draw(batch, inputs, rank, seed=seed + 1))
    rows = 1 if shared else batch
    x, delta = draw(rows, tokens, inputs, seed=seed + 2), draw(rows, tokens, out, seed=seed + 3)
    gradient = (delta.transpose(1, 2) @ x).expand(batch, -1, -1)
    found = overlap(Frame.of(factors), x, delta)
    change = dense(factors)
    torch.testing.assert_close(found.inner, (change * gradient).sum(dim=(1, 2)))
    torch.testing.assert_close(found.patch, change.square().sum(dim=(1, 2)))
    torch.testing.assert_close(found.gradient, gradient.square().sum(dim=(1, 2)))
    for b in range(batch):
        left, _, _ = torch.linalg.svd(factors.down[b])
        within = gradient[b] @ left[:, : min(inputs, rank)]
        expected = change[b].square().sum() * within.square().sum() / within.numel()
        torch.testing.assert_close(found.null[b], expected)


def test_a_frame_is_the_same_matrix_and_counts_its_rank():
    up, down = draw(2, 6, 4, seed=1), draw(2, 9, 4, seed=2)
    down[1, :, 3] = down[1, :, 0]
    frame = Frame.of(Factors(up, down))
    torch.testing.assert_close(frame.coefficients @ frame.basis.transpose(1, 2), dense(Factors(up, down)))
    assert frame.within.sum(dim=1).tolist() == [4, 3]
    torch.testing.assert_close(
        frame.basis.transpose(1, 2) @ frame.basis, torch.eye(4, dtype=torch.float64).expand(2, -1, -1)
    )


def test_two_patches_on_the_same_inputs_have_one_row_space():
    here, after = Factors(draw(1, 6, 3, seed=1), draw(1, 8, 3)), Factors(draw(1, 6, 3, seed=2), draw(1, 8, 3))
    moved = Frame.of(difference({"a": after}, {"a": here})["a"])
    alone = Frame.of(Factors(after.up - here.up, here.down))
    x, delta = draw(1, 5, 8, seed=3), draw(1, 5, 6, seed=4)
    assert moved.within.sum() == alone.within.sum() == 3
    for name, value in vars(overlap(alone, x, delta)).items():
        torch.testing.assert_close(getattr(overlap(moved, x, delta), name), value)


def test_no_patch_predicts_nothing_and_has_no_direction():
    frame = Frame.of(Factors(torch.zeros(1, 5, 2, dtype=torch.float64), draw(1, 4, 2)))
    found = overlap(frame, draw(1, 3, 4), draw(1, 3, 5))
    assert found.inner.item() == found.null.item() == found.patch.item() == 0.0
    assert found.cosine.isnan().item()
    [random] = random_like({"site": Factors(frame.coefficients, frame.basis)}, torch.Generator()).values()
    assert not random.up.any()


def test_restoring_a_linear_map_is_one_gradient_step():
    # L(W) = ½‖Wx − y‖². The smallest ΔW with (W + ΔW)x = y is (y − Wx)xᵀ/‖x‖², which is −∇L/‖x‖²: it points straight
    # downhill, predicts −‖Wx − y‖², and truly gains half of that.
    weight, x, y = draw(3, 5, seed=1), draw(5, seed=2), draw(3, seed=3)
    error = weight @ x - y
    factors = Factors(-error[None, :, None], (x / (x @ x))[None, :, None])
    found = overlap(Frame.of(factors), x[None, None], error[None, None])
    assert found.cosine.item() == pytest.approx(1.0)
    assert found.inner.item() == pytest.approx(-float(error @ error))
    # Of random patches in the one-dimensional row space, the best there is lies √out standard deviations out.
    assert -found.inner.item() / found.null.sqrt().item() == pytest.approx(3**0.5)


def test_sites_add_up():
    patch = {name: Factors(draw(2, 4, 2, seed=i), draw(2, 5, 2, seed=i + 9)) for i, name in enumerate("abc")}
    parts = {name: overlap(f, draw(2, 3, 5, seed=7), draw(2, 3, 4, seed=8)) for name, f in frames(patch).items()}
    whole = total(parts)
    torch.testing.assert_close(whole.null, sum(part.null for part in parts.values()))
    cosine = (
        -sum(p.inner for p in parts.values())
        / (sum(p.patch for p in parts.values()) * sum(p.gradient for p in parts.values())).sqrt()
    )
    torch.testing.assert_close(whole.cosine, cosine)


def test_the_null_is_centred_at_zero_and_as_wide_as_computed():
    draws = 20_000
    one = {
        "a": Factors(draw(1, 6, 3, seed=1), draw(1, 8, 3, seed=2)),
        "b": Factors(5 * draw(1, 4, 2, seed=3), draw(1, 6, 2, seed=4)),
    }
    gradients = {
        "a": (draw(1, 5, 8, seed=5), draw(1, 5, 6, seed=6)),
        "b": (draw(1, 5, 6, seed=7), draw(1, 5, 4, seed=8)),
    }
    expected = total({site: overlap(frame, *gradients[site]) for site, frame in frames(one).items()})
    many = {site: Factors(f.up.expand(draws, -1, -1), f.down.expand(draws, -1, -1)) for site, f in one.items()}
    random = random_like(many, torch.Generator().manual_seed(0))
    found = total({site: overlap(frame, *gradients[site]) for site, frame in frames(random).items()})
    spread = expected.null.sqrt().item()
    assert abs(found.inner.mean().item()) < 4 * spread / draws**0.5
    assert found.inner.std().item() == pytest.approx(spread, rel=0.03)
    torch.testing.assert_close(found.patch, expected.patch.expand(draws))  # the same norms …
    for site, factors in one.items():  # … in the same row spaces
        outside = torch.eye(factors.down.shape[1], dtype=torch.float64)
        outside = outside - factors.down[0] @ torch.linalg.pinv(factors.down[0])
        assert float((dense(random[site][:50]) @ outside).abs().max()) < 1e-9


def test_random_patches_depend_on_their_generator_alone():
    patch = {"a": Factors(draw(2, 6, 3), draw(2, 8, 3))}
    first, again, other = (random_like(patch, torch.Generator().manual_seed(s))["a"].up for s in (1, 1, 2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.allclose(first, other)
