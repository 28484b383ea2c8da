"""Trajectories that differ most from each other: greedy farthest points.

The distance of two texts is the Jaccard distance of their sets of three words in a row: 1 less the share of such runs
that both have, of those that either has; words, numbers and signs count alike, in lower case. It is a metric, so the
least distance within the K chosen is at least half of the best that any K have (Ravi, Rosenkrantz & Tayi 1994).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from innerloop.outer.support import Choice
from innerloop.schema import Question, Trajectory

_RUN = 3
_WORD = re.compile(r"\w+|[^\w\s]")

Runs = frozenset[tuple[str, ...]]


def diverse(_: int) -> Choice:
    """First the one that is nearest to all others on average, then always the one farthest from those chosen."""

    def choose(_: Question, trajectories: Sequence[Trajectory], count: int) -> Sequence[Trajectory]:
        texts = [runs(trajectory.text) for trajectory in trajectories]
        table = [[distance(one, other) for other in texts] for one in texts]
        left = list(range(len(texts)))
        chosen: list[int] = []
        while len(chosen) < count:
            if chosen:
                best = max(left, key=lambda place: min(table[place][other] for other in chosen))
            else:
                best = min(left, key=lambda place: sum(table[place]))
            chosen.append(best)
            left.remove(best)
        return [trajectories[place] for place in chosen]

    return choose


def runs(text: str) -> Runs:
    """The runs of three words of a text; a shorter one is a single run."""
    words = _WORD.findall(text.lower())
    return frozenset(tuple(words[i : i + _RUN]) for i in range(max(1, len(words) - _RUN + 1)))


def distance(one: Runs, other: Runs) -> float:
    """1 − |A ∩ B| / |A ∪ B|, 0 for equal texts and 1 for such without a common run."""
    return 1 - len(one & other) / len(one | other)
