"""Train and test questions kept apart, by what the questions say.

Seeds of ``gym:`` sources never share random states (`innerloop.questions.gym`), but a small family can make the same
question twice all the same, files overlap, and a question's id is no proof: so the texts are compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from innerloop.errors import InputError
from innerloop.schema import Question
from innerloop.text_forms import nfkc

_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, kw_only=True)
class Disjoint:
    """The training questions that are left, and the ids of those that were taken out."""

    train: tuple[Question, ...]
    removed: tuple[str, ...]


def normalised(question: Question) -> str:
    """What the question says, whatever its letters' case, its white space and its way to write a character."""
    return _SPACE.sub(" ", nfkc(question.question).casefold()).strip()


def overlap(train: Iterable[Question], test: Iterable[Question]) -> list[Question]:
    """The training questions that say the same as a test question."""
    held_out = {normalised(question) for question in test}
    return [question for question in train if normalised(question) in held_out]


def remove_overlap(train: Sequence[Question], test: Iterable[Question]) -> Disjoint:
    """Training questions without those that the test asks too; the test stays as it is, so that scores compare.

    ``InputError`` where nothing is left to train on.
    """
    common = overlap(train, test)
    taken = {normalised(question) for question in common}
    kept = tuple(question for question in train if normalised(question) not in taken)
    if train and not kept:
        raise InputError(
            f"all {len(train)} training questions are among the test questions; give the two sources different seeds "
            "or files"
        )
    return Disjoint(train=kept, removed=tuple(question.id for question in common))
