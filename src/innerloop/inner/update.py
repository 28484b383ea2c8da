"""The inner loop's weights θ'ᵢ: a patch with which the model, without t≤ᵢ, answers as it does with it (RaML eq. 4).

The full run (q, t≤ᵢ, s, a) tells what each layer makes of the trajectory at the tokens of suffix and answer. The
reduced run (q, s, a) is then walked layer by layer, and in each layer the smallest change of the gauge's weights is
solved for that restores the full run there, given what the patched layers before it really produce. RaML prop. 2.1
argues that such weights exist; these are exact up to round-off, which is measured: ``TrajectoryUpdate.residual``.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.errors import InputError
from innerloop.finite import require_finite
from innerloop.inner.anatomy import Anatomy, anatomy, squared_weight_norm
from innerloop.inner.full import FullRun
from innerloop.inner.gauges.attention import AttentionGauge
from innerloop.inner.gauges.fit import Fit, Gauge, patch_of
from innerloop.inner.gauges.mlp import MlpGauge
from innerloop.inner.gauges.paper import attention_layers, paper
from innerloop.inner.patch import Patch, joined, squared_norms, step_norms
from innerloop.inner.probe import ProbeItem, shares, task_of
from innerloop.inner.reduced import Placement, Reduced, answer_log_probs, logits, reduced
from innerloop.inner.task import Task
from innerloop.models import LoadedModel
from innerloop.schema import Update

log = logging.getLogger(__name__)

GaugeName = Literal["attention", "mlp", "paper"]
#: ``weights``: every token of the reduced run passes through the patched weights, a true θ'. ``answer``: only suffix
#: and answer do; the question's keys and values stay those of θ.
Scope = Literal["weights", "answer"]

_EXACT: dict[str, Callable[[Anatomy], Gauge]] = {"attention": AttentionGauge, "mlp": MlpGauge}
_CPU_ROW, _GPU_ROW = 1024, 16384  # tokens per forward of the reduced run


@dataclass(frozen=True, kw_only=True)
class TrajectoryUpdate:
    """θ'ᵢ − θ at some positions of one trajectory; entry b of ``patch`` belongs to ``task.positions[b]``.

    ``full``, ``base`` and ``found`` are log p of the answer's tokens in float64: with the trajectory, without it at the
    same position ids, and without it on the patched weights. ``layers`` names the sites of each layer, ``weight_norm``
    is ‖θ‖ over all of them.
    """

    item: ProbeItem
    task: Task
    gauge: GaugeName
    scope: Scope
    placement: Placement
    patch: Patch
    layers: tuple[tuple[str, ...], ...]
    full: Float[Tensor, "position answer"]
    base: Float[Tensor, "position answer"]
    found: Float[Tensor, "position answer"]
    rank: Float[Tensor, " position"]
    condition: Float[Tensor, " position"]
    deficient: Float[Tensor, " position"]
    weight_norm: float
    layer_error: Float[Tensor, "position layer"] | None = None  # gauge paper: how far each layer alone is off

    @property
    def rows(self) -> slice | None:
        """The token rows of the reduced run that pass through patched weights."""
        return slice(-len(self.task.branch(0)), None) if self.scope == "answer" else None

    @property
    def residual(self) -> Float[Tensor, " position"]:
        """max |Δ log p| between patched and full run over the answer's tokens, in nats."""
        return (self.found - self.full).abs().amax(dim=1)

    @cached_property
    def layer_norms(self) -> Float[Tensor, "position layer"]:
        """‖θ'ᵢ − θ‖ over the sites of each layer."""
        squared = squared_norms(self.patch)
        return torch.stack([sum_of(squared, sites) for sites in self.layers], dim=1).sqrt()

    @cached_property
    def layer_steps(self) -> Float[Tensor, "position_minus_one layer"]:
        """‖θ'ᵢ − θ'ⱼ‖ over the sites of each layer, between neighbouring stored positions."""
        squared = {site: step_norms(factors).square() for site, factors in self.patch.items()}
        return torch.stack([sum_of(squared, sites) for sites in self.layers], dim=1).sqrt()

    def reduced_run(self, loaded: LoadedModel, rows: Sequence[int]) -> Reduced:
        """The reduced run at the positions of some entries."""
        return reduced(loaded, self.task, [self.task.positions[b] for b in rows], self.placement)

    def records(self, *, untrained: bool = False) -> list[Update]:
        """One record per position, without alignment."""
        steps = self.layer_steps
        return [
            Update(
                id=self.item.trajectory_id + ("@untrained" if untrained else ""),
                question_id=self.item.question_id,
                trajectory_id=self.item.trajectory_id,
                position=position,
                gauge=self.gauge,
                scope=self.scope,
                placement=self.placement,
                untrained=untrained,
                loss=-float(self.found[b].mean()),
                full_loss=-float(self.full[b].mean()),
                base_loss=-float(self.base[b].mean()),
                residual=float(self.residual[b]),
                rank=int(self.rank[b]),
                norm=float(self.layer_norms[b].norm()),
                relative=float(self.layer_norms[b].norm()) / self.weight_norm,
                condition=float(self.condition[b]),
                deficient=int(self.deficient[b]),
                step_norm=float(steps[b - 1].norm()) if b else None,
                layer_norm=tuple(self.layer_norms[b].tolist()),
                layer_step=tuple(steps[b - 1].tolist()) if b else None,
                layer_error=tuple(self.layer_error[b].tolist()) if self.layer_error is not None else None,
            )
            for b, position in enumerate(self.task.positions)
        ]


