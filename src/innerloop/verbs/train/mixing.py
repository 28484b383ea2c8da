"""How often the questions of each source are shown, where a training has several sources."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from innerloop.errors import InputError

if TYPE_CHECKING:
    from innerloop.outer.support import Mix
    from innerloop.verbs.train.settings import TrainSettings


def mix_of(settings: TrainSettings, names: Collection[str]) -> Mix | None:
    """The questions of each source that are trained on (``names``) with the source's weight; None without weights."""
    if not settings.question_weights:
        return None
    from innerloop.questions import load

    mix = []
    for source, weight in zip(settings.questions, settings.question_weights, strict=True):
        own = [question.id for question in load(source, **settings.which()) if question.id in names]
        if not own:
            raise InputError(f"--question-weights: no question of {source} is left to train on; leave it out")
        mix.append((own, weight))
    return mix
