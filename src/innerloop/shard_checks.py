"""Whether the rows of a shard can be what their stage says: a run folder may come from somebody else.

What reads a stage counts on it: positions count from 0, lists that belong together are of one length, a status is one
of those there are. Whole columns are checked at once, so that it costs little beside reading them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum

import pyarrow as pa
import pyarrow.compute as pc

from innerloop.schema import Mode, Outcome, Source, Status

_MOST_TOKENS = 1 << 26  # positions in a text: far beyond any context, and few enough to draw
_MOST_SAMPLES = 1 << 20  # of one question
_KINDS = ("train", "watch")


def fault(stage: str, table: pa.Table) -> str | None:
    """What is wrong with the rows of a stage, in a few words; None where nothing is."""
    table = table.combine_chunks()
    for field in table.schema:
        column = table[field.name]
        if not field.nullable and column.null_count:
            return f"{field.name} is missing in a row"
        if pa.types.is_list(field.type) and pc.list_flatten(column).null_count:
            return f"{field.name} has an entry that is missing"
    return next((said for check in _CHECKS.get(stage, ()) if (said := check(table))), None)


_Check = Callable[[pa.Table], str | None]


def _among(name: str, kinds: type[StrEnum] | Sequence[str]) -> _Check:
    known = pa.array([str(kind) for kind in kinds], pa.string())

    def check(table: pa.Table) -> str | None:
        strange = pc.invert(pc.or_kleene(pc.is_in(table[name], value_set=known), pc.is_null(table[name])))
        return f"{name} is none of {', '.join(known.to_pylist())}" if pc.any(strange).as_py() else None

    return check


def _within(name: str, least: int, most: int) -> _Check:
    def check(table: pa.Table) -> str | None:
        column = table[name]
        values = pc.list_flatten(column) if pa.types.is_list(column.type) else column
        ends = pc.min_max(values)
        low, high = ends["min"].as_py(), ends["max"].as_py()
        return None if low is None or (low >= least and high <= most) else f"{name} is not from {least} to {most}"

    return check


def _as_long(first: str, *others: str) -> _Check:
    """Lists of one length, row by row; one that is missing is empty."""

    def check(table: pa.Table) -> str | None:
        lengths = [pc.fill_null(pc.list_value_length(table[name]), 0) for name in (first, *others)]
        same = all(pc.all(pc.equal(lengths[0], length)).as_py() is not False for length in lengths[1:])
        return None if same else f"{', '.join((first, *others))} are not of one length"

    return check


def _grid(table: pa.Table) -> str | None:
    alpha, beta, loss = (pc.list_value_length(table[name]).cast(pa.int64()) for name in ("alpha", "beta", "loss"))
    if pc.any(pc.less(pc.min_element_wise(alpha, beta), 1)).as_py():
        return "alpha or beta is empty"
    return None if pc.all(pc.equal(pc.multiply(alpha, beta), loss)).as_py() is not False else "loss is no grid"


def _once(table: pa.Table) -> str | None:
    """A curve has a position once."""
    places = table.select(["trajectory_id", "position"])
    return None if places.group_by(places.column_names).aggregate([]).num_rows == len(table) else "a position is twice"


def _losses_of_candidates(table: pa.Table) -> str | None:
    given = table.filter(pc.is_valid(table["candidate_losses"]))
    return _as_long("candidates", "candidate_losses")(given)


def _any_samples(table: pa.Table) -> str | None:
    samples = [table[name].cast(pa.int64()) for name in ("right", "wrong", "undecided")]
    none = pc.equal(pc.add(pc.add(samples[0], samples[1]), samples[2]), 0)
    return "a question has no samples" if pc.any(none).as_py() else None


def _votes(table: pa.Table) -> str | None:
    """Votes and silent samples are all the samples, where votes were counted."""
    for row in table.select([*_VOTES, "abstained", "right", "wrong", "undecided"]).to_pylist():
        votes = sum(sum(row[name] or ()) for name in _VOTES) + (row["abstained"] or 0)
        if votes and votes != row["right"] + row["wrong"] + row["undecided"]:
            return "the votes are not as many as the samples"
    return None


_VOTES = ("votes_right", "votes_wrong", "votes_undecided")
_PATH = ("position", "path_alpha", "path_beta", "path_loss")
_CHECKS: dict[str, tuple[_Check, ...]] = {
    "trajectories": (
        _among("source", Source),
        _among("mode", Mode),
        _among("status", Status),
        *(_among(name, Outcome) for name in ("outcome", "recorded", "judged")),
        _within("sample", 0, 2**31 - 1),
        _within("tokens", 0, 2**31 - 1),
        _within("token_ids", 0, 2**31 - 1),
    ),
    "curves": (
        _within("position", 0, _MOST_TOKENS),
        _within("answer_tokens", 1, _MOST_TOKENS),
        _within("token_id", 0, 2**31 - 1),
        _within("candidate_tokens", 1, _MOST_TOKENS),
        _as_long("candidates", "candidate_tokens"),
        _losses_of_candidates,
        _once,
    ),
    "updates": (_within("position", 0, _MOST_TOKENS), _within("rank", 0, 2**31 - 1)),
    "landscapes": (_grid, _as_long(*_PATH), _within("position", 0, _MOST_TOKENS)),
    "scores": (
        *(_within(name, 0, _MOST_SAMPLES) for name in ("right", "wrong", "undecided", "failed", "truncated")),
        *(_within(name, 0, _MOST_SAMPLES) for name in (*_VOTES, "abstained", "abstained_undecided")),
        _any_samples,
        _as_long(*_VOTES),
        _as_long("losses", "loss_values"),
        _votes,
    ),
    "steps": (_among("kind", _KINDS), _within("step", 0, 2**53)),
}
