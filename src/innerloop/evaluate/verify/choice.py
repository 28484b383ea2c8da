"""Verifier ``choice``: the letter of an option, as ``B``, ``(b)``, ``B. Paris`` or ``option B``."""

from __future__ import annotations

import re

from innerloop.evaluate.verify.plain import plain
from innerloop.schema import Outcome, Question, Verdict

_ALONE = re.compile(r"[(\[]?([A-Za-z])[)\].:]?")
_FIRST = re.compile(r"[(\[]?([A-Z])[)\].:]\s*\S|\(([A-Za-z])\)")
_NAMED = re.compile(r"(?:option|choice|answer)\s*[(\[]?([A-Z])[)\]]?", re.IGNORECASE)
_BETWEEN = r"(?:[;&/|=≈→⇒]|[-=]>|\\[a-z]++|\b(?:or|to|vs|not|then|rather)\b)"
_HEDGE = r"(?:(?:maybe|perhaps|possibly|probably|even|option|choice|answer)\s++){0,3}"
_SEVERAL = re.compile(
    rf"[(\[]?[A-Za-z][)\]]?(?:\s*+(?:,|and|or|{_BETWEEN})\s*+[(\[]?[A-Za-z][)\]]?)++[.:]?"
    r"|(?:[(\[][A-Za-z][)\]]\s*+){2,}",
    re.IGNORECASE,
)
# a second label, written as the first one, further on: "(A) Paris or (B) London"; a letter in an option's text is none
_SECOND = re.compile(
    rf"(?:,|{_BETWEEN})\s*+{_HEDGE}[(\[]?([A-Z])[)\]]|{_BETWEEN}\s*+{_HEDGE}([A-Z])[.:](?!\w)"
    r"|(?:[≈→⇒]|[-=]>|\\[a-z]++)\s*+([A-Z])$"
)


def letter(text: str) -> str | None:
    """The upper-case letter that an answer names; None where it names none or several."""
    text = plain(text).strip("*_ \n.")
    if _SEVERAL.fullmatch(text):
        return None
    match = _ALONE.fullmatch(text) or _FIRST.match(text) or _NAMED.fullmatch(text)
    if match is None:
        return None
    first = str(next(filter(None, match.groups()))).upper()
    others = {next(filter(None, second.groups())) for second in _SECOND.finditer(text, 1)}
    return None if others - {first} else first


def judge(question: Question, answer: str) -> Verdict:
    """Right where the letters agree; undecided where the reference is no letter."""
    reference, given = letter(question.answer), letter(answer)
    if reference is None:
        reason = f"the reference answer '{question.answer[:40]}' is no single letter"
        return Verdict(outcome=Outcome.UNDECIDED, reason=reason, answer=answer)
    if given is None:
        return Verdict(outcome=Outcome.WRONG, reason="the final answer is no single letter", answer=answer)
    return Verdict(outcome=Outcome.RIGHT if given == reference else Outcome.WRONG, answer=answer)
