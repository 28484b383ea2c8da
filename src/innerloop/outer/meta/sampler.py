"""Language-model tasks from questions with trajectories: what is support, what is query, and from which questions.

Scope ``family`` (the honest one): support and query come from different questions of one family, so what adaptation
gains is about the family. Scope ``question``: both come from one question; the support then shows the answer that the
query asks for, so the gain counts what leaks, too (RaML's own reading: a question is a task).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from innerloop.errors import InputError
from innerloop.outer.meta.choosing import Choosing
from innerloop.outer.meta.language import tokens_of
from innerloop.outer.meta.seeds import seed_for
from innerloop.outer.meta.task import Task
from innerloop.outer.rows import Row

Kind = Literal["trajectories", "answers"]
Scope = Literal["family", "question"]


@dataclass(frozen=True, kw_only=True)
class Record:
    """One question of a family: a row for each trajectory, and one for the answer without any."""

    family: str
    question_id: str
    trajectories: tuple[Row, ...]
    answer: Row

    def __post_init__(self) -> None:
        ids = {row.question_id for row in (*self.trajectories, self.answer)}
        assert ids == {self.question_id}, "a record's rows belong to its question"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How a task is made: ``support`` trajectories in batches of ``support_batch`` (None: in one), ``query`` rows.

    ``kind``: the query rows are trajectories, or answers without a trajectory (RaML eq. 8 at the adapted weights).
    """

    support: int = 4
    query: int = 4
    kind: Kind = "trajectories"
    scope: Scope = "family"
    support_batch: int | None = None


