"""Records of a trajectory's own plane and lines, with the path on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.inner.landscape.directions import Directions
from innerloop.inner.landscape.grid import axis, grid_losses, plane
from innerloop.inner.landscape.path import gradient_factors, line, norm, path_plane
from innerloop.inner.landscape.scoring import Row, row_of
from innerloop.inner.patch import Patch, inner, select
from innerloop.inner.update import TrajectoryUpdate
from innerloop.models import LoadedModel
from innerloop.schema import Landscape


def path_landscapes(
    loaded: LoadedModel,
    updated: TrajectoryUpdate,
    planes: Sequence[str],
    *,
    points: int,
    span: float,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Iterator[Landscape]:
    """The landscapes ``path``, ``path-line`` and ``gradient-line`` of one trajectory, as asked for.

    The update must have scope ``weights`` and placement ``contiguous``: then its path is one of weights that score the
    question alone, as the grid does.
    """
    assert updated.scope == "weights"
    assert updated.placement == "contiguous"
    item = updated.item
    row = row_of(loaded, item.question_id, item.prompt, item.answer)
    ticks = axis(points, span)
    for kind in planes:
        directions, found = _path(loaded, updated) if kind == "path" else _line(loaded, updated, row, kind)
        beta = ticks if kind == "path" else (0.0,)
        grid = plane(ticks, beta) if kind == "path" else [(a,) for a in ticks]
        losses = grid_losses(loaded, [row], directions, grid, on_progress=on_progress)
        yield Landscape(
            id=f"{item.trajectory_id}/{kind}",
            question_id=item.question_id,
            trajectory_id=item.trajectory_id,
            plane=kind,
            alpha=ticks,
            beta=beta,
            loss=tuple(losses[:, 0].tolist()),
            position=updated.task.positions,
            path_loss=tuple((-updated.found.mean(dim=1)).tolist()),
            **found,
        )


def _path(loaded: LoadedModel, updated: TrajectoryUpdate) -> tuple[Directions, dict[str, Any]]:
    made = path_plane(loaded, updated.patch)
    alpha, beta = made.coordinates.T.tolist()
    found = {"path_alpha": tuple(alpha), "path_beta": tuple(beta), "captured": _known(made.captured)}
    return made.directions, found


def _line(loaded: LoadedModel, updated: TrajectoryUpdate, row: Row, kind: str) -> tuple[Directions, dict[str, Any]]:
    """A line as long as the path's end is far from θ, and the path's orthogonal projections on it."""
    along: Patch = select(updated.patch, slice(-1, None))
    length = norm(along)
    if kind == "gradient-line":
        gradient = gradient_factors(loaded, row, list(updated.patch))
        along = {site: factors.times(-1.0) for site, factors in gradient.items()}
    alpha, captured = _projections(updated.patch, along, length)
    found = {"path_alpha": alpha, "path_beta": (0.0,) * len(alpha), "captured": captured}
    return line(loaded, along, length), found


def _projections(path: Patch, along: Patch, length: float) -> tuple[tuple[float, ...], float | None]:
    """Where the points of a path fall on a line, in units of ``length``, and what share of Σᵢ ‖θ'ᵢ − θ‖² that is."""
    products = _sum({site: inner(factors, along[site]) for site, factors in path.items()})
    size = norm(along)
    onto = products / size if size else torch.zeros_like(products)
    total = norm(path) ** 2
    alpha = (onto / length).tolist() if length else [0.0] * len(onto)
    return tuple(alpha), float(onto.square().sum()) / total if total else None


def _sum(values: dict[str, Float[Tensor, " batch"]]) -> Float[Tensor, " batch"]:
    return torch.stack(list(values.values())).sum(dim=0)


def _known(value: float) -> float | None:
    return None if value != value else value
