r"""Verifier ``math``: the same mathematical value as the reference.

Both are read into typed values and compared by kind (`innerloop.evaluate.verify.values`). What takes whole numbers,
fractions or words only is decided here, in microseconds. Formulas with letters, roots and functions are computed in a
worker process, which has limits of time and memory. What our reader does not know (integrals, limits) goes to
math-verify, as the last resort (`algebra`); where that cannot read the reference either, the answer is undecided.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from innerloop.boxed import last_boxed
from innerloop.evaluate.verify.job import Job, Reply
from innerloop.evaluate.verify.values import Several, TooLarge, Unread, equal, is_light, needs_last_resort, read
from innerloop.schema import Outcome, Question, Verdict

SEVERAL = "the final answer states two values"
_UNREAD = "the final answer is no value"
_ALGEBRA = "innerloop.evaluate.verify.algebra"


def judge(question: Question, answer: str) -> Verdict | Job:
    """A verdict where no algebra is needed, else the job for a worker."""
    text = last_boxed(question.answer) or question.answer
    reference, given = read(text), read(answer)
    if given == reference:
        return Verdict(outcome=Outcome.RIGHT, answer=answer)
    if isinstance(given, Several):
        return Verdict(outcome=Outcome.WRONG, reason=SEVERAL, answer=answer)
    payload: dict[str, Any] = {"reference": text, "answer": answer}
    if isinstance(reference, Unread) or needs_last_resort(given):
        return Job(module=_ALGEBRA, answer=answer, payload=payload)
    if isinstance(given, Unread):
        return Verdict(outcome=Outcome.WRONG, reason=_UNREAD, answer=answer)
    if is_light(given) and is_light(reference):
        return Verdict(outcome=Outcome.RIGHT if equal(given, reference) else Outcome.WRONG, answer=answer)
    return Job(module=__name__, answer=answer, payload=payload)


def prepare() -> None:
    """Imports what ``run`` needs, before the item's time begins."""
    _warm()


@lru_cache
def _warm() -> None:
    run({"reference": r"\frac{1}{2} x + \sqrt{2}", "answer": r"\sqrt{2} + x/2"})


def run(payload: dict[str, Any]) -> Reply:
    """In the worker: the comparison itself."""
    try:
        right = equal(read(payload["answer"]), read(payload["reference"]))
    except TooLarge as error:  # what is beyond computing is not the reference, which was written down as an answer
        return Reply(outcome="wrong", reason=f"numbers too large to compare ({error})")
    return Reply(outcome="right" if right else "wrong")
