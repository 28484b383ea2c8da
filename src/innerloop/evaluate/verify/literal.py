"""Verifier ``literal``: the answer is a Python literal of the same value as the reference (CRUXEval's outputs).

Both are read by ``ast.literal_eval``, in a worker process because the parser of deeply nested text can take the
process down. Equal is what Python calls equal, as in CRUXEval's own ``assert f(input) == answer``: ``1``, ``1.0`` and
``True`` are, ``(1, 2)`` and ``[1, 2]`` are not, the order of a dictionary is free. Accepted around the literal:
``f(…) ==``, an ``assert`` or a variable's name in front, backticks, ``[ANSWER]`` tags, and LaTeX's escapes (``\\_``,
``\\{``, ``\\text{}``) where the answer cannot be read otherwise. What is no literal at all
may still be the reference's text without its quotes.
"""

from __future__ import annotations

import ast
import re
import warnings
from typing import Any

from innerloop.evaluate.verify.job import Job, Reply
from innerloop.evaluate.verify.plain import plain
from innerloop.schema import Outcome, Question, Verdict

_NAME = re.compile(
    r"(?<!\w)(?P<before>[^\WA-Za-z_]*+)"
    r"(?:assert\s++)?[A-Za-z_]\w*+\s*+(?:(?P<call>\()|={1,2}+\s*+(?=[^\s=]))"
)
_CALLED = re.compile(r"\)\s*+==\s*+(?=[^\s=])")
_TAG = re.compile(r"\[ANSWER\](.*?)(?:\[/ANSWER\]|$)", re.DOTALL)
_LITTLE = re.compile(r"'[^'\\\n]*'|\"[^\"\\\n]*\"|-?\d{1,18}|True|False|None")


def final(shown: str) -> str | None:
    """The answer in the tags that CRUXEval's own prompt asks for."""
    found = _TAG.findall(shown)
    return found[-1].strip() if found else None


def judge(question: Question, answer: str) -> Verdict | Job:
    """At once for the same text and for two plain texts, numbers or names; else the job for a worker."""
    given, reference = answer.strip().strip("`").strip(), question.answer.strip()
    if given == reference:
        return Verdict(outcome=Outcome.RIGHT, answer=answer)
    if _LITTLE.fullmatch(given) and _LITTLE.fullmatch(reference):
        same = ast.literal_eval(given) == ast.literal_eval(reference)
        return Verdict(outcome=Outcome.RIGHT if same else Outcome.WRONG, answer=answer)
    return Job(module=__name__, answer=answer, payload={"reference": reference, "answer": given})


def prepare() -> None:
    """Nothing to import."""


def run(payload: dict[str, str]) -> Reply:
    """In the worker: both values, compared."""
    reference, read = _value(payload["reference"])
    if not read:
        return Reply(outcome="undecided", reason="the reference answer is no Python literal")
    answer = payload["answer"]
    given, read = _value(answer, strict=True)
    # LaTeX's escapes are not Python's: what holds one can be meant in several ways
    others = () if read else (answer, without_front(answer), plain(answer))
    readings = [(given, read), *map(_value, dict.fromkeys(others))]
    if not any(read for _, read in readings):
        if answer == reference:  # a text without its quotes
            return Reply(outcome="right")
        return Reply(outcome="wrong", reason="the final answer is no Python literal")
    return Reply(outcome="right" if any(read and value == reference for value, read in readings) else "wrong")


def without_front(text: str) -> str:
    """The text without the first ``f(…) ==`` or ``name =`` in it, with an ``assert`` or without.

    The call's arguments may hold anything, so it ends at the last ``) ==``.
    """
    end = max((called.span() for called in _CALLED.finditer(text)), default=(0, 0))
    for name in _NAME.finditer(text):
        if name["call"] is None:
            return text[: name.end("before")] + text[name.end() :]
        if name.start("call") < end[0]:
            return text[: name.end("before")] + text[end[1] :]
    return text


def _value(text: str, *, strict: bool = False) -> tuple[Any, bool]:
    """The value and whether there is one; ``strict`` refuses a backslash that Python lets stand with a warning."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error" if strict else "ignore")
            return ast.literal_eval(text.strip()), True
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, Warning):
        return None, False
