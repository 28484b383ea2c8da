"""Which of a source's questions are taken: filters that clean it, the first N, or N drawn from a seed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence

from innerloop.errors import InputError
from innerloop.questions.cleaning import clean as cleaned
from innerloop.questions.rows import check_limit
from innerloop.schema import Question

log = logging.getLogger("innerloop.questions")


def chosen(
    questions: Sequence[Question], *, limit: int | None, seed: int, draw: bool, clean: Sequence[str], source: str
) -> list[Question]:
    """Those that pass the filters; of these ``limit``, drawn from the seed or the first, in their own order.

    What the filters leave out is logged, filter by filter. `InputError` where nothing is left.
    """
    check_limit(limit)
    found = list(questions)
    if clean:
        kept, removed = cleaned(found, clean)
        said = ", ".join(f"{name} {count}" for name, count in removed.items())
        log.info("%s: %d of %d questions are left after cleaning (left out: %s)", source, len(kept), len(found), said)
        if not kept:
            raise InputError(f"{source}: --clean {' '.join(clean)} leaves none of its {len(found)} questions")
        found = kept
    if not draw:
        return found[:limit]
    names = drawn([question.id for question in found], limit, seed)
    return [question for question in found if question.id in names]


def drawn(names: Sequence[str], count: int | None, seed: int) -> set[str]:
    """``count`` of the names. With the same seed, more of them hold the fewer, and new names change nobody's turn."""

    def turn(name: str) -> bytes:
        return hashlib.blake2b(f"{seed}\n{name}".encode(), digest_size=16, person=b"draw").digest()

    return set(sorted(names, key=turn)[:count])
