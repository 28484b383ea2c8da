"""The trajectories themselves: one light row each for the table, and blocks of them for the reader.

The page parses a block only when one of its trajectories is opened, so its size does not cost time at the start. Tens
of thousands of blocks would: a browser makes an element of each. So short trajectories share one.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

from innerloop.inner.beliefs import beliefs
from innerloop.inner.summary import Summary
from innerloop.inner.written import gain_before, written
from innerloop.report.curves import sparkline
from innerloop.report.view import Entry, View, rounded
from innerloop.schema import Source

_LOSS_DIGITS = 5  # the losses are float32, exact to about 1e-4
_BLOCK = 1 << 16  # characters of a block, about: parsed in a millisecond
_POINT = 16  # characters that a measured position takes, about


def index(view: View) -> dict[str, Any]:
    """Page data shared by all sections: ``questions``, ``groups`` and ``rows``, one per trajectory."""
    shown = {entry.question.id: entry.question for entry in view.entries}
    number = {question_id: i for i, question_id in enumerate(shown)}
    group_number = {group: i for i, group in enumerate(view.groups)}
    return {
        "questions": [
            {"id": q.id, "question": q.question, "answer": q.answer, "domain": q.domain, "level": q.level}
            for q in shown.values()
        ],
        "groups": [
            {"key": group.key, "label": group.label, "kind": group.kind, "control": group.source.is_control}
            for group in view.groups
        ],
        "rows": [_row(entry, number[entry.question.id], group_number[entry.group]) for entry in view.entries],
        "scale": _scale(view),
    }


def text_blocks(view: View, probed_model: str | None) -> dict[int, list[dict[str, Any]]]:
    """What the reader shows of every trajectory (`reader_entry`), in blocks by the number of their first one."""
    blocks: dict[int, list[dict[str, Any]]] = {}
    size = _BLOCK
    for i, entry in enumerate(view.entries):
        if size >= _BLOCK:
            size, block = 0, blocks.setdefault(i, [])
        block.append(reader_entry(entry, probed_model))
        points = len(entry.curve.position) if entry.curve else 0
        size += len(entry.trajectory.text) + len(entry.trajectory.final or "") + _POINT * points
    return blocks


def reader_entry(entry: Entry, probed_model: str | None) -> dict[str, Any]:
    """All that the reader shows of one trajectory.

    ``tokens`` and ``loss`` run over the measured positions (``position`` is None where these are 0, 1, 2, …);
    ``rest`` is the text behind the last one. Without a curve there is only ``rest``.
    """
    trajectory, curve = entry.trajectory, entry.curve
    block: dict[str, Any] = {
        "rest": trajectory.text,
        "final": trajectory.final,
        "answer": trajectory.answer,
        "reason": trajectory.reason,
        "outcome_reason": trajectory.outcome_reason,
        "generated": trajectory.tokens,
        "logprob": trajectory.logprob,
        "seed": None if trajectory.seed is None else str(trajectory.seed),  # may be above JavaScript's whole numbers
        "foreign": trajectory.source is not Source.SAMPLE or trajectory.model != probed_model,
    }
    if curve is None:
        return block
    measured = "".join(token or "" for token in curve.token)
    # Characters that the tokenizer cannot give back leave the texts apart; then the measured text alone is shown.
    # A line break after the opening delimiter is measured, and is no part of the text.
    begun = measured if trajectory.text.startswith(measured) else measured.lstrip()
    block["rest"] = trajectory.text[len(begun) :] if trajectory.text.startswith(begun) else ""
    block["curve"] = {
        "written": place[1] if (place := written(entry.question.answer, curve)) else None,
        "tokens": [token or "" for token in curve.token],
        "position": None if curve.position == tuple(range(len(curve.position))) else curve.position,
        "loss": rounded(curve.loss, _LOSS_DIGITS),
        "answer_tokens": curve.answer_tokens,
        "candidates": curve.candidates,
        "beliefs": [rounded(row, 4) for row in beliefs(curve).tolist()] if curve.candidates else [],
    }
    return block


def _row(entry: Entry, question: int, group: int) -> dict[str, Any]:
    trajectory, summary = entry.trajectory, entry.summary
    row: dict[str, Any] = {
        "id": trajectory.id,
        "question": question,
        "group": group,
        "source": trajectory.source,
        "mode": trajectory.mode or "plain",
        "outcome": trajectory.outcome,
        "status": trajectory.status or "complete",
        "model": trajectory.model,
        "tokens": entry.tokens,
    }
    if summary is not None and entry.curve is not None:
        numbers = rounded([getattr(summary, field.name) for field in fields(Summary)], 4)
        row |= dict(zip((field.name for field in fields(Summary)), numbers, strict=True))
        row["before"] = rounded([gain_before(entry.question.answer, entry.curve)], 4)[0]
        row["spark"] = sparkline(entry.curve)
    return row


def _scale(view: View) -> float:
    """The move of the loss (nats per answer token) at which colour is full: the 98th percentile of this run."""
    moves = sorted(
        abs(after - before)
        for entry in view.probed
        if entry.curve
        for before, after in zip(entry.curve.loss, entry.curve.loss[1:], strict=False)
        if math.isfinite(before) and math.isfinite(after)
    )
    return round(moves[int(0.98 * (len(moves) - 1))], 4) if moves else 0.0
