"""What an algorithm is, and which one the settings mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from innerloop.outer.meta.anil import Anil, head_names
from innerloop.outer.meta.combine import Combination, Mean
from innerloop.outer.meta.cost import Sizes, Spent, sizes_of
from innerloop.outer.meta.fomaml import Fomaml
from innerloop.outer.meta.joint import Joint
from innerloop.outer.meta.maml import Maml
from innerloop.outer.meta.meta_sgd import MetaSgd
from innerloop.outer.meta.reptile import Reptile
from innerloop.outer.meta.robust import Robust
from innerloop.outer.meta.settings import MetaSettings
from innerloop.outer.meta.task import Loss, MetaGradient, Parameters, Task


class Algorithm(Protocol):
    """Makes an outer gradient of one task."""

    def own(self, start: Parameters) -> dict[str, Tensor]:
        """Outer parameters that the algorithm has beside the start, by names that the start has not."""

    def gradient(self, loss: Loss, outer: Parameters, task: Task) -> MetaGradient:
        """The gradient of all outer parameters, ``start | own``, from one task."""

    def cost(self, sizes: Sizes, support: Sequence[int], query: int) -> Spent:
        """What `gradient` takes, for support batches and a query batch of so many tokens."""


def choose_algorithm(settings: MetaSettings, model: nn.Module) -> tuple[Algorithm, Sizes]:
    """The algorithm of the settings, and the weights that its costs are counted with."""
    steps, rate = settings.inner_steps, settings.inner_rate
    if settings.algorithm == "anil":
        head = head_names(model, settings.head)
        return Anil(steps=steps, rate=rate, head=head), sizes_of(model, adapted=head)
    made: Algorithm
    match settings.algorithm:
        case "maml":
            made = Maml(steps=steps, rate=rate)
        case "fomaml":
            made = Fomaml(steps=steps, rate=rate)
        case "reptile":
            made = Reptile(steps=steps, rate=rate)
        case "meta-sgd":
            made = MetaSgd(steps=steps, rate=rate)
        case "joint":
            made = Joint()
    return made, sizes_of(model)


def choose_combination(settings: MetaSettings, families: Sequence[str]) -> Combination:
    """How the settings want families to be combined."""
    if settings.combine == "mean":
        return Mean()
    if settings.combine == "robust":
        return Robust(families, settings.robust_rate)
    from innerloop.outer.meta.surgery import Surgery

    return Surgery(settings.combine, c=settings.cagrad_c)
