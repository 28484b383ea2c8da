"""One name for every source of questions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from innerloop.errors import InputError
from innerloop.input_files import expanded
from innerloop.nearest import nearest
from innerloop.questions import benchmarks, files
from innerloop.questions.choosing import chosen
from innerloop.schema import Question

USAGE = "FILE.jsonl|.json|.csv|.parquet, hf:NAME[:CONFIG]:SPLIT, gym:FAMILY?size=50&seed=0, BENCHMARK or BENCHMARK@FILE"


def load(
    source: str | os.PathLike[str],
    *,
    limit: int | None = None,
    seed: int = 0,
    draw: bool = False,
    clean: Sequence[str] = (),
) -> list[Question]:
    r"""The questions of a source, in its own order.

    ``FILE.jsonl|.json|.csv|.parquet``; ``hf:NAME[:CONFIG]:SPLIT``; ``gym:FAMILY?size=50&seed=0&…``; a benchmark's
    name (``innerloop.questions.benchmarks.BENCHMARKS``) or ``NAME@FILE`` for a local copy of it.

    ``limit`` takes the first N and looks no further; with ``draw`` it takes N of all, drawn from the seed. ``clean``
    names filters that come before that (`innerloop.questions.cleaning`). ``seed`` is also that of ``gym:`` sources
    which name none, and orders the options of multiple-choice benchmarks. Ids are stable: the row's own, else after the
    file or data set and the row's number, for ``gym:`` after the question's text.

    Raises ``InputError``, one line that names the place and the remedy.
    """
    name = os.fspath(source)
    if draw or clean:
        return chosen(_load(name, None, seed), limit=limit, seed=seed, draw=draw, clean=clean, source=name)
    return _load(name, limit, seed)


def load_all(sources: Iterable[str], **which: Any) -> list[Question]:
    """The questions of several sources, one after the other; ``which`` as `load` has it, for each source.

    A question that is in two sources is taken once; `InputError` where two questions have one id.
    """
    found: dict[str, tuple[Question, str]] = {}
    for source in sources:
        for question in load(source, **which):
            before, first = found.setdefault(question.id, (question, source))
            if before != question:
                raise InputError(f"{source}: question {question.id!r} is another one in {first}; give one other ids")
    return [question for question, _ in found.values()]


def _load(name: str, limit: int | None, seed: int) -> list[Question]:
    kind = name.partition(":")[0]
    if kind == "gym":
        from innerloop.questions import gym

        return gym.load(name, limit, seed)
    if kind == "hf":
        from innerloop.questions import hub

        return hub.load(name, limit)
    head, at, _ = name.partition("@")
    if name in benchmarks.BENCHMARKS or (at and not os.path.exists(name) and "/" not in head):  # noqa: PTH110
        return benchmarks.load(name, limit, seed)
    path = expanded(name)
    if not os.path.exists(path) and not path.suffix and "/" not in name:  # noqa: PTH110  # Path.exists may raise
        known = [*benchmarks.BENCHMARKS, "hf:", "gym:"]
        raise InputError(f"{name}: no such file or benchmark (give {USAGE}){nearest(name, known)}")
    return files.load(path, limit)
