"""Questions made by reasoning-gym: ``gym:FAMILY?size=50&seed=0&PARAMETER=VALUE…``.

``size`` (50 where it is not given) and ``seed`` (the run's) are common to all families, the other parameters are the
fields of the family's own configuration; lists are written with commas (``operators=+,-``), and ``%26`` stands for an
ampersand. Answers are judged by the family's own scorer.

**Seeds do not overlap.** reasoning-gym makes item i of seed s from the random state s + i in almost all families, so
its seeds 0 and 1 share all questions but one. Here a seed counts in strides of a million: ``seed=0`` is reasoning-gym's
seed 0, ``seed=1`` its seed 1,000,000, and sources of different seeds share no random state. Small families may still
make the same question twice by chance; `innerloop.questions.disjoint` takes these out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import re
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from innerloop.errors import InputError
from innerloop.nearest import nearest
from innerloop.questions import gym_entry
from innerloop.questions.rows import check_limit
from innerloop.schema import Question

logger = logging.getLogger("innerloop.questions")

SIZE = 50
STRIDE = 1_000_000  # reasoning-gym's random states per seed, and so the largest size
_FILE = re.compile(r"\w[\w.-]*")  # a name without folders
_NARROW = frozenset({"pool_matrix"})  # seeds numpy, which takes states of 32 bits

# Families that leave ``answer`` empty because many answers are right, but give an example of a right one.
_EXAMPLES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "graph_color": ("possible_answer", json.dumps),
    "propositional_logic": ("example_answer", str),
    "rubiks_cube": ("example_correct_answer", str),
}


def load(source: str, limit: int | None = None, seed: int = 0) -> list[Question]:
    """The questions of ``gym:FAMILY?…``; ``limit`` takes the first N, ``seed`` holds where the source names none.

    ``InputError`` for unknown families and parameters and for families without reference answers (boxnet,
    rush_hour: several answers are right and none is given). Single rows without an answer, and repeats of a
    question, are left out with a warning.
    """
    family, parameters = parse(source)
    check_limit(limit)
    parameters = {"size": str(max(SIZE, limit or 0)), "seed": str(seed)} | parameters
    with contextlib.redirect_stdout(sys.stderr):  # some families print dots while they are made
        dataset = create(family, parameters)
        return _take(_entries(dataset), source, family, parameters, dataset, limit)


def parse(source: str) -> tuple[str, dict[str, str]]:
    """FAMILY and the parameters as they are typed."""
    family, _, query = source.removeprefix("gym:").partition("?")
    pairs = [part.partition("=") for part in query.split("&") if part]
    if not family or not all(name and equals for name, equals, _ in pairs):
        raise InputError(f"{source}: not a family with parameters; write gym:FAMILY?size=50&seed=0, e.g. gym:chain_sum")
    return family, {name: unquote(value) for name, _, value in pairs}


def create(family: str, parameters: Mapping[str, str]) -> Any:
    """The ``ProceduralDataset`` of a family with typed-in parameters."""
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    from innerloop.questions import modular_chain  # noqa: F401  # registers our own family

    families = [name for name in DATASETS if name != "composite"]  # composite is made of others by a list of objects
    if family not in families:
        raise InputError(f"gym:{family}: no such family{nearest(family, families) or '; e.g. chain_sum, gsm_symbolic'}")
    configuration = DATASETS[family][1]
    fields = {field.name for field in dataclasses.fields(configuration)}
    for name in parameters:
        if name not in fields:
            known = ", ".join(sorted(fields))
            raise InputError(f"gym:{family}: no parameter '{name}' (it has {known}){nearest(name, fields)}")
    kinds = typing.get_type_hints(configuration)
    values = {name: _convert(text, kinds[name], f"gym:{family}: {name}") for name, text in parameters.items()}
    _check_range(family, values)
    _check_files(family, values)
    if "seed" in values:
        values["seed"] *= STRIDE
    try:
        return reasoning_gym.create_dataset(family, **values)
    except (AssertionError, ValueError) as error:  # its own checks of the parameters
        reason = str(error) or "a parameter is out of the family's range"
        raise InputError(f"gym:{family}: {reason}; change the parameter") from error


def _check_range(family: str, values: Mapping[str, Any]) -> None:
    """``InputError`` for sizes and seeds with which sources could share random states (−5 and 5 are the same one)."""
    size, seed = values.get("size", 1), values.get("seed", 0)
    if not 1 <= size <= STRIDE:
        raise InputError(f"gym:{family}: size is {size}: give a number of questions from 1 up to {STRIDE:,}")
    if seed < 0:
        raise InputError(f"gym:{family}: seed is {seed}: give a number from 0 up")
    if family in _NARROW and seed * STRIDE + size > 2**32:
        raise InputError(f"gym:{family}: seed is {seed}: this family takes seeds up to {2**32 // STRIDE - 1:,}")


def _check_files(family: str, values: Mapping[str, Any]) -> None:
    """``InputError`` for a file that is not reasoning-gym's own: parameters come with question files too."""
    for name, value in values.items():
        if name.endswith("_file") and not _FILE.fullmatch(str(value)):
            raise InputError(
                f"gym:{family}: {name} is '{value}': give the name of a data file that reasoning-gym ships"
            )


