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

#: The questions of each source, by their ids, with the source's weight.
Mix = Sequence[tuple[Sequence[str], float]]

#: So many of a question's trajectories, of which there are no fewer.
Choice = Callable[[Question, Sequence[Trajectory], int], Sequence[Trajectory]]


def support_sets(
    questions: Sequence[Question],
    trajectories: Sequence[Trajectory],
    size: int | None,
    choice: Choice,
    *,
    at_most: bool = False,
) -> dict[str, tuple[Trajectory, ...]]:
    """The ``size`` trajectories of each question that ``choice`` takes, all of them where ``size`` is None.

    `InputError` where questions have fewer, or none at all; ``at_most`` takes what there is of a question with fewer.
    """
    found = by_question(questions, trajectories)
    require(found, None if at_most else size)
    return {
        question.id: tuple(choice(question, own, len(own) if size is None else min(size, len(own))))
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


def passes(
    sets: Mapping[str, Sequence[ShownT]],
    count: int,
    seed: int,
    *,
    often: Mapping[str, int] | None = None,
    mix: Mix | None = None,
) -> Iterator[tuple[str, ShownT]]:
    """Question ids with the trajectory to show, ``count`` passes over all questions, each in an order of its own.

    A question's trajectories are shown in turn, beginning with the one of a number drawn for it, so that they come
    equally often and no pass shows every question's first one. What is shown may also be a pair of them, or
    nothing (None). ``often`` says how often a pass shows a question, by default once. With a ``mix`` a pass is as long
    as without, and each source has the share of it that its weight is of all; its questions take turns over the passes.
    """
    generator = random.Random(f"passes {seed}")
    offsets = {name: generator.randrange(len(sets[name])) for name in sets}
    for lineup in _lineups(list(sets), count, generator, often or {}, mix):
        for name in lineup:
            own = sets[name]
            yield name, own[offsets[name] % len(own)]
            offsets[name] += 1


def _lineups(
    names: Sequence[str], count: int, generator: random.Random, often: Mapping[str, int], mix: Mix | None
) -> Iterator[list[str]]:
    """The questions of each pass."""
    lineup = [name for name in names for _ in range(often.get(name, 1))]
    if mix is None:
        for _ in range(count):
            generator.shuffle(lineup)
            yield lineup
        return
    own = [[name for name in group for _ in range(often.get(name, 1))] for group, _ in mix]
    queues = [_in_turn(group, generator) for group in own]
    quotas = _quotas(len(lineup), [weight for _, weight in mix])
    for _ in range(count):
        taken = [next(queue) for queue, quota in zip(queues, quotas, strict=True) for _ in range(quota)]
        generator.shuffle(taken)
        yield taken


def _in_turn(names: Sequence[str], generator: random.Random) -> Iterator[str]:
    """The names over and over, each time in another order."""
    order = list(names)
    while True:
        generator.shuffle(order)
        yield from order


def _quotas(total: int, weights: Sequence[float]) -> list[int]:
    """The whole numbers in the weights' proportion that add up to the total (largest remainders)."""
    exact = [total * weight / sum(weights) for weight in weights]
    found = [int(value) for value in exact]
    rest = sorted(range(len(weights)), key=lambda i: found[i] - exact[i])
    for i in rest[: total - sum(found)]:
        found[i] += 1
    return found


def rows_in_order(
    sets: Mapping[str, Sequence[ShownT]],
    count: int,
    seed: int,
    make: Callable[[str, ShownT], RowT],
    *,
    often: Mapping[str, int] | None = None,
    mix: Mix | None = None,
) -> list[RowT]:
    """The rows of `passes` in their order; ``make`` is called once for each question and what it is shown with."""
    made: dict[tuple[str, ShownT], RowT] = {}
    order = []
    for key in passes(sets, count, seed, often=often, mix=mix):
        if key not in made:
            made[key] = make(*key)
        order.append(made[key])
    return order
