"""``number_sorting``: numbers in rising or falling order, written as they are given.

Equal numbers keep their order in every method, as they do in the family's answers.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from innerloop.questions.oracles.oracle import Derivation, Oracle, Step
from innerloop.schema import Question

_ASKED = re.compile(r"Sort these numbers in (ascending|descending) order: (.+)")


@dataclass(frozen=True, kw_only=True)
class Row:
    """The numbers as they are written, and which way to sort them."""

    numbers: tuple[str, ...]
    falling: bool

    def key(self, number: str) -> float:
        """Rises along the sorted row."""
        return -float(number) if self.falling else float(number)

    @property
    def next(self) -> str:
        """What is looked for first."""
        return "largest" if self.falling else "smallest"


def _read(question: Question) -> Row | None:
    found = _ASKED.search(question.question)
    if found is None:
        return None
    row = Row(numbers=tuple(found[2].split(", ")), falling=found[1] == "descending")
    return row if all(math.isfinite(row.key(number)) for number in row.numbers) else None


def _selection(row: Row) -> Derivation:
    """Look for the next one among those that are left."""
    left, done, steps = list(row.numbers), [], []
    while left:
        chosen = min(left, key=row.key)
        rivals = [number for number in left if row.key(number) > row.key(chosen)]
        rest = _listed(left)
        left.remove(chosen)
        done.append(chosen)
        steps.append(
            Step(
                short=f"{rest}: {chosen}",
                long=f"Of {rest} the {row.next} is {chosen}.",
                slips=(f"{rest}: {min(rivals, key=row.key)}",) if rivals else (),
            )
        )
    return _ended(steps, done)


def _insertion(row: Row) -> Derivation:
    """Put each number where it belongs among those before it."""
    done: list[str] = []
    steps = []
    for number in row.numbers:
        place = bisect_right([row.key(other) for other in done], row.key(number))
        done.insert(place, number)
        after = f"behind {done[place - 1]}" if place else "to the front"
        steps.append(
            Step(short=f"{number}: {_listed(done)}", long=f"{number} goes {after}: {_listed(done)}.", slips=())
        )
        if wrong := _swapped(done, row):
            steps[-1] = Step(short=steps[-1].short, long=steps[-1].long, slips=(f"{number}: {wrong}",))
    return _ended(steps, done)


def _merge(row: Row) -> Derivation:
    """Sort halves, and merge them by taking the lower of the two front numbers."""
    steps: list[Step] = []
    return _ended(steps, _merged(list(row.numbers), row, steps))


def _merged(numbers: list[str], row: Row, steps: list[Step]) -> list[str]:
    if len(numbers) < 2:
        return numbers
    middle = len(numbers) // 2
    left, right = _merged(numbers[:middle], row, steps), _merged(numbers[middle:], row, steps)
    merged, i, j = [], 0, 0
    while i < len(left) or j < len(right):
        if j == len(right) or (i < len(left) and row.key(left[i]) <= row.key(right[j])):
            merged.append(left[i])
            i += 1
        else:
            merged.append(right[j])
            j += 1
    halves = f"{_listed(left)} + {_listed(right)}"
    wrong = _swapped(merged, row)
    steps.append(
        Step(
            short=f"{halves}: {_listed(merged)}",
            long=f"Merge {_listed(left)} with {_listed(right)}: {_listed(merged)}.",
            slips=(f"{halves}: {wrong}",) if wrong else (),
        )
    )
    return merged


def _swapped(numbers: Sequence[str], row: Row) -> str | None:
    """The row with the last two neighbours that differ in the wrong order."""
    for i in range(len(numbers) - 1, 0, -1):
        if row.key(numbers[i - 1]) != row.key(numbers[i]):
            return _listed([*numbers[: i - 1], numbers[i], numbers[i - 1], *numbers[i + 1 :]])
    return None


def _listed(numbers: Sequence[str]) -> str:
    return "[" + ", ".join(numbers) + "]"


def _ended(steps: list[Step], done: Sequence[str]) -> Derivation:
    result = str(list(done))
    return Derivation(steps=[*steps, Step(short=result, long=f"The sorted list is {result}.")], result=result)


ORACLE = Oracle(
    family="number_sorting",
    read=_read,
    methods={"selection": _selection, "insertion": _insertion, "merge": _merge},
)
