"""Shards: Parquet files of whole units of work, several to a stage. They may come from somebody else."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from innerloop import parquet
from innerloop.atomic import read_file
from innerloop.parquet_bounds import BrokenError
from innerloop.schema import Curve, Landscape, Question, Score, Step, Trajectory, Update
from innerloop.shard_checks import fault

KINDS: dict[str, tuple[pa.Schema, str]] = {  # stage: the schema of its rows, the column that holds the unit's id
    "questions": (Question.SCHEMA, "id"),
    "trajectories": (Trajectory.SCHEMA, "id"),
    "curves": (Curve.SCHEMA, "trajectory_id"),
    "updates": (Update.SCHEMA, "id"),
    "landscapes": (Landscape.SCHEMA, "id"),
    "scores": (Score.SCHEMA, "id"),
    "steps": (Step.SCHEMA, "id"),
}
STAGES = tuple(KINDS)
_LARGEST = 1 << 31  # bytes


def read(shard: Path, root: Path, *, whole: bool = False) -> pa.Table | None:
    """The rows of a shard of the stage that its folder is called after, with that stage's columns.

    Nullable columns that are absent are null. ``whole``: None for a shard with other columns too. Raises what pyarrow
    raises, ``KeyError`` and ``ValueError`` for one that cannot be read or holds what its stage cannot.
    """
    schema, _ = KINDS[shard.parent.name]
    table = parquet.table(io.BytesIO(read_file(shard, root=root, most=_LARGEST)))
    if table is None:
        return schema.empty_table()
    if whole and not set(table.column_names) <= set(schema.names):
        return None
    columns = [
        table[field.name] if field.name in table.column_names or not field.nullable else pa.nulls(len(table))
        for field in schema
    ]
    table = pa.table(columns, names=schema.names).cast(schema)
    table.validate(full=True)  # texts that are not UTF-8, among others
    if said := fault(shard.parent.name, table):
        raise BrokenError(said)
    return table


def packed(stage: str, table: pa.Table) -> pa.Buffer:
    """A table as the content of a shard."""
    sink = pa.BufferOutputStream()
    pq.write_table(table.cast(KINDS[stage][0]), sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def each_once(stage: str, tables: Sequence[pa.Table]) -> pa.Table:
    """The tables as one, in their order; of a unit that stands in several, the latest."""
    schema, key = KINDS[stage]
    kept: list[pa.Table] = []
    seen = pa.array([], pa.string())
    for table in reversed(tables):
        fresh = table.filter(pc.invert(pc.is_in(table[key], value_set=seen)))
        seen = pa.concat_arrays([seen, pc.unique(fresh[key].combine_chunks())])
        kept.append(fresh)
    return pa.concat_tables(reversed(kept)) if kept else schema.empty_table()
