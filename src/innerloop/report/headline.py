"""The summary: the aggregate as the page draws it, what it says in words, and how trajectories were judged."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

from innerloop.evaluate.aggregate import aggregate
from innerloop.evaluate.rows import rows
from innerloop.report.statements import statements
from innerloop.report.view import Entry, View
from innerloop.schema import Status

_AXIS_STEPS = 6  # ticks aimed at on the gain axis


def headline(view: View) -> dict[str, Any]:
    """Page data: ``groups`` and ``differences`` with intervals, the ``axis`` of gains, ``statements``, ``verdicts``."""
    curves = (entry.curve for entry in view.entries if entry.curve)
    numbers = rows(aggregate(curves, (entry.trajectory for entry in view.entries), view.questions))
    return {
        **numbers,
        "axis": _axis([row["gain"] for part in numbers.values() for row in part]),
        "statements": statements(numbers["groups"], numbers["differences"]),
        "verdicts": _verdicts(view),
    }


def _axis(gains: list[dict[str, Any]]) -> dict[str, Any]:
    """Range and ticks that hold zero, every mean and every interval."""
    values = [0.0, *(gain[end] for gain in gains for end in ("mean", "low", "high") if gain[end] is not None)]
    low, high = min(values), max(values)
    if low == high:
        low, high = -1.0, 1.0
    rough = (high - low) / _AXIS_STEPS
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    margin = 0.04 * (high - low)
    first, last = math.ceil((low - margin) / step), math.floor((high + margin) / step)
    digits = max(0, -math.floor(math.log10(step)))
    ticks = [round(i * step, digits) for i in range(first, last + 1)]
    low, high = low - margin, high + margin
    return {"low": low, "high": high, "zero": -low / (high - low), "ticks": ticks, "digits": digits}


def _verdicts(view: View) -> list[dict[str, Any]]:
    """Per source and mode, controls left out: how many trajectories, how they were judged, how they ended."""
    members: dict[str, list[Entry]] = {}
    for entry in view.entries:
        if not entry.group.source.is_control:
            members.setdefault(replace(entry.group, outcome=None).short_label, []).append(entry)
    return [
        {
            "label": label,
            "trajectories": len(entries),
            "questions": len({entry.question.id for entry in entries}),
            "outcomes": Counter(str(entry.trajectory.outcome or "unjudged") for entry in entries),
            "truncated": sum(entry.trajectory.status is Status.TRUNCATED for entry in entries),
            "failed": sum(entry.trajectory.status is Status.ERROR for entry in entries),
            "tokens": _mean_tokens(entries),
        }
        for label, entries in members.items()
    ]


def _mean_tokens(entries: list[Entry]) -> float | None:
    counts = [count for entry in entries if (count := entry.tokens) is not None]
    return sum(counts) / len(counts) if counts else None
