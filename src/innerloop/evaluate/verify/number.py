"""Verifier ``number``: one number, whatever its commas, currency, percent sign and unit.

The rules are those of `innerloop.evaluate.verify.reading`; an answer that states two numbers (`hedge`) is wrong.
"""

from __future__ import annotations

from innerloop.evaluate.verify import hedge
from innerloop.evaluate.verify.reading import equal, read, sole
from innerloop.schema import Outcome, Question, Verdict


def judge(question: Question, answer: str) -> Verdict:
    """Right where the numbers are equal; undecided where the reference is no number."""
    reference = read(question.answer, short_units=True)
    given = read(answer, short_units=True) or sole(answer)
    if reference is None:
        reason = f"the reference answer '{question.answer[:40]}' is no single number"
        return Verdict(outcome=Outcome.UNDECIDED, reason=reason, answer=answer)
    if given is None:
        return Verdict(outcome=Outcome.WRONG, reason="the final answer is no single number", answer=answer)
    right = equal(given, reference)
    if right and hedge.single(question.answer) and hedge.stated(answer).differ:
        return Verdict(outcome=Outcome.WRONG, reason=hedge.REASON, answer=answer)
    return Verdict(outcome=Outcome.RIGHT if right else Outcome.WRONG, answer=answer)