def _convert(text: str, kind: Any, where: str) -> Any:
    """Typed-in text as a value of the type that the configuration's field has."""
    import cyclopts

    many = (typing.get_origin(kind) or kind) not in (int, float, bool, str, typing.Literal)
    try:
        if kind is int:
            return int(text)  # cyclopts would round 2.5
        return cyclopts.convert(kind, text.split(",") if many else [text])
    except (cyclopts.CycloptsError, ValueError, TypeError) as error:
        name = getattr(kind, "__name__", str(kind)) if typing.get_origin(kind) is None else str(kind)
        raise InputError(f"{where} is '{text}', which is no {name}; change or drop the parameter") from error


def _entries(dataset: Any) -> Iterator[dict[str, Any]]:
    return (dataset[index] for index in range(len(dataset)))


def _take(
    entries: Iterator[dict[str, Any]],
    source: str,
    family: str,
    parameters: Mapping[str, str],
    dataset: Any,
    limit: int | None,
) -> list[Question]:
    questions: dict[str, Question] = {}
    repeats = unanswered = 0
    for entry in entries:
        answer = _answer(family, entry, dataset)
        if answer is None:
            unanswered += 1
            continue
        question = _question(family, parameters, entry, answer, str(dataset.category))
        repeats += question.id in questions
        questions.setdefault(question.id, question)
        if len(questions) == limit:
            break
    if not questions:
        raise InputError(
            f"{source}: {family} gives no reference answers, and an answer loss needs one; choose another family, "
            "e.g. gym:gsm_symbolic"
        )
    if unanswered:
        logger.warning("%s: %d rows without an answer were left out", source, unanswered)
    if repeats:
        logger.warning("%s: %d repeats of a question were left out", source, repeats)
    return list(questions.values())


def _question(
    family: str, parameters: Mapping[str, str], entry: dict[str, Any], answer: str, category: str
) -> Question:
    # The id depends on the question's text alone: it is the same in another run, at another size and place.
    digest = hashlib.sha1(entry["question"].encode(), usedforsecurity=False).hexdigest()[:10]
    return Question(
        id=f"gym-{family}-{digest}",
        question=entry["question"],
        answer=answer,
        solution=_solution(family, entry["metadata"]),
        domain=category,
        verifier=f"gym:{family}",
        metadata=gym_entry.to_json(family, parameters, entry),
    )


def _answer(family: str, entry: dict[str, Any], dataset: Any) -> str | None:
    """The entry's answer; an example of a right one where the family's scorer accepts it; None without either."""
    answer = entry["answer"]
    if answer is None and family in _EXAMPLES:
        field, write = _EXAMPLES[family]
        example = entry["metadata"].get(field)
        text = write(example) if example else ""
        answer = text if text and dataset.score_answer(text, entry) == 1 else None
    return answer if isinstance(answer, str) and answer.strip() else None


def _solution(family: str, metadata: Mapping[str, Any]) -> str | None:
    """The worked solution that a family ships.

    ``gsm_symbolic`` writes one out; its last line, ``#### 18``, is the answer itself and is taken off, so that the
    text is reasoning only. ``string_manipulation``, ``string_splitting`` and ``string_synthesis`` keep the states
    that the rules lead through: one per line, the last is the answer.
    """
    worked = metadata.get("answer_cot")
    if isinstance(worked, str):
        return worked.rsplit("####", 1)[0].strip() or None
    states = metadata.get("states")
    if family.startswith("string_") and states:
        return "\n".join(s if isinstance(s, str) else " ".join(map(str, s)) for s in states)
    return None
