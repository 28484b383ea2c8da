"""Verifier ``none``: for questions whose answers cannot be judged (no single right answer, a missing premise)."""

from __future__ import annotations

from innerloop.schema import Outcome, Question, Verdict


def judge(question: Question, answer: str) -> Verdict:  # noqa: ARG001  # every verifier is called so
    """Always undecided."""
    return Verdict(outcome=Outcome.UNDECIDED, reason="the question has no reference to judge by", answer=answer)
