"""The scores section: the comparison as intervals, its tables, and what it says in words."""

from __future__ import annotations

import math
from typing import Any

from innerloop.evaluate.compare import Difference
from innerloop.evaluate.statistics import Interval
from innerloop.evaluate.summary import Cell, Row
from innerloop.evaluate.tables import headline, tables
from innerloop.report.evaluated import Evaluated, evaluated
from innerloop.report.score_lines import score_lines
from innerloop.report.score_questions import disagreements, questions_block
from innerloop.report.score_statements import score_statements
from innerloop.report.view import View


def scores(view: View) -> dict[str, Any] | None:
    """Page data: ``series``, ``measures``, ``groups`` of rows with their cells, ``differences``, the charts
    (`score_lines`), ``tables`` as people read them, ``statements``. Fractions; None where undefined, without scores
    None as a whole."""
    found = evaluated(view)
    if found is None:
        return None
    shown = headline([measure.name for measure in found.measures])
    return {
        "series": _series(found),
        "measures": [{"name": m.name, "share": m.kind != "tokens"} for m in found.measures],
        "chosen": next((name for name in shown if not name.startswith("avg")), shown[0]),
        "groups": _groups(found),
        "differences": [_difference(entry, list(found.series)) for entry in found.differences],
        "tests": len(found.differences),
        **score_lines(found),
        "tables": tables(found.rows, found.differences),
        "statements": score_statements(found),
        "disagreements": disagreements(view, found),
        "verdicts": found.verdicts,
        "readable": view.readable,
    }


def score_blocks(view: View) -> dict[str, Any]:
    """``data-scores-questions``: the table of questions, parsed when the reader comes near."""
    found = evaluated(view)
    return {} if found is None else {"data-scores-questions": questions_block(view, found)}


def _series(found: Evaluated) -> list[dict[str, Any]]:
    """In the order of the rows; counts are over all questions."""
    own = list(found.own)
    return [
        {
            "name": row.series,
            "reference": found.compared and row.series == own[0],
            "ours": row.series not in found.own,
            **{
                name: getattr(row, name)
                for name in ("questions", "clusters", "samples", "right", "wrong", "undecided", "truncated", "failed")
            },
        }
        for row in found.rows
        if row.group == "all"
    ]


def _groups(found: Evaluated) -> list[dict[str, Any]]:
    """``all``, then what the tables are split by; a group's ``values`` hold one row per series that has it."""
    number = {name: i for i, name in enumerate(found.series)}
    groups: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in found.rows:
        groups.setdefault(row.group, {}).setdefault(row.value, []).append(_row(row, number[row.series]))
    return [
        {"group": group, "values": [{"value": value, "rows": values[value]} for value in sorted(values)]}
        for group, values in groups.items()
    ]


def _row(row: Row, series: int) -> dict[str, Any]:
    return {
        "series": series,
        "questions": row.questions,
        "samples": row.samples,
        "undecided": row.undecided,
        "cells": [_cell(cell) for cell in row.cells],
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return {**_interval(cell.score), "if_wrong": _number(cell.if_wrong), "if_right": _number(cell.if_right)}


def _difference(entry: Difference, series: list[str]) -> dict[str, Any]:
    return {
        "series": series.index(entry.series),
        "reference": series.index(entry.reference),
        "benchmark": entry.benchmark,
        "measure": entry.measure,
        **_interval(entry.difference),
        "p": _number(entry.p),
        "p_holm": _number(entry.p_holm),
    }


def _interval(value: Interval) -> dict[str, Any]:
    return {
        "mean": _number(value.mean),
        "low": _number(value.low),
        "high": _number(value.high),
        "questions": value.questions,
        "reason": value.reason,
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
