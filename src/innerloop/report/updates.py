"""The update section: the inner-loop weights θ'ᵢ along each trajectory, and how well −∇L predicts what they do.

`updates` is what the page draws at once; `update_blocks` holds one block per measured trajectory (and one more where
an untrained model was measured on it), which the page parses when it is opened.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from innerloop.evaluate.alignment import AlignmentRow, summarise
from innerloop.evaluate.groups import Group
from innerloop.evaluate.statistics import Interval
from innerloop.report.view import Entry, View, significant
from innerloop.schema import Curve, Update

MOST_POINTS = 4000  # of the scatter; more would be a blur, and the table is over all of them all the same
_MATRICES = ("layer_step", "layer_norm", "layer_predicted", "layer_cosine", "layer_error")
_NUMBERS = (
    *("loss", "full_loss", "base_loss", "residual", "norm", "relative", "condition", "step_norm"),
    *("predicted", "null_sd", "cosine", "step_predicted", "causal_predicted"),
)
_WHERE = {
    "attention": "one patch per layer, on the attention output projection",
    "mlp": "patches on the gate, up and down projections of each layer's MLP",
    "paper": "patches on the query, key and value projections of each layer (RaML prop. 2.1), by least squares",
}
_SEES = {
    "weights": "every token passes through the patched weights",
    "answer": "only suffix and answer pass through the patched weights",
}
_PLACES = {
    "kept": "suffix and answer keep the position ids that they have behind the trajectory",
    "contiguous": "suffix and answer follow the question directly",
}

#: What the numbers can and cannot show.
CAUTIONS = (
    "That the patched model answers as if it had read the trajectory is algebra, not evidence: any text can be written "
    "into the weights this way, nonsense included, so a small residual says that the sum is right and nothing about "
    "reasoning.",
    "That the gradient predicts how the loss changes is Taylor's theorem at work on a small step, and it speaks for "
    "descent only as far as trajectories that reason do better than the controls, the untrained model and random "
    "patches of the same size.",
    "The patch is not unique: another gauge restores the same answers with other weights, so sizes, angles and the "
    "layer where a step is largest belong to the gauge named above and should be compared within it only.",
)


def updates(view: View) -> dict[str, Any] | None:
    """Page data: ``settings``, ``groups``, ``items``, ``points``, ``exact`` and the alignment ``table``."""
    members = _members(view)
    if not members:
        return None
    entries = {entry.trajectory.id: (i, entry) for i, entry in enumerate(view.entries)}
    groups = _groups(members, entries)
    number = {(group["key"], group["untrained"]): i for i, group in enumerate(groups)}
    items = [
        {
            "id": own[0].trajectory_id,
            "row": entries[own[0].trajectory_id][0] if own[0].trajectory_id in entries else None,
            "group": number[_key(own[0], entries), own[0].untrained],
            "untrained": own[0].untrained,
            "positions": len(own),
        }
        for own in members
    ]
    return {
        "settings": _settings(view.updates),
        "kept": any(update.placement == "kept" for update in view.updates),
        "groups": groups,
        "items": items,
        "points": _points(members),
        "exact": _exact(view.updates),
        "table": _table(view.updates, entries, groups, number),
        "cautions": CAUTIONS,
    }


def update_blocks(view: View) -> dict[str, Any]:
    """``data-u0``, ``data-u1``, …: one block per item of `updates`, in the same order."""
    curves = {entry.trajectory.id: entry.curve for entry in view.entries}
    return {f"data-u{i}": _block(own, curves.get(own[0].trajectory_id)) for i, own in enumerate(_members(view))}


def _members(view: View) -> list[list[Update]]:
    """The updates of one trajectory under one model, positions rising; in the order of the page's trajectories."""
    found: dict[str, list[Update]] = {}
    for update in view.updates:
        found.setdefault(update.id, []).append(update)
    place = {entry.trajectory.id: i for i, entry in enumerate(view.entries)}
    ordered = sorted(found.values(), key=lambda own: (own[0].untrained, place.get(own[0].trajectory_id, len(place))))
    return [sorted(own, key=lambda update: update.position) for own in ordered]


def _key(update: Update, entries: dict[str, tuple[int, Entry]]) -> str:
    """The key of the trajectory's group; ``unknown`` where the trajectory sits in a lost shard."""
    return entries[update.trajectory_id][1].group.key if update.trajectory_id in entries else "unknown"


def _groups(members: Sequence[Sequence[Update]], entries: dict[str, tuple[int, Entry]]) -> list[dict[str, Any]]:
    """The kinds of trajectory, trained model first, in the page's order."""
    found: dict[tuple[str, bool], Group | None] = {}
    for own in members:
        entry = entries.get(own[0].trajectory_id)
        found[_key(own[0], entries), own[0].untrained] = entry[1].group if entry else None

    def rank(key: tuple[str, bool]) -> tuple[bool, float, int]:
        group = found[key]
        return key[1], *(group.rank if group else (math.inf, 0))

    ordered = sorted(found, key=rank)
    return [_group(key, found[key, untrained], untrained=untrained) for key, untrained in ordered]


def _group(key: str, group: Group | None, *, untrained: bool) -> dict[str, Any]:
    label = group.label if group else "Not in this run"
    return {
        "key": key,
        "label": f"Untrained model: {label[0].lower()}{label[1:]}" if untrained else label,
        "kind": "untrained" if untrained else group.kind if group else "unjudged",
        "untrained": untrained,
        "control": untrained or bool(group and group.source.is_control),
    }