def update(
    loaded: LoadedModel,
    items: Sequence[ProbeItem],
    *,
    positions: Sequence[Sequence[int]] | None = None,
    gauge: GaugeName = "attention",
    scope: Scope = "weights",
    placement: Placement = "kept",
    on_progress: Callable[[int], None] = lambda _: None,
) -> Iterator[TrajectoryUpdate]:
    """θ'ᵢ − θ for every trajectory, in the order given.

    ``positions`` are the rising positions (0…n) of each trajectory; by default its end alone. ``on_progress`` is called
    with the number of positions just done.

    Raises `InputError` for positions beyond a trajectory, for a model whose layers the gauge cannot patch, and for a
    suffix and answer of more tokens than a patched weight has inputs.
    """
    chosen = positions if positions is not None else [(len(item.trajectory),) for item in items]
    tasks = [_task(loaded, item, where) for item, where in zip(items, chosen, strict=True)]
    if not tasks:
        return
    if gauge == "paper":
        made = _by_paper(loaded, items, tasks, scope, placement, on_progress)
    else:
        made = _by_walk(loaded, items, tasks, gauge_of(loaded, gauge), scope, placement, on_progress)
    for updated in made:
        _report(updated)
        yield updated


def _task(loaded: LoadedModel, item: ProbeItem, positions: Sequence[int]) -> Task:
    """An item's tokens; an error of its positions names the trajectory."""
    if outside := [i for i in positions if not 0 <= i <= len(item.trajectory)]:
        raise InputError(
            f"{item.trajectory_id}: position {outside[0]} lies outside 0…{len(item.trajectory)}, the positions of this "
            f"{len(item.trajectory)}-token trajectory"
        )
    return task_of(loaded, item, positions)


