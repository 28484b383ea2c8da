"""Trajectories that an oracle derives: ``oracle?style=short&per_question=2``.

``style`` is ``short`` (where none is given), ``long``, ``corrected`` or ``wrong``, several with commas; ``method``
names the methods to take, several with commas; ``per_question=K`` takes K of a question's trajectories, drawn from the
seed, and is an error where there are fewer. Without it all are taken, and questions without any are skipped and
counted.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from innerloop.errors import InputError
from innerloop.nearest import nearest
from innerloop.questions.oracles import Oracle, Style, Trace, oracle_of
from innerloop.schema import Outcome, Question, Source, Trajectory
from innerloop.speaker import SUFFIX

log = logging.getLogger("innerloop.rollout")

ORACLE = "oracle"
_PARAMETERS = ("style", "method", "per_question")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which of an oracle's trajectories are taken: all ``methods`` where none is named, all traces without a number."""

    styles: tuple[Style, ...] = (Style.SHORT,)
    methods: tuple[str, ...] = ()
    per_question: int | None = None


def is_oracle(source: str) -> bool:
    """Whether a source of trajectories is an oracle."""
    return source.partition("?")[0] == ORACLE


def parse(source: str) -> Choice:
    """What ``oracle?…`` asks for. ``InputError`` names the parameter that is wrong."""
    pairs = [part.partition("=") for part in source.partition("?")[2].split("&") if part]
    for name, _, value in pairs:
        if name not in _PARAMETERS:
            raise InputError(
                f"{source}: no parameter '{name}' (it has {', '.join(_PARAMETERS)}){nearest(name, _PARAMETERS)}"
            )
        if not value:
            raise InputError(f"{source}: {name} has no value; write e.g. oracle?style=long&per_question=2")
    values = {name: value for name, _, value in pairs}
    styles = values.get("style", Style.SHORT).split(",")
    for style in styles:
        if style not in list(Style):
            raise InputError(f"{source}: no style '{style}' (there are {', '.join(Style)}){nearest(style, Style)}")
    count = values.get("per_question")
    if count is not None and not (count.isascii() and count.isdigit() and int(count) > 0):
        raise InputError(f"{source}: per_question is '{count}'; give a number of trajectories from 1 up")
    return Choice(
        styles=tuple(dict.fromkeys(map(Style, styles))),
        methods=tuple(dict.fromkeys(values["method"].split(","))) if "method" in values else (),
        per_question=int(count) if count else None,
    )


def from_oracle(source: str, questions: Sequence[Question], *, seed: int) -> list[Trajectory]:
    """The trajectories ``QUESTION/oracle-METHOD-STYLE-0``, question by question.

    All of them are right but those of the wrong style, on whose answers the verifier has the word.

    The first ones of a question take different methods; other styles of the same methods come after them.
    ``InputError`` for questions without an oracle, for methods that no question's oracle has, and where a question
    falls short of ``per_question``.
    """
    choice = parse(source)
    _check_methods(source, choice, [oracle_of(question) for question in questions])
    found: dict[str, list[Trajectory]] = {}
    for question in questions:
        offered = _offered(question, choice, seed)
        taken = offered[: choice.per_question]
        found[question.id] = [_trajectory(question, trace, number) for number, trace in enumerate(taken)]
    wanted = choice.per_question or 1
    short = [question_id for question_id, own in found.items() if len(own) < wanted]
    if short and (choice.per_question is not None or len(short) == len(questions)):
        fewest = min(map(len, found.values()))
        raise InputError(
            f"{source}: {len(short)} of {len(questions)} questions have fewer than {wanted} such trajectories (the "
            f"least is {fewest}, e.g. for '{short[0]}'); ask for fewer, or add styles: {', '.join(Style)}"
        )
    if short:
        log.info("%s: %d of %d questions have no such trajectory and are skipped", source, len(short), len(questions))
    return [trajectory for own in found.values() for trajectory in own]


def _check_methods(source: str, choice: Choice, oracles: Sequence[Oracle[object]]) -> None:
    known = dict.fromkeys(method for oracle in oracles for method in oracle.methods)
    for method in choice.methods:
        if method not in known:
            raise InputError(f"{source}: no method '{method}' (there are {', '.join(known)}){nearest(method, known)}")


def _offered(question: Question, choice: Choice, seed: int) -> list[Trace]:
    oracle, methods = oracle_of(question), choice.methods or None
    return [
        trace for style in choice.styles for trace in oracle.traces(question, style=style, seed=seed, methods=methods)
    ]


def _trajectory(question: Question, trace: Trace, number: int) -> Trajectory:
    return Trajectory(
        id=f"{question.id}/{ORACLE}-{trace.method}-{trace.style}-0",
        question_id=question.id,
        text=trace.text,
        source=Source.ORACLE,
        sample=number,
        final=f"{trace.text}{SUFFIX}{trace.answer}}}",
        answer=trace.answer,
        outcome=None if trace.style is Style.WRONG else Outcome.RIGHT,
    )
