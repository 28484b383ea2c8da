"""Right against wrong trajectories of the same question: what preference optimisation learns from (RaML table 1)."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from innerloop.errors import InputError
from innerloop.outer.rows import Weights, own_row
from innerloop.outer.rows import make_row as right_row
from innerloop.schema import Mode, Outcome, Question, Source, Trajectory

if TYPE_CHECKING:
    from innerloop.speaker import Speaker


@dataclass(frozen=True)
class Pair:
    """Two trajectories behind the same prompt: one led to the right answer, one to a wrong one."""

    right: Trajectory
    wrong: Trajectory


@dataclass(frozen=True)
class PairSets:
    """The pairs by question, and how many questions have none: for want of a right or of a wrong trajectory.

    ``short`` questions have pairs, but fewer than were asked for. ``undecided`` trajectories have no verdict.
    """

    sets: dict[str, tuple[Pair, ...]]
    no_right: int
    no_wrong: int
    short: int
    undecided: int


def pair_sets(
    questions: Sequence[Question], trajectories: Sequence[Trajectory], size: int | None, seed: int, *, shown: int
) -> PairSets:
    """The first ``size`` pairs of each question in the order of `paired`, all of them where ``size`` is None.

    No more than ``shown`` of them are kept, the number of passes: the others would never have their turn.
    The trajectories carry their verdicts; a question's own worked solution counts as right. `InputError` where no
    question has a pair.
    """
    rights: dict[str, list[Trajectory]] = {question.id: [] for question in questions}
    wrongs: dict[str, list[Trajectory]] = {question.id: [] for question in questions}
    undecided = 0
    for trajectory in trajectories:
        right = trajectory.outcome is Outcome.RIGHT or trajectory.source is Source.SOLUTION
        if trajectory.question_id not in rights:
            continue
        if right or trajectory.outcome is Outcome.WRONG:
            (rights if right else wrongs)[trajectory.question_id].append(trajectory)
        else:
            undecided += 1
    sets = {name: tuple(islice(paired(name, rights[name], wrongs[name], seed), size or shown)) for name in rights}
    found = PairSets(
        sets={name: own[:shown] for name, own in sets.items() if own},
        no_right=sum(not rights[name] for name in rights),
        no_wrong=sum(not wrongs[name] for name in rights if rights[name]),
        short=sum(0 < len(own) < (size or 1) for own in sets.values()),
        undecided=undecided,
    )
    if not found.sets:
        raise InputError(
            f"none of the {len(questions)} questions has both a right and a wrong trajectory ({found.no_right} have no "
            f"right one, {found.no_wrong} no wrong one, {undecided} trajectories have no verdict): sample more of them "
            "with rollout, or give files with both"
        )
    return found


def paired(name: str, rights: Sequence[Trajectory], wrongs: Sequence[Trajectory], seed: int) -> Iterator[Pair]:
    """Every right with every wrong trajectory that followed the same kind of prompt, each pair once.

    The first pairs use each trajectory as evenly as can be: with R right and W wrong ones, pair k takes the right one
    k mod R and the wrong one (k + ⌊k / lcm(R, W)⌋ mod W), both in an order drawn from the seed and the question.
    """
    generator = random.Random(f"pairs {seed} {name}")
    for mode in Mode:
        own, others = (
            sorted((trajectory for trajectory in side if trajectory.mode is mode), key=lambda found: found.id)
            for side in (rights, wrongs)
        )
        generator.shuffle(own)
        generator.shuffle(others)
        together = math.lcm(len(own), len(others)) or 1
        for k in range(len(own) * len(others)):
            yield Pair(own[k % len(own)], others[(k + k // together) % len(others)])


@dataclass(frozen=True)
class PairRow:
    """A pair in tokens: the prompt, and what the right and the wrong trajectory go on with."""

    question_id: str
    prompt: tuple[int, ...]
    right: tuple[int, ...]
    wrong: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt) + max(len(self.right), len(self.wrong))


def pair_row(speaker: Speaker, question: Question, pair: Pair) -> PairRow:
    """Each made as a row of `innerloop.outer.rows`; the wrong one ends in its own answer, where it came to one.

    `InputError` where the two are the same.
    """
    right = right_row(speaker, question, pair.right, Weights())
    wrong = own_row(speaker, question, pair.wrong, Weights())
    if right.input_ids == wrong.input_ids:
        raise InputError(
            f"question {question.id!r}: the trajectories {pair.right.id!r} and {pair.wrong.id!r} say the same, and one "
            "is called right, the other wrong; mend their field correct"
        )
    asked = right.weights.count(0.0)
    return PairRow(question.id, right.input_ids[:asked], right.input_ids[asked:], wrong.input_ids[asked:])
