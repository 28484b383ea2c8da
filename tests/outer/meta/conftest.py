"""Quadratic tasks, whose inner loops have closed forms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from innerloop.outer.meta.task import Parameters, Task, Tasks

SIZE = 5


class Bowl(NamedTuple):
    """½ (θ − centre)ᵀ shape (θ − centre)."""

    shape: Tensor
    centre: Tensor

    def slope(self, theta: Tensor) -> Tensor:
        return self.shape @ (theta - self.centre)


class Point(nn.Module):
    """θ as two matrices of one row, so that one can be left alone."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        values = torch.randn(SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        self.body = nn.Parameter(values[None, :2].clone())
        self.head = nn.Parameter(values[None, 2:].clone())


def bowl(seed: int, *, centre: float = 1.0) -> Bowl:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64)
    shift = torch.randn(SIZE, generator=generator, dtype=torch.float64)
    return Bowl(root @ root.T / SIZE + 0.1 * torch.eye(SIZE, dtype=torch.float64), centre * shift)


def joined(parameters: Parameters) -> Tensor:
    return torch.cat([parameters["body"], parameters["head"]], dim=1)[0]


def bowl_loss(parameters: Parameters, batch: Bowl) -> Tensor:
    off = joined(parameters) - batch.centre
    return 0.5 * off @ batch.shape @ off


def bowl_task(support: int | Sequence[int], query: int, family: str = "a", centre: float = 1.0) -> Task:
    seeds = [support] if isinstance(support, int) else list(support)
    return Task(
        support=tuple(bowl(seed, centre=centre) for seed in seeds),
        query=bowl(query, centre=centre),
        family=family,
        support_tokens=(3,) * len(seeds),
        query_tokens=7,
        name=f"bowls {seeds} and {query}",
        chosen=tuple(f"t{seed}" for seed in seeds),
    )


def bowl_source(tasks: int = 3, families: int = 2) -> Tasks:
    names = [f"family-{i}" for i in range(families)]

    def draw(step: int) -> list[Task]:
        first = 10_000 * (step + 1)
        return [bowl_task(first + 2 * i, first + 2 * i + 1, names[i % families]) for i in range(tasks)]

    return Tasks(names, draw)


class Quadratics(NamedTuple):
    point: Callable[..., Point]
    loss: Callable[[Parameters, Bowl], Tensor]
    task: Callable[..., Task]
    source: Callable[..., Tasks]
    bowl: Callable[..., Bowl]
    joined: Callable[[Parameters], Tensor]


@pytest.fixture(scope="session")
def quadratics() -> Quadratics:
    """A two-parameter point, the loss on bowls, tasks of bowls, and a source of such tasks."""
    return Quadratics(Point, bowl_loss, bowl_task, bowl_source, bowl, joined)