class TaskSampler:
    """Draws ``tasks`` tasks a step, families in turn, from ``seed`` and the step alone (``choosing``: and gains)."""

    def __init__(
        self, records: Sequence[Record], shape: Shape, *, tasks: int, seed: int, choosing: Choosing | None = None
    ) -> None:
        self._by_family: dict[str, list[Record]] = defaultdict(list)
        for record in records:
            self._by_family[record.family].append(record)
        self.families = tuple(sorted(self._by_family))
        self.shape, self._tasks, self._seed, self._choosing = shape, tasks, seed, choosing
        _check(self._by_family, shape)

    @property
    def wants_gains(self) -> bool:
        """Whether trajectories are chosen by what they gained."""
        return self._choosing is not None

    def draw(self, step: int) -> list[Task]:
        """The tasks of a step: families in a new random order, each once before any comes again."""
        generator = torch.Generator().manual_seed(seed_for(self._seed, step, "families"))
        order = [self.families[i] for i in torch.randperm(len(self.families), generator=generator).tolist()]
        return [self._task(order[i % len(order)], step, i) for i in range(self._tasks)]

    def learn(self, tasks: Sequence[Task], gains: Sequence[float]) -> None:
        """Credit each task's gain to its support trajectories."""
        if self._choosing is not None:
            for task, gain in zip(tasks, gains, strict=True):
                self._choosing.learn(task.chosen, gain)

    def state(self) -> dict[str, Any]:
        """The trajectories' running means, where they are chosen by gain."""
        return self._choosing.state() if self._choosing is not None else {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        if self._choosing is not None:
            self._choosing.restore(state)

    def _task(self, family: str, step: int, index: int) -> Task:
        generator = torch.Generator().manual_seed(seed_for(self._seed, step, index, "task"))
        split = self._of_question if self.shape.scope == "question" else self._of_family
        support, query = split(family, generator)
        size = self.shape.support_batch or len(support)
        batches = tuple(tuple(support[start : start + size]) for start in range(0, len(support), size))
        return Task(
            support=batches,
            query=tuple(query),
            family=family,
            support_tokens=tuple(map(tokens_of, batches)),
            query_tokens=tokens_of(query),
            name=f"{family}: support {_questions(support)}, query {_questions(query)}",
            chosen=tuple(map(_arm, support)),
        )

    def _of_family(self, family: str, generator: torch.Generator) -> tuple[list[Row], list[Row]]:
        """Query rows of some questions, one each; support of any of the family's other questions."""
        records = self._by_family[family]
        asked = [records[i] for i in torch.randperm(len(records), generator=generator).tolist()]
        answered = [record for record in asked if self.shape.kind == "answers" or record.trajectories]
        held_out = answered[: self.shape.query]
        if self.shape.kind == "answers":
            query = [record.answer for record in held_out]
        else:
            query = [_pick(record.trajectories, 1, generator)[0] for record in held_out]
        out = {record.question_id for record in held_out}
        pool = [row for record in records if record.question_id not in out for row in record.trajectories]
        return self._support(pool, generator), query

    def _of_question(self, family: str, generator: torch.Generator) -> tuple[list[Row], list[Row]]:
        """Support and query of one question: different trajectories, or trajectories and the answer."""
        enough = [record for record in self._by_family[family] if len(record.trajectories) >= _needed(self.shape)]
        record = enough[int(torch.randint(len(enough), (), generator=generator))]
        if self.shape.kind == "answers":
            return self._support(record.trajectories, generator), [record.answer]
        held_out = _pick(record.trajectories, self.shape.query, generator)
        return self._support([row for row in record.trajectories if row not in held_out], generator), held_out

    def _support(self, pool: Sequence[Row], generator: torch.Generator) -> list[Row]:
        if self._choosing is None:
            return _pick(pool, self.shape.support, generator)
        return [pool[i] for i in self._choosing.draw([*map(_arm, pool)], self.shape.support, generator)]


def _pick(rows: Sequence[Row], count: int, generator: torch.Generator) -> list[Row]:
    return [rows[i] for i in torch.randperm(len(rows), generator=generator)[:count].tolist()]


def _arm(row: Row) -> str:
    assert row.trajectory_id is not None, "support rows are trajectories"
    return row.trajectory_id


def _questions(rows: Sequence[Row]) -> str:
    return ", ".join(dict.fromkeys(row.question_id for row in rows))


def _needed(shape: Shape) -> int:
    """Trajectories that a question must have, where support and query come from one."""
    return shape.support + (shape.query if shape.kind == "trajectories" else 0)


def _check(by_family: Mapping[str, Sequence[Record]], shape: Shape) -> None:
    """`InputError` where tasks cannot be drawn, with how many fall short."""
    if not by_family:
        raise InputError(
            "no questions with trajectories, so there are no tasks; give --trajectories that fit --questions"
        )
    for family, records in by_family.items():
        ids = [record.question_id for record in records]
        if len(set(ids)) < len(ids):
            raise InputError(f"family {family}: a question comes twice; it could be support and query at once")
    if shape.scope == "question":
        short = {family: sum(len(r.trajectories) < _needed(shape) for r in rs) for family, rs in by_family.items()}
        empty = [family for family, records in by_family.items() if short[family] == len(records)]
        if empty:
            raise InputError(
                f"scope question needs {_needed(shape)} trajectories of a question; {sum(short.values())} of "
                f"{sum(map(len, by_family.values()))} questions fall short, all of them in family {', '.join(empty)}; "
                "lower --support or --query, or sample more"
            )
        return
    short_families = [family for family, records in by_family.items() if _left(records, shape) < shape.support]
    if short_families:
        least = min(_left(by_family[family], shape) for family in short_families)
        raise InputError(
            f"--support {shape.support} with --query {shape.query}: {len(short_families)} of {len(by_family)} families "
            f"have too few trajectories of questions outside the query ({', '.join(short_families[:5])}; at least "
            f"{max(least, 0)}); lower them, add questions or trajectories, or leave these families out"
        )


def _left(records: Sequence[Record], shape: Shape) -> int:
    """Support trajectories that are left in the worst case, −1 where there are not even enough query questions."""
    counts = sorted((len(record.trajectories) for record in records), reverse=True)
    able = len(records) if shape.kind == "answers" else sum(count > 0 for count in counts)
    return sum(counts[shape.query :]) if able >= shape.query else -1
