"""Run by test_parallel in each of two processes: train, and write what came out. Arguments: rank, world, folder."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from innerloop.outer.meta import checkpoint
from innerloop.outer.meta.choosing import Choosing
from innerloop.outer.meta.language import LanguageLoss
from innerloop.outer.meta.sampler import Record, Shape, TaskSampler
from innerloop.outer.meta.settings import MetaSettings
from innerloop.outer.meta.train import meta_train
from innerloop.outer.rows import Row
from innerloop.testing import tiny

RUNS: dict[str, dict[str, Any]] = {
    "mean": {"algorithm": "maml"},
    "robust": {"algorithm": "fomaml", "combine": "robust", "robust_rate": 1.0},
    "surgery": {"algorithm": "reptile", "combine": "pcgrad"},
    "rates": {"algorithm": "meta-sgd", "combine": "upgrad"},
}


def records() -> list[Record]:
    made = []
    for family in range(3):
        for number in range(4):
            question = f"f{family}-{number}"
            generator = torch.Generator().manual_seed(100 * family + number)
            rows = [_row(question, f"{question}/{i}", 14 + i, generator) for i in range(2)]
            answer = _row(question, None, 9, generator)
            made.append(Record(family=f"f{family}", question_id=question, trajectories=tuple(rows), answer=answer))
    return made


def _row(question: str, trajectory: str | None, length: int, generator: torch.Generator) -> Row:
    ids = torch.randint(97, 123, (length,), generator=generator).tolist()
    return Row(question, trajectory, tuple(ids), (0.0,) * 4 + (1.0,) * (length - 4))


def train(name: str, steps: int, optimizer: str, *, choosing: bool = False) -> tuple[checkpoint.MetaState, list[float]]:
    """A short training of a tiny model: its last state, and the query loss of each step."""
    model = tiny("llama", num_hidden_layers=2, hidden_size=32, intermediate_size=48, head_dim=8, attention_dropout=0.1)
    model.model.requires_grad_(True)
    settings = MetaSettings(
        **RUNS[name],
        inner_rate=0.1,
        steps=steps,
        tasks=5,
        optimizer=optimizer,
        learning_rate=1.0 if optimizer == "sgd" else 1e-3,
        max_norm=None if optimizer == "sgd" else 1.0,
    )
    sampler = TaskSampler(
        records(), Shape(support=2, query=1), tasks=5, seed=0, choosing=Choosing() if choosing else None
    )
    loss = LanguageLoss(model.model, pad_id=0, second_order=settings.second_order)
    losses: list[float] = []
    states: list[checkpoint.MetaState] = []

    def keep(training: Any, metrics: Any) -> None:
        losses.append(metrics.query_loss)
        states[:] = [training.state()]

    meta_train(model.model, loss, sampler, settings, on_step=keep)
    return states[0], losses


def main(rank: int, world: int, folder: Path) -> None:
    """All runs; the first step of plain descent, whose change is the gradient, and a few of AdamW."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    told: dict[str, list[float]] = {}
    for name in RUNS:
        state, _ = train(name, 1, "sgd")
        checkpoint.save(state, folder / f"{name}-{rank}.safetensors")
        _, told[name] = train(name, 3, "adamw", choosing=name == "mean")
    (folder / f"losses-{rank}.json").write_text(json.dumps(told))
    dist.destroy_process_group()


if __name__ == "__main__":
    warnings.simplefilter("error")
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
