"""Verifier ``choice``: the letter of an option, as ``B``, ``(b)``, ``B. Paris`` or ``option B``."""

from __future__ import annotations

import re

from innerloop.evaluate.verify.plain import plain
from innerloop.schema import Outcome, Question, Verdict

_ALONE = re.compile(r"[(\[]?([A-Za-z])[)\].:]?")
_FIRST = re.compile(r"[(\[]?([A-Z])[)\].:]\s*\S|\(([A-Za-z])\)")
_NAMED = re.compile(r"(?:option|choice|answer)\s*[(\[]?([A-Z])[)\]]?", re.IGNORECASE)


def letter(text: str) -> str | None:
    """The upper-case letter that an answer names; None where it names none or several."""
    text = plain(text).strip("*_ \n.")
    if re.fullmatch(r"[(\[]?[A-Za-z][)\]]?(?:\s*(?:,|&|and|or)\s*[(\[]?[A-Za-z][)\]]?)+", text):
        return None
    for match in (_ALONE.fullmatch(text), _FIRST.match(text), _NAMED.fullmatch(text)):
        if match is not None:
            return next(group for group in match.groups() if group).upper()
    return None


def judge(question: Question, answer: str) -> Verdict:
    """Right where the letters agree; undecided where the reference is no letter."""
    reference, given = letter(question.answer), letter(answer)
    if reference is None:
        reason = f"the reference answer '{question.answer[:40]}' is no single letter"
        return Verdict(outcome=Outcome.UNDECIDED, reason=reason, answer=answer)
    if given is None:
        return Verdict(outcome=Outcome.WRONG, reason="the final answer is no single letter", answer=answer)
    return Verdict(outcome=Outcome.RIGHT if given == reference else Outcome.WRONG, answer=answer)
