"""Training questions without those that are held out."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from innerloop.schema import Question
from innerloop.verbs.train.settings import OuterSettings

log = logging.getLogger("innerloop")


def apart(settings: OuterSettings, questions: Sequence[Question]) -> list[Question]:
    """Those that say something else than every question of ``--held-out`` and ``--watch``, each with its prompt."""
    from innerloop.questions import load
    from innerloop.questions.disjoint import remove_overlap

    held_out = [question for source in settings.held_out for question in load(source, seed=settings.seed)]
    for source in settings.watch:
        held_out += load(source, limit=settings.watch_limit, seed=settings.seed)
    found = remove_overlap(settings.worded(questions), held_out)
    if found.removed:
        log.info("%d of %d training questions are held out and taken out", len(found.removed), len(questions))
    return list(found.train)
