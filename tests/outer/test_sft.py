from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from innerloop.outer.rows import Row
from innerloop.outer.sft import by_length


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 9))
def test_each_step_keeps_its_rows_and_its_parts_have_like_lengths(lengths: list[int], step: int) -> None:
    rows = [Row(f"q{i}", None, (0,) * length, (1.0,) * length) for i, length in enumerate(lengths)]
    ordered = by_length(rows, step)
    assert len(ordered) == len(rows)
    for start in range(0, len(rows), step):
        before, after = rows[start : start + step], ordered[start : start + step]
        assert {row.question_id for row in before} == {row.question_id for row in after}
        assert [len(row) for row in after] == sorted(map(len, before), reverse=True)
