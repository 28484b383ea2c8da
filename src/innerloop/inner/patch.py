"""Low-rank changes of weights: ΔW = U Vᵀ per site, their geometry, and the model that has them.

A *site* is a linear module by its name in the model. Everything is computed from the factors; no ΔW is ever formed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from innerloop.inner.watch import first


@dataclass(frozen=True)
class Factors:
    """ΔW = ``up`` ``down``ᵀ of a weight W (out × in, also for GPT-2's transposed ones), one per batch entry.

    A patch that `innerloop.inner.update` made is in float64 with orthonormal columns in ``down``.
    """

    up: Float[Tensor, "batch out rank"]
    down: Float[Tensor, "batch n rank"]

    def __getitem__(self, rows: slice | Tensor | list[int]) -> Factors:
        """Some of the batch entries."""
        return Factors(self.up[rows], self.down[rows])

    def times(self, scale: float) -> Factors:
        """scale · ΔW."""
        return Factors(scale * self.up, self.down)


Patch = Mapping[str, Factors]


def select(patch: Patch, rows: slice | Tensor | list[int]) -> Patch:
    """Some of the batch entries of every site."""
    return {site: factors[rows] for site, factors in patch.items()}


def scaled(patch: Patch, scale: float) -> Patch:
    """scale · ΔW of every site."""
    return {site: factors.times(scale) for site, factors in patch.items()}


def joined(patches: list[Patch]) -> Patch:
    """Batches one behind the other."""
    return {
        site: Factors(torch.cat([p[site].up for p in patches]), torch.cat([p[site].down for p in patches]))
        for site in patches[0]
    }


def difference(a: Patch, b: Patch) -> Patch:
    """ΔW_a − ΔW_b entry by entry, with the ranks added up."""
    return {
        site: Factors(
            torch.cat([a[site].up, -b[site].up], dim=2),
            torch.cat([a[site].down, b[site].down], dim=2),
        )
        for site in a
    }


def inner(a: Factors, b: Factors) -> Float[Tensor, " batch"]:
    """⟨ΔW_a, ΔW_b⟩ = Σ (U_aᵀ U_b) ∘ (V_aᵀ V_b), entry by entry."""
    return ((a.up.transpose(1, 2) @ b.up) * (a.down.transpose(1, 2) @ b.down)).sum(dim=(1, 2))


def squared_norms(patch: Patch) -> dict[str, Float[Tensor, " batch"]]:
    """‖ΔW‖² per site and batch entry."""
    return {site: inner(factors, factors).clamp_min(0.0) for site, factors in patch.items()}


def gram(factors: Factors) -> Float[Tensor, "batch batch"]:
    """⟨ΔWᵢ, ΔWⱼ⟩ between all batch entries of one site."""
    up = torch.einsum("aor,bos->abrs", factors.up, factors.up)
    down = torch.einsum("air,bis->abrs", factors.down, factors.down)
    return (up * down).sum(dim=(2, 3))


def step_norms(factors: Factors) -> Float[Tensor, " batch_minus_one"]:
    """‖ΔWⱼ₊₁ − ΔWⱼ‖ between neighbouring batch entries of one site, from the factors alone."""
    before, after = factors[slice(None, -1)], factors[slice(1, None)]
    squared = inner(before, before) + inner(after, after) - 2 * inner(before, after)
    return squared.clamp_min(0.0).sqrt()


def low_rank(x: Float[Tensor, "batch token n"], factors: Factors) -> Float[Tensor, "batch token out"]:
    """x ΔWᵀ in the factors' precision, as x's dtype; one entry of factors serves the whole batch."""
    wide = x.to(factors.up.dtype)
    return ((wide @ factors.down) @ factors.up.transpose(1, 2)).to(x.dtype)


@contextmanager
def patched(model: nn.Module, patch: Patch, rows: slice | None = None) -> Iterator[None]:
    """Inside the block the model has weights W + ΔW, entry b of the patch for row b of its input batch.

    ``rows`` names the tokens that pass through the patched weights; the others see W (scope ``answer``). The weights
    themselves are not touched.
    """

    def hook(factors: Factors) -> Any:
        def add(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> Tensor:
            return add_rows(out, low_rank(touched(first(args, kwargs), rows), factors), rows)

        return add

    with ExitStack() as hooks:
        for site, factors in patch.items():
            handle = model.get_submodule(site).register_forward_hook(hook(factors), with_kwargs=True)
            hooks.callback(handle.remove)
        yield


def touched(x: Tensor, rows: slice | None) -> Tensor:
    """The token rows that pass through patched weights."""
    return x if rows is None else x[:, rows]


def add_rows(out: Tensor, change: Tensor, rows: slice | None) -> Tensor:
    """``out`` with the change added at some token rows, as a new tensor."""
    if rows is None:
        return out + change
    result = out.clone()
    result[:, rows] += change
    return result
