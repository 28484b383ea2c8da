"""Before anything is trained: can the reward tell a right answer from a wrong, a truncated and an empty one?

A reward that cannot (a verifier that fails, an answer format that it does not read) trains nothing, or the wrong thing,
and shows that only after hours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from innerloop.errors import InputError

KINDS = ("right", "wrong", "unfinished", "truncated", "empty")
_ARTICLES = {kind: f"{'an' if kind[0] in 'ue' else 'a'} {kind}" for kind in KINDS}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A made-up rollout of a question. ``complete``: it ended by itself."""

    question_id: str
    kind: str
    text: str
    complete: bool


def cases(question_id: str, right: str, wrong: str, reasoning: str, unfinished: str) -> list[Case]:
    """The rollouts of one question; ``unfinished`` has the answer inside a thinking part that never ends."""
    texts = {
        "right": right,
        "wrong": wrong,
        "unfinished": unfinished,
        "truncated": reasoning[: max(1, len(reasoning) // 2)],
        "empty": "",
    }
    return [
        Case(question_id=question_id, kind=kind, text=text, complete=kind != "truncated")
        for kind, text in texts.items()
    ]


def audit(found: Sequence[Case], reward: Callable[[Sequence[Case]], Sequence[float | None]]) -> dict[str, float]:
    """The mean reward of each kind. `InputError` where a right answer does not earn most, question by question."""
    earned = reward(found)
    by_kind: dict[str, list[float]] = {kind: [] for kind in KINDS}
    best = {case.question_id: value for case, value in zip(found, earned, strict=True) if case.kind == "right"}
    for case, value in zip(found, earned, strict=True):
        if value is None or best[case.question_id] is None:
            raise InputError(
                f"reward audit: the {case.kind} answer to question {case.question_id} could not be judged; "
                "check its verifier and reference answer"
            )
        by_kind[case.kind].append(value)
        if case.kind != "right" and not value < best[case.question_id]:  # type: ignore[operator]  # not None by now
            raise InputError(
                f"reward audit: for question {case.question_id} {_ARTICLES[case.kind]} answer earns {value:g}, the "
                f"right one {best[case.question_id]:g}; the reward could not teach it: check the verifier, the "
                "reference answer and the answer's format"
            )
    return {kind: math.fsum(values) / len(values) for kind, values in by_kind.items() if values}
