"""The aggregate: each group's summary numbers over questions, the differences that matter, and what they say.

Every mean is over questions (each question counts once) with a 95 % bootstrap interval over questions.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

from innerloop.evaluate.statistics import Interval, difference_interval, mean_interval
from innerloop.inner.summary import Summary
from innerloop.report.statements import statements
from innerloop.report.view import Entry, Group, View
from innerloop.report.written import gain_before, written
from innerloop.schema import Outcome, Source, Status

_NUMBERS = ("start", "end", "gain", "area", "downward", "trend")  # fields of a Summary
_AXIS_STEPS = 6  # ticks aimed at on the gain axis


def headline(view: View) -> dict[str, Any]:
    """Page data: ``groups`` and ``differences`` with intervals, the ``axis`` of gains, ``statements``, ``verdicts``."""
    members = {group: [entry for entry in view.probed if entry.group == group] for group in view.groups}
    members = {group: entries for group, entries in members.items() if entries}
    gains = {group: view.values(entries, _number("gain")) for group, entries in members.items()}
    rows = [_group_row(view, group, entries) for group, entries in members.items()]
    differences = [_difference_row(a, b, gains) for a, b in _contrasts(list(members))]
    return {
        "groups": rows,
        "differences": differences,
        "axis": _axis([row["gain"] for row in rows] + [row["gain"] for row in differences]),
        "statements": statements(rows, differences),
        "verdicts": _verdicts(view),
    }


def _number(name: str) -> Any:
    def read(entry: Entry) -> float:
        assert isinstance(entry.summary, Summary)
        return getattr(entry.summary, name)

    return read


def _gain_before(entry: Entry) -> float:
    assert entry.curve is not None
    return gain_before(entry.question.answer, entry.curve)


def _group_row(view: View, group: Group, entries: list[Entry]) -> dict[str, Any]:
    numbers = {name: mean_interval(view.values(entries, _number(name))) for name in _NUMBERS}
    return {
        "key": group.key,
        "label": group.label,
        "kind": group.kind,
        "control": group.source.is_control,
        "source": group.source,
        "outcome": group.outcome,
        "mode": group.mode,
        "questions": len({entry.question.id for entry in entries}),
        "trajectories": len(entries),
        "written": sum(written(entry.question.answer, entry.curve) is not None for entry in entries if entry.curve),
        "before": _plain(mean_interval(view.values(entries, _gain_before))),
        **{name: _plain(interval) for name, interval in numbers.items()},
    }


def _contrasts(groups: list[Group]) -> list[tuple[Group, Group]]:
    """Right against wrong within a source and mode; worked solutions against each control."""
    solutions = [group for group in groups if group.source is Source.SOLUTION]
    return [(a, b) for a in groups for b in groups if a.outcome is Outcome.RIGHT and b == _wrong_like(a)] + [
        (a, b) for a in solutions for b in groups if b.source.is_control
    ]


def _wrong_like(group: Group) -> Group:
    """The group that differs from ``group`` in the outcome alone."""
    return replace(group, outcome=Outcome.WRONG)


def _difference_row(a: Group, b: Group, gains: dict[Group, dict[str, list[float]]]) -> dict[str, Any]:
    interval = difference_interval(gains[a], gains[b])
    return {
        "label": f"{a.label} − {b.outcome if a.source is b.source else b.source.replace('-', ' ')}",
        "minuend": a.key,
        "subtrahend": b.key,
        "control": b.source.is_control,
        "gain": _plain(interval) | {"paired": interval.paired},
    }


def _plain(interval: Interval) -> dict[str, Any]:
    """An interval as JSON: undefined is None."""
    mean, low, high = (
        value if math.isfinite(value) else None for value in (interval.mean, interval.low, interval.high)
    )
    return {
        "mean": mean,
        "low": low,
        "high": high,
        "away_from_zero": interval.excludes(0),
        "questions": interval.questions,
        "reason": interval.reason,
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
    rows: dict[str, list[Entry]] = {}
    for entry in view.entries:
        if not entry.group.source.is_control:
            rows.setdefault(replace(entry.group, outcome=None).short_label, []).append(entry)
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
        for label, entries in rows.items()
    ]


def _mean_tokens(entries: list[Entry]) -> float | None:
    counts = [count for entry in entries if (count := entry.tokens) is not None]
    return sum(counts) / len(counts) if counts else None
