"""Verifier ``text``: the final answer is the reference, whatever the case, the white space and LaTeX wrappers.

A text without a final answer is right where all of it is the reference: a model may say ``New York`` and nothing else.
"""

from __future__ import annotations

from innerloop.evaluate.verify.plain import folded
from innerloop.schema import Outcome, Question, Verdict


def same(question: Question, answer: str) -> bool:
    """Whether both are the same text."""
    return folded(answer) == folded(question.answer)


def judge(question: Question, answer: str) -> Verdict:
    """Right where both are the same text; wrong otherwise."""
    return Verdict(outcome=Outcome.RIGHT if same(question, answer) else Outcome.WRONG, answer=answer)
