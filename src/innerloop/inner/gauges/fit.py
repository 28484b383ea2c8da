"""What every gauge does at a site: solve for the smallest ΔW, remember it, and go on with the patched output."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from innerloop.inner.patch import Factors, Patch, add_rows, low_rank, touched
from innerloop.inner.solve import RowSpace, row_space
from innerloop.inner.watch import Watch

Seen = Mapping[Watch, Float[Tensor, "batch branch dim"]]


@dataclass
class Fit:
    """The patch as it grows while the reduced run is walked from layer to layer.

    ``branch`` are the token rows of suffix and answer, whose outputs are to be those of the full run; ``rows`` those
    that pass through patched weights (None: all, scope ``weights``).
    """

    branch: slice
    rows: slice | None
    patch: dict[str, Factors] = field(default_factory=dict)
    spaces: dict[str, RowSpace] = field(default_factory=dict)

    def space(self, x: Float[Tensor, "batch token n"]) -> RowSpace:
        """The row space of the branch's inputs."""
        return row_space(x[:, self.branch])

    def correct(self, site: str, space: RowSpace, x: Tensor, out: Tensor, change: Tensor) -> Tensor:
        """The site's output with the ΔW that adds ``change`` (batch × branch × out) to the branch's rows."""
        self.patch[site] = Factors(up=space.smallest(change), down=space.basis)
        self.spaces[site] = space
        return add_rows(out, low_rank(touched(x, self.rows), self.patch[site]), self.rows)

    def condition(self) -> Float[Tensor, " batch"]:
        """The worst condition number among the sites' inputs."""
        return torch.stack([space.condition for space in self.spaces.values()]).amax(dim=0)

    def deficient(self) -> Float[Tensor, " batch"]:
        """At how many sites some output may not be reachable."""
        return torch.stack([space.deficient for space in self.spaces.values()]).sum(dim=0)

    def rank(self) -> Float[Tensor, " batch"]:
        """The largest rank among the sites."""
        return torch.stack([space.rank for space in self.spaces.values()]).amax(dim=0)


class Gauge(Protocol):
    """Which weights are patched, what must be known of the full run, and how the reduced run is corrected."""

    name: Literal["attention", "mlp"]
    layers: tuple[tuple[str, ...], ...]  # sites per layer
    watches: tuple[Watch, ...]

    def walking(self, model: nn.Module, full: Seen, fit: Fit) -> AbstractContextManager[Any]:
        """While inside, the model's forward is the walk through the reduced run: each layer is patched on its way."""
        ...


def patch_of(fit: Fit) -> Patch:
    """The finished patch."""
    return dict(fit.patch)
