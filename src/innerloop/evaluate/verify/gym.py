"""Verifier ``gym:FAMILY``: reasoning-gym's own scorer; right means the full score of 1, partial credit is wrong.

Runs in a worker process: some scorers hang, some raise. The question's ``metadata`` holds the entry that the scorer
wants; without it an entry is made from question and answer, which is enough for the families that compare with the
answer only, and the item is undecided where the scorer asks for more.

The answer is a model's, the entry may be a stranger's file, and some scorers evaluate text of either as Python. So:

- The families in ``EVALUATING`` are scored inside a sandbox only, and undecided where there is none. Their scorers get
  formulas and values that ``formula`` has read and written anew; what is none never reaches them. Code in an answer
  thus neither runs nor gets near the scorer that decides on it.
- The families in ``_EXACT`` evaluate text for partial credit only, or to compute again what the entry holds. Their
  scorers are never called: answer and entry are compared here.
- A version of reasoning-gym whose scorers nobody has read yet is not trusted outside of a sandbox at all.

``game_of_life_halting`` scores any answer 1: there the text is compared. Answers come in LaTeX, scorers want plain
text: the answer is tried as written, as plain text, without the commas of a number, and with other signs of
multiplication; the best score counts. A scorer that raises on all of these, but takes the reference, has met a wrong
answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import metadata
from typing import Any

from innerloop.evaluate.verify import formula
from innerloop.evaluate.verify.job import Job, Reply
from innerloop.evaluate.verify.plain import folded, plain
from innerloop.questions import gym_entry
from innerloop.schema import Outcome, Question, Verdict

PREFIX = "gym:"
SCORERS_READ = frozenset({"0.1.25"})  # of reasoning-gym

_BROKEN = frozenset({"game_of_life_halting"})
_FORMULAS = frozenset(
    {"countdown", "intermediate_integration", "polynomial_multiplication", "puzzle24", "simple_integration"}
)
EVALUATING = _FORMULAS | {"number_sorting"}
_SIGNS = re.compile("[×·*]")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


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
        "entry": question.metadata,
        "question": question.question,
        "reference": question.answer,
    }
    return Job(module=__name__, answer=answer, payload=payload, inside=evaluates(question.verifier or ""))


def evaluates(verifier: str) -> bool:
    """Whether ``gym:FAMILY`` may be scored inside a sandbox only."""
    family = verifier.removeprefix(PREFIX)
    return family in EVALUATING or (family not in _EXACT and _version() not in SCORERS_READ)


@lru_cache
def _version() -> str:
    try:
        return metadata.version("reasoning-gym")
    except metadata.PackageNotFoundError:
        return ""


def prepare() -> None:
    """Imports what ``run`` needs, before the item's time begins."""
    import reasoning_gym  # noqa: F401


def run(payload: dict[str, Any]) -> Reply:
    """In the worker: the score. Raises what the scorer raises on the reference too."""
    family = payload["family"]
    score, entry = _scorer(payload)
    readings = _readings(family, payload["answer"])
    if not readings:
        return Reply(outcome="wrong", reason="not the plain formula that the family asks for; not evaluated")
    best, error = 0.0, None
    for reading in readings:
        try:
            best = max(best, score(reading, entry))
        except MemoryError:
            raise
        except Exception as raised:  # noqa: BLE001  # scorers raise anything
            error = raised
    if best >= 1:
        return Reply(outcome="right")
    if getattr(entry["metadata"], "wanted", False):
        return Reply(outcome="undecided", reason=f"the scorer of {family} needs the question's metadata; there is none")
    if error is not None and not any(score(reading, entry) >= 1 for reading in _readings(family, payload["reference"])):
        raise error
    return Reply(outcome="wrong")


class _Absent(dict[str, Any]):
    """Metadata that is not there, and remembers whether it was asked for (many scorers then give 0 in silence)."""

    wanted = False

    def __missing__(self, key: str) -> Any:
        self.wanted = True
        raise KeyError(key)

    def get(self, key: str, default: Any = None) -> Any:  # noqa: ARG002  # as in dict
        self.wanted = True
        return default


def _scorer(payload: Mapping[str, Any]) -> tuple[Callable[[str, dict[str, Any]], float], dict[str, Any]]:
    """What scores an answer, and the entry that it wants."""
    family = payload["family"]
    record = gym_entry.from_json(payload["entry"] or "")
    if record is not None and record.get("family") == family:
        parameters, entry = tuple(sorted(record.get("parameters", {}).items())), record["entry"]
    else:
        parameters = ()
        entry = {"question": payload["question"], "answer": payload["reference"], "metadata": _Absent()}
    if (same := _EXACT.get(family)) is not None:
        return lambda answer, entry: float(same(answer, entry)), entry
    dataset = _dataset(family, parameters)
    return lambda answer, entry: _score(dataset, answer, entry), _disarmed(family, entry)


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


def _readings(family: str, answer: str) -> list[str]:
    """What an answer may mean, written as the family's scorer wants it."""
    simple = plain(answer.replace("\\\\", "\n"))
    variants = [answer, simple, _THOUSANDS.sub("", simple)]
    if family in _FORMULAS:
        return list(dict.fromkeys(filter(None, map(formula.read, variants))))
    variants += [_SIGNS.sub(sign, variants[-1]) for sign in "×*"]
    return list(dict.fromkeys(variants))


def _disarmed(family: str, entry: dict[str, Any]) -> dict[str, Any]:
    """The entry with what the scorer would evaluate read and written anew; ``ValueError`` where it cannot be read."""
    details = entry["metadata"]
    if family == "number_sorting":
        return entry | {"answer": json.dumps(formula.literal(entry["answer"]))}  # JSON is not evaluated
    if family == "polynomial_multiplication":
        return entry | {"answer": _formula(entry["answer"])}
    if family in _FORMULAS and "integrand" in details:
        integrand, variable = _formula(details["integrand"]), details["variable"]
        if not (isinstance(variable, str) and len(variable) == 1 and variable.isalpha()):
            raise ValueError("the variable of the question is no letter")
        return entry | {"metadata": {**details, "integrand": integrand, "variable": variable}}
    return entry


def _formula(text: str) -> str:
    found = formula.read(text)
    if found is None:
        raise ValueError("the question holds no plain formula where its family has one; not evaluated")
    return found


def _in_list(answer: str, entry: dict[str, Any]) -> bool:
    boards = entry["metadata"]["valid_answers"]
    return isinstance(boards, list | tuple) and answer in boards


_EXACT: Mapping[str, Callable[[str, dict[str, Any]], bool]] = {
    "binary_matrix": lambda answer, entry: answer == entry["answer"],
    "bitwise_arithmetic": lambda answer, entry: int(answer, 0) == int(entry["answer"], 0),
    "n_queens": _in_list,
    "spiral_matrix": lambda answer, entry: answer.strip() == entry["answer"].strip(),
    "string_insertion": lambda answer, entry: answer == entry["answer"],
}
