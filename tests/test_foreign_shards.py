"""Shards that somebody else wrote: whatever stands in them, a page is made, or one line says what is wrong."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from innerloop.report.data import collect
from innerloop.report.embed import json_block
from innerloop.schema import Curve, Landscape, Mode, Outcome, Question, Score, Source, Status, Step, Trajectory, Update
from innerloop.testing.runs import made_up, made_up_landscapes, made_up_updates, write_run

KINDS: dict[str, Any] = {
    "questions": Question,
    "trajectories": Trajectory,
    "curves": Curve,
    "updates": Update,
    "landscapes": Landscape,
    "scores": Score,
    "steps": Step,
}
STORIES = ((Source.SOLUTION, None, 0.4), (Source.SAMPLE, Outcome.WRONG, 2.6))
EXAMPLES = int(os.environ.get("INNERLOOP_EXAMPLES", "15"))
FLOATS = st.floats(width=32) | st.sampled_from([math.nan, math.inf, -math.inf, 3e38, -0.0])
INTEGERS = st.integers(-3, 5) | st.sampled_from([2**31 - 1, -(2**31)])
TEXTS = st.sampled_from(["", "q-0", "q-1", "a/../../b", "x" * 300, "\x00\n\x1b[31m", "</script>", "ü\u2028"])
LISTED = {
    "source": list(Source),
    "mode": list(Mode),
    "status": list(Status),
    "outcome": list(Outcome),
    "kind": ["train", "watch"],
    "trajectory_id": ["q-0/solution-0", "q-1/sample-1", "q-9"],
    "question_id": ["q-0", "q-1", "q-9"],
    "plane": ["path", "path-line", "gradient-line", "random-filter", "anything"],
    "gauge": ["attention", "mlp", "paper", "none such"],
}


def values(field: pa.Field) -> st.SearchStrategy[Any]:
    """Values of a column, mostly of the kind that it may have."""
    kind = field.type
    if pa.types.is_string(kind):
        found = st.sampled_from(LISTED[field.name]) if field.name in LISTED else TEXTS
    elif pa.types.is_boolean(kind):
        found = st.booleans()
    elif pa.types.is_integer(kind):
        found = INTEGERS
    elif pa.types.is_floating(kind):
        found = FLOATS
    elif pa.types.is_map(kind):
        names = st.sampled_from(["loss", "reward", "watch_pass@1", "watch_pass@1_low", "num_tokens", "loss/x", ""])
        found = st.lists(st.tuples(names, FLOATS), max_size=4)
    else:
        found = st.lists(values(kind.value_field), max_size=3)
    return found | st.none() if field.nullable else found


@pytest.fixture(scope="module", params=KINDS)
def stage(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def run(stage: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two questions with what belongs to the stage; curves take a page most of its time."""
    asked, told, curves = made_up(questions=2, tokens=1, kinds=STORIES)
    updates = made_up_updates(told, curves)
    landscapes = made_up_landscapes(asked, updates) if stage == "landscapes" else []
    folder = tmp_path_factory.mktemp("runs") / "R"
    if stage not in ("curves", "trajectories"):
        curves = []
    return write_run(folder, asked, told, curves, updates=updates if stage == "updates" else [], landscapes=landscapes)


@pytest.mark.slow
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_row_of_the_right_kind_makes_a_page_or_is_left_out(run: Path, stage: str, data: st.DataObject) -> None:
    schema = KINDS[stage].SCHEMA
    row = st.fixed_dictionaries({field.name: values(field) for field in schema})
    table = pa.Table.from_pylist(data.draw(st.lists(row, min_size=1, max_size=3)), schema=schema)
    shard = run / stage / "00777.parquet"
    shard.parent.mkdir(exist_ok=True)
    pq.write_table(table, shard)
    try:
        page = collect(run)
        assert all(map(json_block, page.blocks.values()))
    finally:
        shard.unlink()
