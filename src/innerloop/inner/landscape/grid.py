"""Losses of questions on points around θ (RaML alg. 4)."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float

from innerloop.finite import require_finite
from innerloop.inner.landscape.directions import Directions
from innerloop.inner.landscape.perturbed import Perturbed, Point, reads_elsewhere
from innerloop.inner.landscape.scoring import Row, losses
from innerloop.models import LoadedModel

log = logging.getLogger(__name__)

_CPU_TOKENS, _GPU_TOKENS = 6144, 65536  # in one forward


def tokens_per_forward(loaded: LoadedModel) -> int:
    """How many tokens, padding included, share a forward."""
    return _CPU_TOKENS if loaded.device.type == "cpu" else _GPU_TOKENS


def axis(points: int, span: float) -> tuple[float, ...]:
    """Evenly spaced coordinates from −span to span; an odd number of them has 0 exactly in the middle."""
    return tuple(span * ((2 * i - (points - 1)) / (points - 1)) for i in range(points))


def plane(alpha: Sequence[float], beta: Sequence[float]) -> list[Point]:
    """The points of a grid, ``alpha`` outside and ``beta`` inside."""
    return [(a, b) for a in alpha for b in beta]


@torch.no_grad()
def grid_losses(
    loaded: LoadedModel,
    rows: Sequence[Row],
    directions: Directions,
    points: Sequence[Point],
    *,
    tokens: int | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Float[np.ndarray, "points row"]:
    """L_q(θ + Σ αᵢ δᵢ) at each point for each row, in nats per answer token.

    All rows go through one forward, together with as many points as fit into ``tokens``. ``on_progress`` is called with
    the number of points just measured.
    """
    padded = len(rows) * max(len(row.tokens) for row in rows)
    found = np.empty((len(points), len(rows)))
    with Perturbed(loaded.model, directions, whole=_needs_whole(loaded, rows[0], directions)) as perturbed:
        together = max(1, (tokens or tokens_per_forward(loaded)) // padded) if perturbed.slices else 1
        for start in range(0, len(points), together):
            chosen = points[start : start + together]
            with perturbed.at(chosen):
                found[start : start + len(chosen)] = losses(loaded, rows, len(chosen)).cpu().numpy()
            on_progress(len(chosen))
    for row, losses_of_row in zip(rows, found.T, strict=True):  # far from θ there may be none; at θ there has to be
        if not np.isfinite(losses_of_row).any():
            require_finite(loaded, losses_of_row, f"every loss of question {row.question_id!r}")
    return found


_known: weakref.WeakKeyDictionary[torch.nn.Module, dict[frozenset[str], bool]] = weakref.WeakKeyDictionary()


def _needs_whole(loaded: LoadedModel, row: Row, directions: Directions) -> bool:
    """Whether module after module cannot work on a model, found out once with one row."""
    known, names = _known.setdefault(loaded.model, {}), frozenset(directions.weights)
    if names not in known:
        known[names] = reads_elsewhere(loaded.model, directions.weights, lambda: losses(loaded, [row]))
        if known[names]:
            log.warning(
                "%s: %s uses weights outside the modules that hold them, so all moved weights are put in place at once "
                "(takes a copy of them; slower, as exact)",
                loaded.name,
                type(loaded.model).__name__,
            )
    return known[names]
