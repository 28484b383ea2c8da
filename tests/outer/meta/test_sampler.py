"""Tasks from questions with trajectories: what is drawn, what is kept apart, and what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innerloop.errors import InputError
from innerloop.outer.meta.choosing import Choosing
from innerloop.outer.meta.sampler import Record, Shape, TaskSampler
from innerloop.outer.rows import Row


def record(family: str, number: int, trajectories: int) -> Record:
    question = f"{family}-{number}"
    rows = tuple(
        Row(question, f"{question}/t{i}", tuple(range(10 + i)), (0.0,) * 4 + (1.0,) * (6 + i))
        for i in range(trajectories)
    )
    return Record(
        family=family,
        question_id=question,
        trajectories=rows,
        answer=Row(question, None, (1, 2, 3, 4, 5), (0.0, 0.0, 0.0, 1.0, 1.0)),
    )


def records(families: int = 3, questions: int = 4, trajectories: int = 3) -> list[Record]:
    return [record(f"f{i}", j, trajectories) for i in range(families) for j in range(questions)]


def questions(rows: Sequence[Row]) -> set[str]:
    return {row.question_id for row in rows}


@settings(max_examples=60, deadline=None)
@given(
    step=st.integers(0, 1000),
    support=st.integers(1, 6),
    query=st.integers(1, 2),
    kind=st.sampled_from(["trajectories", "answers"]),
)
def test_by_family_no_question_is_in_support_and_query(step: int, support: int, query: int, kind: Any) -> None:
    sampler = TaskSampler(records(), Shape(support=support, query=query, kind=kind), tasks=5, seed=1)
    for task in sampler.draw(step):
        rows = [row for batch in task.support for row in batch]
        assert not questions(rows) & questions(task.query)
        assert {question.split("-")[0] for question in questions([*rows, *task.query])} == {task.family}
        assert len({row.trajectory_id for row in rows}) == len(rows) == support
        assert len(questions(task.query)) == len(task.query) == query
        assert all((row.trajectory_id is None) == (kind == "answers") for row in task.query)


@pytest.mark.parametrize("kind", ["trajectories", "answers"])
def test_by_question_support_and_query_share_the_question_only(kind: Any) -> None:
    sampler = TaskSampler(records(), Shape(support=2, query=1, kind=kind, scope="question"), tasks=4, seed=0)
    for step in range(20):
        for task in sampler.draw(step):
            rows = task.support[0]
            assert questions(rows) == questions(task.query)
            assert len(questions(rows)) == 1
            assert not set(rows) & set(task.query)


def test_the_same_step_gives_the_same_tasks_in_whatever_order() -> None:
    first, second = (TaskSampler(records(), Shape(support=2, query=1), tasks=4, seed=3) for _ in range(2))
    forward = [first.draw(step) for step in range(5)]
    backward = [second.draw(step) for step in reversed(range(5))]
    assert forward == backward[::-1]
    other = TaskSampler(records(), Shape(support=2, query=1), tasks=4, seed=4)
    assert [other.draw(step) for step in range(5)] != forward


def test_families_take_turns() -> None:
    sampler = TaskSampler(records(), Shape(support=2, query=1), tasks=4, seed=0)
    counts: Counter[str] = Counter()
    for step in range(60):
        drawn = Counter(task.family for task in sampler.draw(step))
        assert sorted(drawn.values()) == [1, 1, 2]
        counts += drawn
    assert max(counts.values()) - min(counts.values()) < 25


def test_every_trajectory_is_drawn_about_as_often() -> None:
    sampler = TaskSampler(records(1, 4, 3), Shape(support=3, query=1), tasks=1, seed=0)
    counts = Counter(arm for step in range(600) for task in sampler.draw(step) for arm in task.chosen)
    assert len(counts) == 12
    assert all(count == pytest.approx(150, abs=50) for count in counts.values())  # four standard deviations


def test_batches_of_the_support_and_their_tokens() -> None:
    sampler = TaskSampler(records(1, 4, 3), Shape(support=5, query=2, support_batch=2), tasks=1, seed=0)
    task = sampler.draw(0)[0]
    assert [len(batch) for batch in task.support] == [2, 2, 1]
    for batch, tokens in zip((*task.support, task.query), (*task.support_tokens, task.query_tokens), strict=True):
        assert tokens == len(batch) * max(len(row.input_ids) for row in batch)


def test_trajectories_that_helped_are_drawn_more_often() -> None:
    sampler = TaskSampler(
        records(1, 6, 2), Shape(support=2, query=1), tasks=2, seed=0, choosing=Choosing(floor=0.2, temperature=0.2)
    )
    assert sampler.wants_gains
    for step in range(150):  # the trajectory /t1 of a question helps, /t0 does harm
        tasks = sampler.draw(step)
        sampler.learn(tasks, [sum(1.0 if arm.endswith("t1") else -1.0 for arm in task.chosen) for task in tasks])
    late = Counter(arm[-2:] for step in range(150, 250) for task in sampler.draw(step) for arm in task.chosen)
    assert late["t1"] > 2 * late["t0"] > 0
    again = TaskSampler(
        records(1, 6, 2), Shape(support=2, query=1), tasks=2, seed=0, choosing=Choosing(floor=0.2, temperature=0.2)
    )
    assert again.draw(200) != sampler.draw(200)
    again.restore(sampler.state())
    assert again.draw(200) == sampler.draw(200)


@pytest.mark.parametrize(
    ("given_records", "shape", "said"),
    [
        ([], Shape(), "no questions with trajectories"),
        (
            records(2, 3, 2) + [record("poor", i, 1) for i in range(3)],
            Shape(support=2, query=2),
            r"1 of 3 families .*poor; at least 1\)",
        ),
        (records(2, 2, 9), Shape(support=1, query=3), r"2 of 2 families .* at least 0\)"),
        ([*records(1, 3, 2), record("f0", 1, 2)], Shape(support=1, query=1), "a question comes twice"),
        (records(1, 3, 2), Shape(support=2, query=1, scope="question"), "needs 3 trajectories of a question; 3 of 3"),
    ],
)
def test_what_cannot_be_drawn_is_refused(given_records: list[Record], shape: Shape, said: str) -> None:
    with pytest.raises(InputError, match=said):
        TaskSampler(given_records, shape, tasks=1, seed=0)
