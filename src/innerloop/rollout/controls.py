"""Controls: trajectories made to carry no reasoning about their question.

What a real trajectory does to the answer loss counts only beside what these do. Their outcome is ``None``: there is no
final answer to judge.
"""

from __future__ import annotations

import dataclasses
import logging
import random
from collections.abc import Callable, Sequence

from innerloop.schema import Question, Source, Status, Trajectory

log = logging.getLogger("innerloop.rollout")

FILLER = " ."  # what a filler repeats


def other_question(trajectories: Sequence[Trajectory], questions: Sequence[Question], *, seed: int) -> list[Trajectory]:
    """For each trajectory the text of one that belongs to another question, of the same source and mode.

    Which question lends to which is a random derangement over the questions that have trajectories of that source and
    mode: every question lends once and none to itself, and as many as possible borrow from a question with another
    answer. It depends on the set of trajectories and on ``seed``, not on any order. Empty and failed trajectories
    neither lend nor borrow. With fewer than two questions there is no other: none are made, and a warning says so.
    """
    answers = {question.id: question.answer.strip() for question in questions}
    made: dict[str, Trajectory] = {}
    groups: dict[tuple[Source, str], dict[str, list[Trajectory]]] = {}
    for trajectory in sorted(filter(_usable, trajectories), key=lambda t: t.id):
        by_question = groups.setdefault((trajectory.source, trajectory.mode.value), {})
        by_question.setdefault(trajectory.question_id, []).append(trajectory)
    for (source, mode), by_question in groups.items():
        if len(by_question) < 2:
            log.warning(
                "no other-question control for source '%s' (%s): only one question has such trajectories; take at "
                "least two questions",
                source.value,
                mode,
            )
            continue
        lenders = _derangement(sorted(by_question), answers, random.Random(f"{seed}/{source.value}/{mode}"))
        for borrower, own in by_question.items():
            lent = by_question[lenders[borrower]]
            for i, trajectory in enumerate(own):
                lender = lent[i % len(lent)]
                control = _control(trajectory, lender.text, Source.OTHER_QUESTION, seed)
                made[trajectory.id] = dataclasses.replace(control, model=lender.model)
    return [made[t.id] for t in trajectories if t.id in made]


def shuffled(
    trajectories: Sequence[Trajectory],
    encode: Callable[[str], Sequence[int]],
    decode: Callable[[Sequence[int]], str],
    *,
    seed: int,
) -> list[Trajectory]:
    """For each trajectory its own tokens in random order.

    ``token_ids`` holds them: decoding and encoding again would give other tokens, so the probe must read these.
    The order depends on ``seed`` and the trajectory's id alone. Empty and failed trajectories get no control.
    """
    made = []
    for trajectory in filter(_usable, trajectories):
        ids = list(encode(trajectory.text))
        random.Random(f"{seed}/{trajectory.id}").shuffle(ids)
        made.append(_control(trajectory, decode(ids), Source.SHUFFLED, seed, tuple(ids)))
    return made


def filler(
    trajectories: Sequence[Trajectory],
    encode: Callable[[str], Sequence[int]],
    decode: Callable[[Sequence[int]], str],
    *,
    text: str = FILLER,
) -> list[Trajectory]:
    """For each trajectory as many tokens that say nothing: ``text`` over and over, cut to the trajectory's length.

    What these do is owed to the distance and to the computation that more tokens allow, not to anything said.
    ``token_ids`` holds them, so that the count is exact. Empty and failed trajectories get no control.
    """
    pattern = tuple(encode(text))
    if not pattern:
        raise ValueError(f"filler text {text!r} gives no tokens: choose another one, e.g. {FILLER!r}")
    made = []
    for trajectory in filter(_usable, trajectories):
        count = len(encode(trajectory.text))
        ids = (pattern * (count // len(pattern) + 1))[:count]
        made.append(_control(trajectory, decode(ids), Source.FILLER, None, ids))
    return made


def _usable(trajectory: Trajectory) -> bool:
    if trajectory.source.is_control or trajectory.status is Status.ERROR:
        return False
    return bool(trajectory.text.strip())


def _control(
    trajectory: Trajectory, text: str, source: Source, seed: int | None, ids: tuple[int, ...] | None = None
) -> Trajectory:
    """Only what is true of the control is taken over: it has no final part, no outcome, no log-probability."""
    return Trajectory(
        id=f"{trajectory.id}/{source.value}",
        question_id=trajectory.question_id,
        text=text,
        source=source,
        mode=trajectory.mode,
        sample=trajectory.sample,
        model=trajectory.model,
        token_ids=ids,
        tokens=len(ids) if ids is not None else None,
        seed=seed,
    )


def _derangement(names: Sequence[str], answers: dict[str, str], rng: random.Random) -> dict[str, str]:
    """A lender for each name, itself never, and with an equal answer only where that cannot be avoided.

    Names with equal answers stand side by side on a circle, and everybody borrows from the one that stands as many
    places on as the largest such group is long: no group reaches its own members, unless it is more than half of all.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(answers.get(name, ""), []).append(name)
    order = list(groups.values())
    rng.shuffle(order)
    for group in order:
        rng.shuffle(group)
    circle = [name for group in order for name in group]
    reach = max(map(len, order))
    if reach == len(circle):
        reach = rng.randrange(1, len(circle))
    return {name: circle[(i + reach) % len(circle)] for i, name in enumerate(circle)}
