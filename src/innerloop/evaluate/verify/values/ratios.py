"""Ratios and times of day, which are written alike."""

from __future__ import annotations

from innerloop.evaluate.verify.values import numeric
from innerloop.evaluate.verify.values.kinds import Ratio
from innerloop.evaluate.verify.values.tree import Operation


def same(answer: Ratio, reference: Ratio) -> bool:
    """Times of day by hours and minutes, ratios up to a factor."""
    if len(answer.parts) != len(reference.parts):
        return False
    if answer.half or reference.half or (is_clock(answer) and is_clock(reference)):
        return time_of_day(answer) == time_of_day(reference) is not None
    pairs = list(zip(answer.parts, reference.parts, strict=True))
    zeros = [(numeric.is_zero(one), numeric.is_zero(other)) for one, other in pairs]
    first = next((place for place, pair in enumerate(zeros) if not all(pair)), None)
    if first is None or any(one != other for one, other in zeros):
        return first is None
    if any(map(all, zeros)):  # a score, 3:0, which is no ratio
        return all(numeric.same(one, other) for one, other in pairs)
    top, bottom = pairs[first]
    return all(numeric.same(Operation("*", (one, bottom)), Operation("*", (other, top))) for one, other in pairs)


def is_clock(value: Ratio) -> bool:
    """Whether the parts look like hours and minutes."""
    if len(value.written) not in (2, 3) or not all(value.written):
        return False
    return int(value.written[0]) < 25 and all(len(own) == 2 and int(own) < 60 for own in value.written[1:])


def time_of_day(value: Ratio) -> tuple[int, ...] | None:
    """Hours of the day and minutes. ``4:30`` is not 4:30 p.m., ``16:30`` is."""
    if not all(value.written) or not value.written:
        return None
    hour, *rest = (int(own[:9]) for own in value.written)
    if value.half and hour <= 12:
        hour = hour % 12 + (12 if value.half == "pm" else 0)
    return hour, *rest
