"""The aggregate as JSON-able rows: what the page draws, ``--json`` prints and the tables show."""

from __future__ import annotations

import math
from typing import Any

from innerloop.evaluate.aggregate import NUMBERS, Aggregate, Difference, GroupSummary
from innerloop.evaluate.statistics import Interval


def rows(aggregate: Aggregate) -> dict[str, list[dict[str, Any]]]:
    """``groups`` and ``differences``, each interval an object; undefined is None."""
    return {
        "groups": [_group(summary) for summary in aggregate.groups],
        "differences": [_difference(difference) for difference in aggregate.differences],
    }


def _group(summary: GroupSummary) -> dict[str, Any]:
    group = summary.group
    return {
        "key": group.key,
        "label": group.label,
        "kind": group.kind,
        "control": group.source.is_control,
        "source": group.source,
        "outcome": group.outcome,
        "mode": group.mode,
        "of": group.of,
        "questions": summary.questions,
        "trajectories": summary.trajectories,
        "written": summary.written,
        **{name: _interval(getattr(summary, name)) for name in NUMBERS},
    }


def _difference(difference: Difference) -> dict[str, Any]:
    a, b = difference.minuend, difference.subtrahend
    return {
        "label": f"{a.label} − {b.outcome if a.source is b.source else b.source.replace('-', ' ')}",
        "minuend": a.key,
        "subtrahend": b.key,
        "control": b.source.is_control,
        "gain": _interval(difference.gain) | {"paired": difference.gain.paired},
    }


def _interval(interval: Interval) -> dict[str, Any]:
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
