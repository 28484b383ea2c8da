"""Filters for questions to train on, as RaML cleans its own (appendix C.2): each says what it leaves out, and how much.

RaML keeps questions whose answer is a whole number, which any verifier judges alike. The others here are for what such
collections are cleaned of elsewhere, too: questions that come twice, that ask for a proof or an option, or that need a
picture.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from innerloop.questions.disjoint import normalised
from innerloop.schema import Question

_WHOLE = re.compile(r"[0-9]+")
_LABEL = re.compile(r"(?<![^\s(])([AB])[).:]")  # of an option, where a word or a bracket begins
_PROOF = re.compile(r"\b(?:prove|show) that\b|\bprove\b|\bproof\b|证明", re.IGNORECASE)
_PICTURE = re.compile(
    r"!\[|<img\b|\[asy\]|\\includegraphics|\b(?:figure|diagram|picture|image)\b(?: \w{1,20})? (?:shown|below|above)"
    r"|\b(?:in|see) the (?:figure|diagram|picture|image)\b|如图",
    re.IGNORECASE,
)


def _offers(text: str) -> bool:
    """Whether an option B follows an option A."""
    labels = [found[1] for found in _LABEL.finditer(text)]
    return "A" in labels and "B" in labels[labels.index("A") :]


@dataclass(frozen=True, kw_only=True)
class Filter:
    """What a question has to be: ``keeps`` says whether one stays."""

    about: str
    keeps: Callable[[Question], bool]


FILTERS: dict[str, Filter] = {
    "integer-answer": Filter(
        about="the answer is a whole number in plain digits, as RaML's are",
        keeps=lambda question: _WHOLE.fullmatch(question.answer.strip()) is not None,
    ),
    "no-choice": Filter(
        about="it does not offer options",
        keeps=lambda question: question.verifier != "choice" and not _offers(question.question),
    ),
    "no-proof": Filter(
        about="it does not ask for a proof", keeps=lambda question: _PROOF.search(question.question) is None
    ),
    "no-picture": Filter(
        about="it does not refer to a picture", keeps=lambda question: _PICTURE.search(question.question) is None
    ),
}
UNIQUE = "unique"  # the one that looks at all questions together
NAMES = (*FILTERS, UNIQUE)


def clean(questions: Iterable[Question], names: Sequence[str]) -> tuple[list[Question], dict[str, int]]:
    """The questions that pass every filter, and how many each has left out of those that the ones before it kept.

    ``unique`` keeps the first of the questions that say the same, letters' case and white space aside.
    """
    kept = list(questions)
    removed: dict[str, int] = {}
    for name in dict.fromkeys(names):
        before = len(kept)
        if name == UNIQUE:
            first: dict[str, Question] = {}
            for question in kept:
                first.setdefault(normalised(question), question)
            kept = list(first.values())
        else:
            kept = [question for question in kept if FILTERS[name].keeps(question)]
        removed[name] = before - len(kept)
    return kept, removed
