"""The support sets T_q (RaML eq. 8): which trajectories stand for each question, and in which order they are passed.

The number of passes over the questions does not depend on how many trajectories a question has: with K trajectories a
pass shows one of them, the next pass the next one. So runs with different K see every question equally often, as in
the paper's comparison of 1 to 32 trajectories per question (RaML section 4.1, appendix C.2).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from innerloop.errors import InputError
from innerloop.schema import Question, Trajectory

ShownT = TypeVar("ShownT")
RowT = TypeVar("RowT")

#: So many of a question's trajectories, of which there are no fewer.
Choice = Callable[[Question, Sequence[Trajectory], int], Sequence[Trajectory]]


def support_sets(
    questions: Sequence[Question], trajectories: Sequence[Trajectory], size: int | None, choice: Choice
) -> dict[str, tuple[Trajectory, ...]]:
    """The ``size`` trajectories of each question that ``choice`` takes, all of them where ``size`` is None.

    `InputError` where questions have fewer, or none at all.
    """
    found = by_question(questions, trajectories)
    require(found, size)
    return {
        question.id: tuple(choice(question, own, len(own) if size is None else size))
        for question, own in ((question, found[question.id]) for question in questions)
    }


def by_question(questions: Sequence[Question], trajectories: Sequence[Trajectory]) -> dict[str, list[Trajectory]]:
    """The trajectories of each question, in their order; those of no question are left out."""
    found: dict[str, list[Trajectory]] = {question.id: [] for question in questions}
    for trajectory in trajectories:
        if trajectory.question_id in found:
            found[trajectory.question_id].append(trajectory)
    return found


def require(found: Mapping[str, Sequence[Trajectory]], size: int | None, kind: str = "right ") -> None:
    """`InputError` where questions have fewer than ``size`` trajectories (of this ``kind``), or none at all."""
    least = 1 if size is None else size
    short = {name: len(own) for name, own in found.items() if len(own) < least}
    if short:
        name, count = min(short.items(), key=lambda item: item[1])
        raise InputError(
            f"--support {least}: {len(short)} of {len(found)} questions have fewer {kind}trajectories ({name} has "
            f"{count}); lower it, sample more with rollout, or leave these questions out with --skip-short"
        )


def enough(
    questions: Sequence[Question], trajectories: Sequence[Trajectory], size: int | None
) -> tuple[list[Question], int]:
    """The questions that have a support set of ``size``, and how many others there are; `InputError` where none has."""
    found = by_question(questions, trajectories)
    kept = [question for question in questions if len(found[question.id]) >= (size or 1)]
    if not kept:
        raise InputError("--skip-short: no question has enough right trajectories; lower --support or sample more")
    return kept, len(questions) - len(kept)


def passes(sets: Mapping[str, Sequence[ShownT]], count: int, seed: int) -> Iterator[tuple[str, ShownT]]:
    """Question ids with the trajectory to show, ``count`` passes over all questions, each in an order of its own.

    Pass p shows trajectory (p + a number drawn for the question) mod K, so that the K trajectories come equally often
    and no pass shows every question's first one. What is shown may also be a pair of them, or nothing (None).
    """
    generator = random.Random(f"passes {seed}")
    names = list(sets)
    offsets = {name: generator.randrange(len(sets[name])) for name in names}
    for turn in range(count):
        generator.shuffle(names)
        for name in names:
            own = sets[name]
            yield name, own[(turn + offsets[name]) % len(own)]


def rows_in_order(
    sets: Mapping[str, Sequence[ShownT]], count: int, seed: int, make: Callable[[str, ShownT], RowT]
) -> list[RowT]:
    """The rows of `passes` in their order; ``make`` is called once for each question and what it is shown with."""
    made: dict[tuple[str, ShownT], RowT] = {}
    order = []
    for key in passes(sets, count, seed):
        if key not in made:
            made[key] = make(*key)
        order.append(made[key])
    return order