def _by_walk(
    loaded: LoadedModel,
    items: Sequence[ProbeItem],
    tasks: Sequence[Task],
    gauge: Gauge,
    scope: Scope,
    placement: Placement,
    on_progress: Callable[[int], None],
) -> Iterator[TrajectoryUpdate]:
    """The exact gauges: several positions of a trajectory in one walk."""
    weight_norm = _weight_norm(loaded, gauge.layers)
    for item, task in zip(items, tasks, strict=True):
        check_rank(loaded, gauge, item, task)
        full = FullRun(loaded, task, gauge.watches, shares=shares(loaded, task))
        parts = []
        size = max(1, _row(loaded) // (len(task.prompt) + len(task.branch(0))))
        for start in range(0, len(task.positions), size):
            batch = task.positions[start : start + size]
            parts.append(_walk(loaded, task, batch, full, gauge, scope, placement))
            on_progress(len(batch))
        yield TrajectoryUpdate(
            item=item,
            task=task,
            gauge=gauge.name,
            scope=scope,
            placement=placement,
            patch=joined([part.patch for part in parts]),
            layers=gauge.layers,
            **{name: torch.cat([getattr(part, name) for part in parts]) for name in _MEASURED},
            weight_norm=weight_norm,
        )


def _by_paper(
    loaded: LoadedModel,
    items: Sequence[ProbeItem],
    tasks: Sequence[Task],
    scope: Scope,
    placement: Placement,
    on_progress: Callable[[int], None],
) -> Iterator[TrajectoryUpdate]:
    """The paper's own construction, which is an approximation: a position at a time."""
    if scope != "weights":
        raise InputError(f"gauge paper has no scope {scope}: it changes the question's keys and values; use weights")
    layers = tuple(
        tuple(f"{name}.{part}" for part in ("q_proj", "k_proj", "v_proj")) for name in attention_layers(loaded)
    )
    weight_norm = _weight_norm(loaded, layers)
    for item, task in zip(items, tasks, strict=True):
        parts = []
        for position in task.positions:
            parts.append(paper(loaded, task, position, placement=placement))
            on_progress(1)
        yield TrajectoryUpdate(
            item=item,
            task=task,
            gauge="paper",
            scope=scope,
            placement=placement,
            patch=joined([part.patch for part in parts]),
            layers=layers,
            full=torch.stack([part.full for part in parts]),
            base=torch.stack([part.base for part in parts]),
            found=torch.stack([part.log_probs for part in parts]),
            rank=torch.tensor([max(f.up.shape[2] for f in part.patch.values()) for part in parts]),
            condition=torch.tensor([part.condition for part in parts], dtype=torch.float64),
            deficient=torch.tensor([part.deficient for part in parts]),
            weight_norm=weight_norm,
            layer_error=torch.tensor([part.layer_error for part in parts]),
        )


def gauge_of(loaded: LoadedModel, name: GaugeName) -> Gauge:
    """An exact gauge for a model. `InputError` where the model's layers cannot be patched so."""
    if name not in _EXACT:
        raise InputError(f"gauge {name!r} is not known; use {', '.join(_EXACT)} or paper")
    return _EXACT[name](anatomy(loaded))


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Some positions of a trajectory; names as in ``TrajectoryUpdate``."""

    patch: Patch
    full: Tensor
    base: Tensor
    found: Tensor
    rank: Tensor
    condition: Tensor
    deficient: Tensor


_MEASURED = tuple(name for name in _Part.__annotations__ if name != "patch")


@torch.inference_mode()
def _walk(
    loaded: LoadedModel,
    task: Task,
    positions: Sequence[int],
    full: FullRun,
    gauge: Gauge,
    scope: Scope,
    placement: Placement,
) -> _Part:
    """The full run, then the walk through the reduced run, of a few positions at once."""
    seen, with_trajectory = full.at(positions)
    base = full.without_trajectory(positions, placement)
    for found, of in ((with_trajectory, "with"), (base, "without")):
        require_finite(loaded, found.flatten().tolist(), f"log p of the answer {of} the trajectory")
    run = reduced(loaded, task, positions, placement)
    fit = Fit(branch=run.rows, rows=run.rows if scope == "answer" else None)
    with gauge.walking(loaded.model, seen, fit):
        found = answer_log_probs(logits(loaded, run), run.answer)
    return _Part(
        patch=patch_of(fit),
        full=with_trajectory.cpu(),
        base=base.cpu(),
        found=found.cpu(),
        rank=fit.rank().cpu(),
        condition=fit.condition().cpu(),
        deficient=fit.deficient().cpu(),
    )


def sum_of(values: dict[str, Tensor], sites: Sequence[str]) -> Tensor:
    """The values of some sites added up."""
    return torch.stack([values[site] for site in sites]).sum(dim=0)


def _weight_norm(loaded: LoadedModel, layers: Sequence[Sequence[str]]) -> float:
    """‖θ‖ over all sites."""
    model = loaded.model
    return math.sqrt(sum(squared_weight_norm(model.get_submodule(site)) for sites in layers for site in sites))


def _row(loaded: LoadedModel) -> int:
    return _CPU_ROW if loaded.device.type == "cpu" else _GPU_ROW


def check_rank(loaded: LoadedModel, gauge: Gauge, item: ProbeItem, task: Task) -> None:
    """`InputError` where a patched weight has fewer inputs than rows to restore: that can never be exact."""
    rows = len(task.branch(0))
    for site in (site for sites in gauge.layers for site in sites):
        module = loaded.model.get_submodule(site)
        inputs = getattr(module, "in_features", None) or module.weight.shape[0]  # type: ignore[index]
        if rows > inputs:
            raise InputError(
                f"{item.trajectory_id}: suffix and answer feed {rows} tokens, but {site} takes {inputs} inputs, so no "
                f"patch on it can restore them all; shorten the suffix or the answer"
            )


_TOLERATED = 1e-3  # nats of |Δ log p|


def _report(made: TrajectoryUpdate) -> None:
    """One line where the patch does not do what it is for."""
    worst = int(made.residual.argmax())
    if made.gauge != "paper" and made.residual[worst] > _TOLERATED:
        log.warning(
            "%s: patched and full run differ by up to %.1e nats per token (at position %d; condition %.0e, %d sites "
            "with dependent inputs); take --dtype float64 where that matters",
            made.item.trajectory_id,
            float(made.residual[worst]),
            made.task.positions[worst],
            float(made.condition[worst]),
            int(made.deficient[worst]),
        )