def _settings(found: Sequence[Update]) -> list[tuple[str, str, str]]:
    """Gauge, scope and placement of the run: name, value, what it means."""
    parts = (("Gauge", "gauge", _WHERE), ("Scope", "scope", _SEES), ("Placement", "placement", _PLACES))
    return [
        (label, value, meanings.get(value, ""))
        for label, name, meanings in parts
        for value in dict.fromkeys(getattr(update, name) for update in found)
    ]


def _points(members: Sequence[Sequence[Update]]) -> dict[str, Any] | None:
    """The scatter, as columns: predicted and actual change of the loss in nats per answer token.

    Position 0 is left out, as in the table: there is no update yet.
    """
    every = [
        (i, update)
        for i, own in enumerate(members)
        for update in own
        if update.predicted is not None and update.position > 0
    ]
    if not every:
        return None
    chosen = every
    if len(every) > MOST_POINTS:
        chosen = [every[i] for i in np.linspace(0, len(every) - 1, MOST_POINTS).round().astype(int)]
    return {
        "all": len(every),
        "item": [i for i, _ in chosen],
        "position": [update.position for _, update in chosen],
        "predicted": [significant(update.predicted) for _, update in chosen],
        "actual": [significant(update.loss - update.base_loss) for _, update in chosen],
        "null_sd": [significant(update.null_sd) for _, update in chosen],
        "cosine": [significant(update.cosine) for _, update in chosen],
    }


def _exact(every: Sequence[Update]) -> dict[str, Any]:
    """How well the patches restore the full run, and how large they are: of the model itself, where it was measured."""
    found = [update for update in every if not update.untrained] or every
    fresh = [update for update in every if update.untrained and found is not every]
    worst = _worst(found)
    relative = [update.relative for update in found if math.isfinite(update.relative)]
    errors = [
        (error, layer, update)
        for update in found
        for layer, error in enumerate(update.layer_error or ())
        if math.isfinite(error)
    ]
    return {
        "positions": len(found),
        "trajectories": len({update.id for update in found}),
        "residual": significant(worst.residual, 2),
        "id": worst.trajectory_id,
        "position": worst.position,
        "untrained": significant(_worst(fresh).residual, 2) if fresh else None,
        "relative": significant(float(np.median(relative)), 2) if relative else None,
        "relative_most": significant(max(relative), 2) if relative else None,
        "rank": max(update.rank for update in found),
        "deficient": sum(update.deficient > 0 for update in found),
        "error": _layer_error(errors),
    }


def _worst(found: Sequence[Update]) -> Update:
    """The update with the largest residual; one that is no number is the worst of all."""
    return max(found, key=lambda update: math.inf if math.isnan(update.residual) else update.residual)


def _layer_error(errors: Sequence[tuple[float, int, Update]]) -> dict[str, Any] | None:
    """The paper gauge's own approximation error, over all layers and positions; None in the exact gauges."""
    if not errors:
        return None
    most, layer, update = max(errors, key=lambda one: one[0])
    return {
        "median": significant(float(np.median([error for error, _, _ in errors])), 2),
        "most": significant(most, 2),
        "layer": layer,
        "id": update.trajectory_id,
        "position": update.position,
    }


def _table(
    found: Sequence[Update],
    entries: dict[str, tuple[int, Entry]],
    groups: Sequence[dict[str, Any]],
    number: dict[tuple[str, bool], int],
) -> list[dict[str, Any]]:
    """The alignment of each group over questions, with its intervals; empty where it was not measured."""
    if all(update.predicted is None for update in found):
        return []
    rows = summarise(found, {update.trajectory_id: _key(update, entries) for update in found})
    return sorted((_row(row, groups, number) for row in rows if row.points), key=lambda row: row["group"])


def _row(row: AlignmentRow, groups: Sequence[dict[str, Any]], number: dict[tuple[str, bool], int]) -> dict[str, Any]:
    at = number[row.group, row.untrained]
    numbers = {
        field.name: _interval(value)
        for field in dataclasses.fields(row)
        if isinstance(value := getattr(row, field.name), Interval)
    }
    return {"group": at, **groups[at], "questions": row.questions, "points": row.points, **numbers}


def _interval(interval: Interval) -> dict[str, Any]:
    """Mean, low and high; undefined is None, and ``reason`` says why."""
    found = {name: significant(getattr(interval, name)) for name in ("mean", "low", "high")}
    return {**found, "reason": interval.reason}


def _block(own: Sequence[Update], curve: Curve | None) -> dict[str, Any]:
    """All that the page shows of one trajectory's updates: numbers by position, matrices by position and layer."""
    positions = [update.position for update in own]
    return {
        "position": positions,
        "tokens": _texts(positions, curve),
        "last": curve.position[-1] if curve else positions[-1],
        "rank": max(update.rank for update in own),
        **{name: [significant(getattr(update, name)) for update in own] for name in _NUMBERS},
        **{name: [_layers(getattr(update, name)) for update in own] for name in _MATRICES},
    }


def _layers(values: Sequence[float] | None) -> list[float | None] | None:
    return [significant(value, 3) for value in values] if values else None


def _texts(positions: Sequence[int], curve: Curve | None) -> list[str | None]:
    """The text consumed up to each position since the one before; None where the curve does not say."""
    if curve is None:
        return [None] * len(positions)
    known = set(curve.position)
    found: list[str | None] = []
    for low, high in pairwise((0, *positions)):
        if high not in known or low not in known | {0}:
            found.append(None)
            continue
        inside = (low < at <= high for at in curve.position)
        found.append("".join(token or "" for token, keep in zip(curve.token, inside, strict=True) if keep))
    return found
