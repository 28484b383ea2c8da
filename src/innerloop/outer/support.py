"""The support sets T_q (RaML eq. 8): which trajectories stand for each question, and in which order they are passed.

The number of passes over the questions does not depend on how many trajectories a question has: with K trajectories a
pass shows one of them, the next pass the next one. So runs with different K see every question equally often, as in
the paper's comparison of 1 to 32 trajectories per question (RaML section 3.2, appendix C.2).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence

from innerloop.errors import InputError
from innerloop.schema import Question, Trajectory

#: The trajectories of one question in the order in which they are wanted.
Order = Callable[[Question, Sequence[Trajectory]], Sequence[Trajectory]]


def support_sets(
    questions: Sequence[Question], trajectories: Sequence[Trajectory], size: int | None, order: Order
) -> dict[str, tuple[Trajectory, ...]]:
    """The first ``size`` trajectories of each question in ``order``, all of them where ``size`` is None.

    `InputError` where questions have fewer, or none at all.
    """
    found: dict[str, list[Trajectory]] = {question.id: [] for question in questions}
    for trajectory in trajectories:
        if trajectory.question_id in found:
            found[trajectory.question_id].append(trajectory)
    least = 1 if size is None else size
    short = {name: len(own) for name, own in found.items() if len(own) < least}
    if short:
        name, count = min(short.items(), key=lambda item: item[1])
        raise InputError(
            f"--support {least}: {len(short)} of {len(found)} questions have fewer right trajectories ({name} has "
            f"{count}); lower it, sample more with rollout, or leave these questions out with --skip-short"
        )
    return {question.id: tuple(order(question, found[question.id])[:size]) for question in questions}


def enough(
    questions: Sequence[Question], trajectories: Sequence[Trajectory], size: int | None
) -> tuple[list[Question], int]:
    """The questions that have a support set of ``size``, and how many others there are."""
    counts: dict[str, int] = {}
    for trajectory in trajectories:
        counts[trajectory.question_id] = counts.get(trajectory.question_id, 0) + 1
    kept = [question for question in questions if counts.get(question.id, 0) >= (size or 1)]
    return kept, len(questions) - len(kept)


def passes(
    sets: Mapping[str, Sequence[Trajectory | None]], count: int, seed: int
) -> Iterator[tuple[str, Trajectory | None]]:
    """Question ids with the trajectory to show, ``count`` passes over all questions, each in an order of its own.

    Pass p shows trajectory (p + a number drawn for the question) mod K, so that the K trajectories come equally often
    and no pass shows every question's first one.
    """
    generator = random.Random(f"passes {seed}")
    names = list(sets)
    offsets = {name: generator.randrange(len(sets[name])) for name in names}
    for turn in range(count):
        generator.shuffle(names)
        for name in names:
            own = sets[name]
            yield name, own[(turn + offsets[name]) % len(own)]
