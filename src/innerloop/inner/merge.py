"""Several trajectories of one question in one patch, by least squares.

At every site the k rows of all J trajectories are stacked: minimise Σⱼ ‖X ΔWᵀ − (Yⱼ − X Wᵀ)‖² with X the inputs in
the reduced run, the layers before already merged, and Yⱼ what trajectory j's full run has there. In contiguous
placement the reduced run holds the same tokens at the same position ids whatever the trajectory, so X is one and the
same for all j and the solution is that of the mean target Ȳ: one walk, rank k, no matter how many trajectories. (With
kept positions the rows would differ, and the rank would be J k; adapters are contiguous.)

What is left is how far the trajectories are apart, and no patch of this gauge can undo it: ``Merged.apart``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.errors import InputError
from innerloop.inner.adapter import Origin
from innerloop.inner.full import FullRun
from innerloop.inner.gauges.fit import Fit, Gauge, Seen, patch_of
from innerloop.inner.patch import Patch
from innerloop.inner.probe import ProbeItem, shares, task_of
from innerloop.inner.reduced import answer_log_probs, logits, reduced
from innerloop.inner.task import Task
from innerloop.inner.update import GaugeName, check_rank, gauge_of
from innerloop.inner.watch import Watch, watching
from innerloop.models import LoadedModel


@dataclass(frozen=True, kw_only=True)
class Merged:
    """One patch (a single batch entry, contiguous placement) for the ends of several trajectories of one question.

    ``full`` is log p of the answer's tokens after each trajectory, ``base`` without any, ``found`` without any on the
    patched weights; float64. ``apart`` is √(Σⱼ ‖Yⱼ − Ȳ‖² / Σⱼ ‖Yⱼ − Y₀‖²) over everything the gauge restores, with Y₀
    the unpatched reduced run: the part of the wanted change that is lost, 0 for one trajectory.
    """

    items: tuple[ProbeItem, ...]
    task: Task
    gauge: GaugeName
    patch: Patch
    full: Float[Tensor, "trajectory answer"]
    base: Float[Tensor, " answer"]
    found: Float[Tensor, " answer"]
    apart: float
    condition: float
    deficient: int

    @property
    def residual(self) -> Float[Tensor, " trajectory"]:
        """max |Δ log p| between the merged weights and each trajectory's full run over the answer's tokens, in nats."""
        return (self.found - self.full).abs().amax(dim=1)

    def origin(self, question: str) -> Origin:
        """What is written beside an adapter of these weights; ``question`` is the question's text."""
        return Origin(
            question_id=self.items[0].question_id,
            question=question,
            prompt=self.task.prompt,
            answer=self.task.answers[0],
            trajectories=tuple(item.trajectory_id for item in self.items),
            positions=tuple(len(item.trajectory) for item in self.items),
            gauge=self.gauge,
            residuals=tuple(self.residual.tolist()),
        )


def merge(loaded: LoadedModel, items: Sequence[ProbeItem], *, gauge: GaugeName = "attention") -> Merged:
    """θ' at the ends of one or several trajectories of one question, in contiguous placement and scope ``weights``.

    `InputError` where the items do not share their prompt and answer, or the gauge cannot patch the model exactly.
    """
    _check_alike(items)
    chosen = gauge_of(loaded, gauge)
    tasks = [task_of(loaded, item, (len(item.trajectory),)) for item in items]
    check_rank(loaded, chosen, items[0], tasks[0])
    each, full = zip(*(_full(loaded, chosen, task) for task in tasks), strict=True)
    mean = {watch: torch.stack([seen[watch].double() for seen in each]).mean(dim=0) for watch in chosen.watches}
    run = reduced(loaded, tasks[0], tasks[0].positions, "contiguous")
    fit = Fit(branch=run.rows, rows=None)
    with torch.inference_mode():
        with watching(loaded.model, chosen.watches) as seen:
            base = answer_log_probs(logits(loaded, run), run.answer)[0]
        without = {watch: x.view(1, -1, x.shape[-1])[:, run.rows].double() for watch, x in seen.items()}
        with chosen.walking(loaded.model, {watch: x.to(loaded.dtype) for watch, x in mean.items()}, fit):
            found = answer_log_probs(logits(loaded, run), run.answer)[0]
    return Merged(
        items=tuple(items),
        task=tasks[0],
        gauge=gauge,
        patch=patch_of(fit),
        full=torch.cat(full).cpu(),
        base=base.cpu(),
        found=found.cpu(),
        apart=_apart(each, mean, without),
        condition=float(fit.condition()),
        deficient=int(fit.deficient()),
    )


def _check_alike(items: Sequence[ProbeItem]) -> None:
    """One patch has one reduced run."""
    if not items:
        raise InputError("nothing to merge: no trajectory was given")
    head = items[0]
    for item in items[1:]:
        if (item.prompt, item.answer) != (head.prompt, head.answer):
            raise InputError(
                f"{item.trajectory_id} and {head.trajectory_id} differ in question, mode or answer and cannot be "
                f"merged; merge only trajectories with the same prompt and answer"
            )


def _full(loaded: LoadedModel, gauge: Gauge, task: Task) -> tuple[Seen, Float[Tensor, "one answer"]]:
    """What the gauge must know of one trajectory's full run."""
    return FullRun(loaded, task, gauge.watches, shares=shares(loaded, task)).at(task.positions)


def _apart(each: Sequence[Seen], mean: Seen, without: Seen) -> float:
    """The share of the wanted change that differs between trajectories."""

    def squared(origin: Seen) -> float:
        return sum(_distance(seen, origin, watch) for seen in each for watch in mean)

    whole = squared(without)
    return (squared(mean) / whole) ** 0.5 if whole > 0 else 0.0


def _distance(seen: Seen, origin: Seen, watch: Watch) -> float:
    return float((seen[watch].double() - origin[watch]).square().sum())
