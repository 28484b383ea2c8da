"""What an oracle is: methods that derive the answer of a family's question step by step, and styles to write them in.

A method reads what the question says, never what its answer is, and ends in a result. That result is compared with
the question's own answer: an oracle never re-implements how a family makes or judges answers, and a derivation that
ends elsewhere is an error, not a trajectory.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from innerloop.errors import InputError
from innerloop.schema import Question

PREFIX = "gym:"
WAIT = "Wait, that is wrong: "
LONGEST = 4000  # characters of a question; the families' own stay far below
MOST_STEPS = 60  # a method that needs more on some question is not offered for it

TaskT = TypeVar("TaskT")


class Style(StrEnum):
    """How a derivation is written down."""

    SHORT = "short"  # the bare steps
    LONG = "long"  # a sentence for each step
    CORRECTED = "corrected"  # the bare steps, one of them wrong at first, noticed and put right
    WRONG = "wrong"  # the bare steps, the last of them wrong, and nobody notices


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step. ``slips`` are bare lines that somebody might write here by mistake: all of them false.

    An empty ``short`` is a remark that only the long style makes.
    """

    short: str
    long: str
    slips: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Derivation:
    """The steps to a result, which is written as the family writes its answers."""

    steps: Sequence[Step]
    result: str


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One trajectory of an oracle: ``text`` is the reasoning, without the boxed answer behind it.

    ``answer`` is what it ends in: the question's, but for the wrong style.
    """

    method: str
    style: Style
    text: str
    answer: str


Method = Callable[[TaskT], Derivation | None]  # None: the method is no way to this question, or too long a one


@dataclass(frozen=True, kw_only=True)
class Oracle(Generic[TaskT]):
    """The tracers of one family.

    ``read`` takes the task from the question (``None`` where it cannot). ``methods`` are truly different ways to the
    answer, by name. ``joint`` stands between the steps of the bare styles.
    """

    family: str
    read: Callable[[Question], TaskT | None]
    methods: Mapping[str, Method[TaskT]]
    joint: str = "\n"

    def traces(
        self,
        question: Question,
        *,
        style: Style | str = Style.SHORT,
        seed: int = 0,
        methods: Collection[str] | None = None,
    ) -> list[Trace]:
        """One trace per method (of ``methods``) that leads to this question's answer, in an order drawn for it.

        The same for the same question, style and seed. Where two methods take the same steps, the first of them
        stands for both; the corrected style leaves out methods without a step in which one could err, the wrong style
        those in whose last step one cannot err in the answer. ``InputError`` where a derivation does not end in the
        question's answer.
        """
        style = Style(style)
        names = sorted(name for name in self.methods if methods is None or name in methods)
        random.Random(f"{seed}/{question.id}").shuffle(names)
        try:
            task = self.read(question) if len(question.question) <= LONGEST else None
        except (ValueError, ArithmeticError):  # numbers that no family writes
            return []
        if task is None:
            return []
        taken: set[tuple[str, ...]] = set()
        found: list[Trace] = []
        for name in names:
            derivation = self.methods[name](task)
            if derivation is None or len(derivation.steps) > MOST_STEPS:
                continue
            bare = tuple(step.short for step in derivation.steps if step.short)
            if bare and bare in taken:
                continue
            taken.add(bare)
            if derivation.result != question.answer:
                raise InputError(
                    f"question '{question.id}': the oracle's method '{name}' ends in {derivation.result[:40]!r}, but "
                    f"the answer is {question.answer[:40]!r}; load the question from {PREFIX}{self.family} again"
                )
            steps, answer = derivation.steps, question.answer
            rng = random.Random(f"{seed}/{question.id}/{name}")
            if style is Style.WRONG:
                steps, answer = slipped(derivation, rng)
            text = write(steps, style, joint=self.joint, rng=rng)
            if text:
                found.append(Trace(method=name, style=style, text=text, answer=answer))
        return found


def slipped(derivation: Derivation, rng: random.Random) -> tuple[Sequence[Step], str]:
    """The bare steps with a slip in the last one, and the wrong answer that it ends in; nothing where there is none.

    That is a slip which says the same as the step but for the result at its end.
    """
    steps = [step for step in derivation.steps if step.short]
    last = steps[-1] if steps else None
    if last is None or not last.short.endswith(derivation.result):
        return (), ""
    said = last.short[: len(last.short) - len(derivation.result)]
    ends = [slip.removeprefix(said) for slip in last.slips if slip.startswith(said)]
    wrong = [end for end in ends if end.strip() and end != derivation.result]
    if not wrong:
        return (), ""
    answer = rng.choice(wrong)
    return [*steps[:-1], Step(short=said + answer, long="")], answer


def write(steps: Sequence[Step], style: Style, *, joint: str, rng: random.Random) -> str | None:
    """The steps in a style; None or nothing where it has nothing to say (no step that could go wrong)."""
    if style is Style.LONG:
        return "\n".join(step.long for step in steps)
    lines = [step.short for step in steps if step.short]
    if style in (Style.SHORT, Style.WRONG):
        return joint.join(lines)
    places = [step for step in steps if step.short and step.slips]
    if not places:
        return None
    chosen = rng.choice(places)
    slip = rng.choice(chosen.slips)
    written: list[str] = []
    for step in steps:
        if step.short:
            written += [slip, WAIT + step.short] if step is chosen else [step.short]
    return joint.join(written)


def fold(first: int, others: Sequence[int], step: Callable[[int, int], tuple[Sequence[Step], int]]) -> Derivation:
    """Derive for many numbers by a way for two: the result so far with the next number, to the last one."""
    steps: list[Step] = []
    for other in others:
        own, first = step(first, other)
        steps += own
    return Derivation(steps=steps, result=str(first))
