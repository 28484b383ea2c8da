"""What flows through the outer loop: tasks in, gradients of the outer parameters out.

Nothing here knows language models: a batch is whatever the loss function takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

Parameters = Mapping[str, Tensor]
Batch = Any
#: loss(parameters, batch): a scalar, differentiable in the parameters (`torch.func.functional_call` makes it so).
Loss = Callable[[Parameters, Batch], Tensor]


@dataclass(frozen=True, kw_only=True)
class Task:
    """Support batches to adapt on and a query batch to be judged on, of one family.

    ``support_tokens`` and ``query_tokens`` are what a forward of each batch takes through the model, padding included.
    ``name`` tells a reader which task it is; ``chosen`` are the ids of the support trajectories.
    """

    support: tuple[Batch, ...]
    query: Batch
    family: str
    support_tokens: tuple[int, ...]
    query_tokens: int
    name: str = ""
    chosen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert self.support, "a task has something to adapt on"
        assert len(self.support) == len(self.support_tokens), "a token count for each support batch"


@dataclass(frozen=True)
class MetaGradient:
    """What one task says: the gradient of the outer parameters, and losses on the way.

    ``query_loss`` is taken after adaptation, ``support_losses`` before each inner step, all at the units of the loss.
    """

    gradient: dict[str, Tensor]
    query_loss: float
    support_losses: tuple[float, ...]


@runtime_checkable
class TaskSource(Protocol):
    """Draws the tasks of each outer step. The same step always gives the same tasks, on every process."""

    @property
    def families(self) -> tuple[str, ...]:
        """All families that tasks may belong to."""

    @property
    def wants_gains(self) -> bool:
        """Whether `learn` uses the tasks' gains, each of which costs a forward of the query batch."""

    def draw(self, step: int) -> Sequence[Task]:
        """The tasks of an outer step."""

    def learn(self, tasks: Sequence[Task], gains: Sequence[float]) -> None:
        """Take note of what adaptation did to each task's query loss (before − after)."""

    def state(self) -> dict[str, Any]:
        """What `learn` has left, as JSON-able values."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""


class Tasks:
    """A source that only draws: ``draw(step)`` is all it does."""

    wants_gains = False

    def __init__(self, families: Sequence[str], draw: Callable[[int], Sequence[Task]]) -> None:
        self.families = tuple(families)
        self._draw = draw

    def draw(self, step: int) -> Sequence[Task]:
        """The tasks of an outer step."""
        return self._draw(step)

    def learn(self, tasks: Sequence[Task], gains: Sequence[float]) -> None:
        """Nothing to learn."""

    def state(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore."""
