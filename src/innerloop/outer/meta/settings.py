"""How to meta-train: algorithm, inner loop, outer optimiser, how families are combined, and when to stop."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from innerloop.errors import InputError
from innerloop.settings import about, at_least, check_choices

SECOND_ORDER = ("maml", "anil", "meta-sgd")


@dataclass(frozen=True, kw_only=True)
class MetaSettings:
    """Settings of `meta_train`. Learning rates are per outer step, inner rates per inner step."""

    algorithm: Literal["maml", "fomaml", "reptile", "anil", "meta-sgd", "joint"] = field(
        default="fomaml",
        metadata=about(
            "maml, anil and meta-sgd differentiate through the inner loop, fomaml and reptile do not; joint has no "
            "inner loop (the baseline)."
        ),
    )
    inner_steps: int = field(default=1, metadata=about("Steps of gradient descent on the support of a task."))
    inner_rate: float = field(
        default=0.01, metadata=about("Rate of these steps; meta-sgd starts from it and learns one for each weight.")
    )
    head: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "anil: names of the parameters that the inner loop adapts, as shell patterns (*.layers.29.*); by default "
            "the last block and what stands behind it. Repeat it for several."
        ),
    )
    steps: int = field(default=100, metadata=about("Outer steps at most."))
    tasks: int = field(default=4, metadata=about("Tasks per outer step, over all processes."))
    budget_tokens: int | None = field(
        default=None, metadata=about("Stop before a step would take more tokens than this through the model.")
    )
    budget_flops: float | None = field(
        default=None, metadata=about("Stop before a step would take more FLOPs than this, by the formula in the docs.")
    )
    optimizer: Literal["adamw", "sgd"] = field(default="adamw", metadata=about("Of the outer loop."))
    learning_rate: float = field(default=1e-4, metadata=about("Of the outer loop."))
    rates_learning_rate: float | None = field(
        default=None, metadata=about("meta-sgd: of the inner rates; by default the learning rate.")
    )
    weight_decay: float = field(default=0.0, metadata=about("Of the outer loop; learned inner rates do not decay."))
    max_norm: float | None = field(default=1.0, metadata=about("Clip the outer gradient to this norm."))
    warmup: int = field(default=0, metadata=about("Steps over which the learning rate rises to its value."))
    schedule: Literal["constant", "linear"] = field(
        default="constant", metadata=about("linear: the learning rate falls to 0 as steps or budget are used up.")
    )
    combine: Literal["mean", "robust", "pcgrad", "cagrad", "upgrad"] = field(
        default="mean",
        metadata=about(
            "How families make one gradient: their mean; robust: min–max over families; pcgrad, cagrad, upgrad: "
            "surgery on conflicting gradients (holds one gradient per family)."
        ),
    )
    robust_rate: float = field(default=0.1, metadata=about("robust: how fast weights move to families of high loss."))
    cagrad_c: float = field(default=0.5, metadata=about("cagrad: how far from the mean gradient it may go, 0 to 1."))
    seed: int = field(default=0, metadata=about("Of everything that is drawn."))

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("inner_steps", "steps", "tasks", "budget_tokens"):
            at_least(name, getattr(self, name), 1)
        for name in ("warmup", "seed", "weight_decay"):
            at_least(name, getattr(self, name), 0)
        for name in ("inner_rate", "learning_rate", "rates_learning_rate", "max_norm", "robust_rate", "budget_flops"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"--{name.replace('_', '-')} {value}: must be a number above 0")
        if not 0 <= self.cagrad_c < 1:
            raise InputError(f"--cagrad-c {self.cagrad_c}: must be 0 or more and below 1")
        if self.head and self.algorithm != "anil":
            raise InputError(f"--head {self.head[0]}: only anil adapts a part of the weights; leave it out")
        if self.rates_learning_rate is not None and self.algorithm != "meta-sgd":
            raise InputError(
                f"--rates-learning-rate {self.rates_learning_rate}: only meta-sgd learns rates; leave it out"
            )

    @property
    def second_order(self) -> bool:
        """Whether the algorithm differentiates through the inner loop."""
        return self.algorithm in SECOND_ORDER
