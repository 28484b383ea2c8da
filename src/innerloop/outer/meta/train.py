"""The outer loop of meta-learning: draw tasks, take each one's gradient, join them, step.

Everything random depends on the seed and the step alone, so a run that was stopped goes on to the same losses. With
`torch.distributed` set up, each process takes every world-size-th task of a step, and all of them make the same step.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.errors import InputError
from innerloop.outer.guard import DivergedError
from innerloop.outer.meta.algorithm import choose_algorithm, choose_combination
from innerloop.outer.meta.checkpoint import MetaState, optimizer_tensors, restore_optimizer, restore_weights
from innerloop.outer.meta.combine import Gradients
from innerloop.outer.meta.cost import Spent, forward_cost
from innerloop.outer.meta.meta_sgd import RATE
from innerloop.outer.meta.seeds import seed_for, seeded
from innerloop.outer.meta.settings import MetaSettings
from innerloop.outer.meta.task import Loss, Task, TaskSource
from innerloop.outer.processes import rank, same_start, sum_over, world

_MAY_DIFFER = ("steps", "budget_tokens", "budget_flops")  # in a run that goes on


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """One outer step. Losses are means over its tasks, in the unit of the loss; ``step`` counts from 1.

    ``query_loss`` is after adaptation; ``support_loss`` before the first inner step; ``gain`` the query loss before
    adaptation minus after, where the task source wanted it. ``families`` are the query losses by family, ``weights``
    the weights of families for the next step. ``spent`` is the total so far, over all processes.
    """

    step: int
    query_loss: float
    support_loss: float
    gain: float | None
    families: dict[str, float]
    weights: dict[str, float]
    gradient_norm: float
    learning_rate: float
    spent: Spent
    seconds: float


@dataclass(frozen=True, kw_only=True)
class MetaResult:
    """``stopped`` is ``steps`` or ``budget``. ``last`` is None where no step was left to do."""

    steps: int
    spent: Spent
    stopped: str
    last: Metrics | None


def meta_train(
    model: nn.Module,
    loss: Loss,
    tasks: TaskSource,
    settings: MetaSettings,
    *,
    resume: MetaState | None = None,
    on_step: Callable[[MetaTraining, Metrics], None] | None = None,
) -> MetaResult:
    """Train the model's trained parameters (``requires_grad``) in place, until the steps or the budget are used up.

    ``loss(parameters, batch)`` gets stand-ins for these parameters by name. ``on_step`` is called behind every step
    and may keep ``training.state()``, from which ``resume`` goes on. `DivergedError` names the step and the task.
    """
    training = MetaTraining(model, loss, tasks, settings)
    if resume is not None:
        training.restore(resume)
    mode, last = model.training, None
    model.train()
    try:
        while training.done < settings.steps:
            drawn = tasks.draw(training.done)
            if training.over_budget(drawn):
                break
            last = training.step(drawn)
            if on_step is not None:
                on_step(training, last)
    finally:
        model.train(mode)
    stopped = "steps" if training.done >= settings.steps else "budget"
    return MetaResult(steps=training.done, spent=training.spent, stopped=stopped, last=last)


class MetaTraining:
    """A meta-training between two steps: ``done`` steps, and what they have ``spent``."""

    def __init__(self, model: nn.Module, loss: Loss, source: TaskSource, settings: MetaSettings) -> None:
        start: dict[str, Tensor] = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        if not start:
            raise InputError("the model has no trained parameters: set requires_grad, or add an adapter")
        self.loss, self.source, self.settings = loss, source, settings
        self.algorithm, self.sizes = choose_algorithm(settings, model)
        self.combination = choose_combination(settings, source.families)
        self.start = start
        self.outer = start | self.algorithm.own(start)
        self.optimizer = _optimizer(self.outer, settings)
        self.done, self.spent = 0, Spent()
        same_start({name: weight.data for name, weight in self.outer.items()})

    def step(self, tasks: Sequence[Task]) -> Metrics:
        """One outer step on the tasks that the source drew for it."""
        began = time.monotonic()
        learning_rate = self._set_learning_rates()
        buckets, results = self._gradients(tasks)
        self._check(tasks, results)
        gradient = self.combination.join(buckets, seed_for(self.settings.seed, self.done, "join"))
        norm = self._apply(gradient)
        self.count(tasks)
        query, support, before = results.T.tolist()
        families = _by_family(tasks, query)
        self.combination.learn(families)
        gains = [first - last for first, last in zip(before, query, strict=True)] if self.source.wants_gains else None
        if gains is not None:
            self.source.learn(tasks, gains)
        return Metrics(
            step=self.done,
            query_loss=_mean(query),
            support_loss=_mean(support),
            gain=_mean(gains) if gains is not None else None,
            families=families,
            weights=self.combination.weights(),
            gradient_norm=norm,
            learning_rate=learning_rate,
            spent=self.spent,
            seconds=time.monotonic() - began,
        )

    def count(self, tasks: Sequence[Task]) -> None:
        """A step on these tasks is done, or is to be taken as done where only the cost is asked for."""
        self.spent += self._cost(tasks)
        self.done += 1

    def over_budget(self, tasks: Sequence[Task]) -> bool:
        """Whether a step on these tasks would take more than there is. `InputError` where not even one step fits."""
        after, settings = self.spent + self._cost(tasks), self.settings
        for name, limit, needed in (
            ("budget_tokens", settings.budget_tokens, after.tokens),
            ("budget_flops", settings.budget_flops, after.flops),
        ):
            if limit is not None and needed > limit:
                if self.done == 0:
                    raise InputError(f"--{name.replace('_', '-')} {limit:g}: the first step alone takes {needed:g}")
                return True
        return False

    def state(self) -> MetaState:
        """All that the next step depends on, copied."""
        tensors = {f"weights/{name}": weight.detach().clone() for name, weight in self.outer.items()}
        values = {
            "settings": dataclasses.asdict(self.settings),
            "step": self.done,
            "spent": dataclasses.asdict(self.spent),
            "families": list(self.source.families),
            "combination": self.combination.state(),
            "tasks": self.source.state(),
        }
        return MetaState(tensors | optimizer_tensors(self.optimizer, self.outer), values)

    def restore(self, state: MetaState) -> None:
        """Go on from a state. `InputError` for one of another model, of other settings or of other families."""
        was = state.values["settings"] | {"head": tuple(state.values["settings"]["head"])}
        now = dataclasses.asdict(self.settings)
        differing = [name for name in now if name not in _MAY_DIFFER and was.get(name) != now[name]]
        if differing:
            name = differing[0]
            raise InputError(
                f"--{name.replace('_', '-')} {now[name]}: the checkpoint was made with {was.get(name)}; go on with "
                "that, or start anew"
            )
        if state.values["families"] != list(self.source.families):
            raise InputError("the checkpoint was made on other families; go on with the same questions, or start anew")
        restore_weights(state, self.outer)
        try:
            restore_optimizer(state, self.optimizer, self.outer)
            self.combination.restore(state.values["combination"])
            self.source.restore(state.values["tasks"])
            self.done, self.spent = state.values["step"], Spent(**state.values["spent"])
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"the checkpoint lacks what a training goes on from ({error}); start anew") from error

    def _gradients(self, tasks: Sequence[Task]) -> tuple[dict[str, Gradients], Tensor]:
        """The buckets of the combination, and per task: query loss, first support loss, query loss before adapting."""
        shares = self.combination.shares([task.family for task in tasks])
        buckets = {
            name: {key: torch.zeros_like(weight) for key, weight in self.outer.items()}
            for name in sorted({share.bucket for share in shares})
        }
        device = next(iter(self.outer.values())).device
        results = torch.zeros(len(tasks), 3, dtype=torch.float64, device=device)
        for i in range(rank(), len(tasks), world()):
            task, share = tasks[i], shares[i]
            with seeded(self.settings.seed, self.done, i):
                if self.source.wants_gains:
                    with torch.no_grad():
                        results[i, 2] = float(self.loss(self.start, task.query))
                found = self.algorithm.gradient(self.loss, self.outer, task)
            results[i, 0], results[i, 1] = found.query_loss, found.support_losses[0]
            for name, gradient in found.gradient.items():
                buckets[share.bucket][name].add_(gradient, alpha=share.weight)
        for bucket in buckets.values():
            sum_over(bucket)
        sum_over({"results": results})
        return buckets, results.cpu()

    def _check(self, tasks: Sequence[Task], results: Tensor) -> None:
        for task, found in zip(tasks, results.tolist(), strict=True):
            if not all(map(math.isfinite, found)):
                which = "support" if math.isfinite(found[2]) and not math.isfinite(found[1]) else "query"
                raise DivergedError(
                    f"step {self.done + 1}: the {which} loss of a task is no number ({task.name or task.family}); the "
                    f"weights are those of step {self.done}; lower the inner rate or the learning rate"
                )

    def _apply(self, gradient: Gradients) -> float:
        """Clip, and step. Gives the norm before clipping."""
        for name, weight in self.outer.items():
            weight.grad = gradient[name]
        try:
            most = self.settings.max_norm if self.settings.max_norm is not None else math.inf
            norm = float(nn.utils.clip_grad_norm_(self.outer.values(), most))
            if not math.isfinite(norm):
                raise DivergedError(
                    f"step {self.done + 1}: the outer gradient is no number, though all losses are; the weights are "
                    f"those of step {self.done}; lower the inner rate or the number of inner steps"
                )
            self.optimizer.step()
        finally:
            self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _cost(self, tasks: Sequence[Task]) -> Spent:
        total = Spent()
        for task in tasks:
            total += self.algorithm.cost(self.sizes, task.support_tokens, task.query_tokens)
            if self.source.wants_gains:
                total += forward_cost(self.sizes, task.query_tokens)
        return total

    def _set_learning_rates(self) -> float:
        """Warm up and fall, by how much of the steps or of the budget is used."""
        settings = self.settings
        used = [self.done / settings.steps]
        used += [self.spent.tokens / settings.budget_tokens] if settings.budget_tokens else []
        used += [self.spent.flops / settings.budget_flops] if settings.budget_flops else []
        factor = min(1.0, (self.done + 1) / settings.warmup) if settings.warmup else 1.0
        factor *= max(0.0, 1 - max(used)) if settings.schedule == "linear" else 1.0
        for group in self.optimizer.param_groups:
            group["lr"] = factor * group["base"]
        return factor * settings.learning_rate


def _optimizer(outer: Mapping[str, Tensor], settings: MetaSettings) -> torch.optim.Optimizer:
    weights = [weight for name, weight in outer.items() if not name.startswith(RATE)]
    rates = [weight for name, weight in outer.items() if name.startswith(RATE)]
    own = settings.rates_learning_rate or settings.learning_rate
    groups: list[dict[str, Any]] = [
        {"params": weights, "base": settings.learning_rate, "weight_decay": settings.weight_decay}
    ]
    groups += [{"params": rates, "base": own, "weight_decay": 0.0}] if rates else []
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.SGD
    return kind(groups, lr=settings.learning_rate)


def _by_family(tasks: Sequence[Task], losses: Sequence[float]) -> dict[str, float]:
    found: dict[str, list[float]] = defaultdict(list)
    for task, loss in zip(tasks, losses, strict=True):
        found[task.family].append(loss)
    return {family: _mean(found[family]) for family in sorted(found)}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
