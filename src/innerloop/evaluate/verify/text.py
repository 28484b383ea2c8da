"""Verifier ``text``: the final answer is the reference, whatever the case, the white space and LaTeX wrappers.

Composed and decomposed letters are the same, and neither quotation marks around a text nor a full stop or an
exclamation mark behind it are part of it. An answer that was cut from a sentence (``Say when`` from ``Say when you are
done``) is right where the whole sentence is the reference too, since only one of both can be meant. A text without a
final answer is right where all of it is the reference: a model may say ``New York`` and nothing else.
"""

from __future__ import annotations

import re

from innerloop.evaluate.verify.plain import folded
from innerloop.schema import Outcome, Question, Verdict
from innerloop.text_forms import nfc

_QUOTED = re.compile(r"\"([^\"]*)\"|'([^']*)'|“([^“”]*)”|‘([^‘’]*)’|`([^`]*)`|«([^«»]*)»")


def same(question: Question, answer: str) -> bool:
    """Whether both are the same text."""
    return normal(answer) == normal(question.answer)


def normal(text: str) -> str:
    """What two answers that are the same text have in common."""
    text = _without_stop(nfc(folded(nfc(text))))
    quoted = _QUOTED.fullmatch(text)
    inner = next(filter(None, quoted.groups()), "") if quoted is not None else ""
    return _without_stop(inner.strip()) or text


def _without_stop(text: str) -> str:
    """Without the one mark that ends a sentence."""
    return text[:-1].rstrip() if text[-1:] in (".", "!") and text[-2:-1] not in ("", ".", "!") else text


def judge(question: Question, answer: str) -> Verdict:
    """Right where both are the same text; wrong otherwise."""
    return Verdict(outcome=Outcome.RIGHT if same(question, answer) else Outcome.WRONG, answer=answer)
