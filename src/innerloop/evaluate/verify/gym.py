"""Verifier ``gym:FAMILY``: reasoning-gym's own scorer; right means the full score of 1, partial credit is wrong.

Runs in a worker process: some scorers hang, some raise. The question's ``metadata`` holds the entry that the scorer
wants; without it an entry is made from question and answer, which is enough for the families that compare with the
answer only, and the item is undecided where the scorer asks for more. Three things are not left to the scorers:

- ``game_of_life_halting`` scores any answer 1: there the text is compared.
- Those listed in ``_EXPRESSIONS`` and ``_LISTS`` hand the answer to Python's ``eval`` (or sympy's ``parse_expr``, which
  is the same). A model's answer is untrusted, so only plain formulas, and lists without calls, get that far.
- Answers come in LaTeX, scorers want plain text: the answer is tried as written, as plain text, and without the commas
  of a number; the best score counts.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from innerloop.evaluate.verify.job import Job, Reply
from innerloop.evaluate.verify.plain import folded, plain
from innerloop.questions import gym_entry
from innerloop.schema import Outcome, Question, Verdict

PREFIX = "gym:"

_BROKEN = frozenset({"game_of_life_halting"})
_EXPRESSIONS = frozenset(
    {"countdown", "intermediate_integration", "polynomial_multiplication", "puzzle24", "simple_integration"}
)
_LISTS = frozenset({"binary_matrix", "n_queens", "spiral_matrix", "string_insertion"})
_FUNCTION = re.compile(r"a?(?:sin|cos|tan|sec|csc|cot)|a?(?:sin|cos|tan)h|exp|log|ln|sqrt|Abs|pi")
_NAME = re.compile(r"[A-Za-z_]\w*")
_LETTER = re.compile("[A-Za-z]")
_ATTRIBUTE = re.compile(r"\.\s*+[A-Za-z_]")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_FORMULA = re.compile(r"[\w\s+\-*/^().,!=]*", re.ASCII)


def judge(question: Question, answer: str) -> Verdict | Job:
    """The job for a worker; at once where the answer is the reference, and for the family whose scorer is broken."""
    family = (question.verifier or "").removeprefix(PREFIX)
    if answer.strip() == question.answer.strip():
        return Verdict(outcome=Outcome.RIGHT, answer=answer)
    if family in _BROKEN:
        same = folded(answer) == folded(question.answer)
        return Verdict(outcome=Outcome.RIGHT if same else Outcome.WRONG, answer=answer)
    payload = {
        "family": family,
        "answer": answer,
        "metadata": question.metadata,
        "question": question.question,
        "reference": question.answer,
    }
    return Job(module=__name__, answer=answer, payload=payload)


def prepare() -> None:
    """Imports what ``run`` needs, before the item's time begins."""
    import reasoning_gym  # noqa: F401


def run(payload: dict[str, Any]) -> Reply:
    """In the worker: the score. Raises whatever the scorer raises."""
    record = gym_entry.from_json(payload["metadata"] or "")
    family = payload["family"]
    if record is not None and record.get("family") == family:
        dataset = _dataset(family, tuple(sorted(record.get("parameters", {}).items())))
        entry = record["entry"]
    else:
        entry = {"question": payload["question"], "answer": payload["reference"], "metadata": _Absent()}
        dataset = _dataset(family, ())
    variants = [variant for variant in _variants(payload["answer"]) if harmless(family, variant)]
    if not variants:
        return Reply(outcome="wrong", reason="not the plain formula or list that the family asks for; not evaluated")
    score = max(_score(dataset, variant, entry) for variant in variants)
    if score < 1 and getattr(entry["metadata"], "wanted", False):
        return Reply(outcome="undecided", reason=f"the scorer of {family} needs the question's metadata; there is none")
    return Reply(outcome="right" if score >= 1 else "wrong")


class _Absent(dict[str, Any]):
    """Metadata that is not there, and remembers whether it was asked for (many scorers then give 0 in silence)."""

    wanted = False

    def __missing__(self, key: str) -> Any:
        self.wanted = True
        raise KeyError(key)

    def get(self, key: str, default: Any = None) -> Any:  # noqa: ARG002  # as in dict
        self.wanted = True
        return default


def _score(dataset: Any, answer: str, entry: dict[str, Any]) -> float:
    try:
        return float(dataset.score_answer(answer, entry))
    except KeyError:
        if getattr(entry["metadata"], "wanted", False):
            return 0.0
        raise


@lru_cache(maxsize=32)
def _dataset(family: str, parameters: tuple[tuple[str, str], ...]) -> Any:
    from innerloop.questions.gym import create

    return create(family, dict(parameters))


def _variants(answer: str) -> list[str]:
    simple = plain(answer.replace("\\\\", "\n"))
    without_commas = _THOUSANDS.sub("", simple)
    return list(dict.fromkeys((answer, simple, without_commas)))


def harmless(family: str, answer: str) -> bool:
    """Whether the family's scorer may have the answer, where it would evaluate it as Python."""
    if family in _EXPRESSIONS:
        attribute = _ATTRIBUTE.search(answer)
        known = all(_FUNCTION.fullmatch(name) or _LETTER.fullmatch(name) for name in _NAME.findall(answer))
        return _FORMULA.fullmatch(answer) is not None and attribute is None and known
    return family not in _LISTS or "(" not in answer
