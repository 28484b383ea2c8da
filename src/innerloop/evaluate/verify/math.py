"""Verifier ``math``: the same mathematical value as the reference, judged by math-verify.

What needs no algebra is decided here, in microseconds: the same text, plain words (math-verify would read them as
products of letters, so that ``silent`` equals ``listen``), plain numbers with or without a unit, and a sentence given
as the answer that holds just the right number (``Anne is 8 years old``). The rest goes to a worker process, because
nothing but a kill stops sympy once it hangs. math-verify wants the reference first; its own time limits are off,
because they need a main thread and signals.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

from innerloop.boxed import last_boxed
from innerloop.evaluate.verify import hedge
from innerloop.evaluate.verify.job import Job, Reply
from innerloop.evaluate.verify.plain import folded, plain
from innerloop.evaluate.verify.reading import Number, agree, read, sole
from innerloop.schema import Outcome, Question, Verdict

_INTEGER = re.compile(r"[-+]?\d+")
_WORDS = re.compile(r"[^\W\d_]{2,}(?:[\s'-]+[^\W\d_]+)*")


def judge(question: Question, answer: str) -> Verdict | Job:
    """A verdict where no algebra is needed, else the job for a worker."""
    reference = last_boxed(question.answer) or question.answer
    if folded(answer) == folded(reference):
        return Verdict(outcome=Outcome.RIGHT, answer=answer)
    here, there = plain(answer), plain(reference)
    if _WORDS.fullmatch(here) and _WORDS.fullmatch(there):
        return Verdict(outcome=Outcome.WRONG, answer=answer)
    if _INTEGER.fullmatch(here) and _INTEGER.fullmatch(there):
        return Verdict(outcome=Outcome.RIGHT if _digits(here) == _digits(there) else Outcome.WRONG, answer=answer)
    stated = hedge.stated(answer)
    stated = stated if len(stated.values) > 1 and hedge.single(reference) else hedge.Stated(values=(), rounded=False)
    if stated.differ:
        return Verdict(outcome=Outcome.WRONG, reason=hedge.REASON, answer=answer)
    if _same_number(reference, answer) and not stated.formulas:
        return Verdict(outcome=Outcome.RIGHT, answer=answer)
    payload: dict[str, Any] = {"reference": reference, "answer": answer}
    if stated.converted:
        payload["answer"] = stated.values[-1].text
    if stated.formulas:
        payload |= {"stated": [value.text for value in stated.values], "rounded": stated.rounded}
    return Job(module=__name__, answer=answer, payload=payload)


def _same_number(reference: str, answer: str) -> bool:
    """Whether both are the same plain number."""
    given, expected = read(answer), read(reference)
    if expected and given is None:
        given = sole(answer)
    return bool(given and expected and given.value == expected.value and given.percent == expected.percent)


def _digits(integer: str) -> str:
    """Sign and digits without leading zeros; as text, because Python refuses to read very long ones."""
    digits = integer.lstrip("+-0")
    return f"-{digits}" if digits and integer.startswith("-") else digits


def prepare() -> None:
    """Imports what ``run`` needs, before the item's time begins; the first formula takes sympy longer than others."""
    _warm()


@lru_cache
def _warm() -> None:
    run({"reference": r"\frac{1}{2} x + \sqrt{2}", "answer": r"\sqrt{2} + x/2"})


def run(payload: dict[str, Any]) -> Reply:
    """In the worker: the comparison itself. Raises whatever math-verify and sympy raise."""
    from math_verify import verify

    values = [_evaluated(text) for text in payload.get("stated", ())]
    known = [value for value in values if value is not None]
    if not all(agree(known[0], value, rounded=payload["rounded"]) for value in known):
        return Reply(outcome="wrong", reason=hedge.REASON)
    if values and _same_number(payload["reference"], payload["answer"]):
        return Reply(outcome="right")
    reference, answer = _parsed(payload["reference"]), _parsed(payload["answer"])
    if not reference:
        return Reply(outcome="undecided", reason="math-verify cannot read the reference answer")
    same = bool(answer) and verify(reference, answer, timeout_seconds=None, raise_on_error=True)
    return Reply(outcome="right" if same else "wrong")


def _parsed(text: str) -> list[Any]:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    config = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())
    parsed: list[Any] = parse(rf"\boxed{{{text}}}", extraction_config=config, parsing_timeout=None, raise_on_error=True)
    return parsed


def _evaluated(text: str) -> Number | None:
    """The value of a number or a formula; None where it has no real one."""
    found = read(text, short_units=True)
    if found is not None:
        return found
    value = next(iter(_parsed(text)), None)
    if getattr(value, "is_real", False) and value is not None:
        return Number(value=Fraction(float(value.evalf())), decimals=0, digits=0, percent=False)
    return None
