"""Which questions GRPO asks in which step: whole steps, and no question less often than asked for."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.schema import Question
from innerloop.verbs.train.grpo import GrpoSettings, _in_whole_steps


def order(count: int, step: int, passes: int) -> list[str]:
    settings = GrpoSettings(model="m", questions="q.jsonl", group=2, batch_size=2 * step, passes=passes)
    return _in_whole_steps(settings, [Question(id=f"q{i}", question="?", answer="1") for i in range(count)])


@given(count=st.integers(1, 20), step=st.integers(1, 12), passes=st.integers(1, 4))
def test_steps_are_whole_and_no_question_is_dropped(count: int, step: int, passes: int) -> None:
    found = order(count, step, passes)
    assert len(found) % step == 0
    assert 0 <= len(found) - passes * count < step
    asked = Counter(found)
    assert len(asked) == count
    assert min(asked.values()) >= passes
    assert max(asked.values()) - min(asked.values()) <= 1, "a further pass asks each question once"


def test_three_questions_train_in_a_step_of_eight(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="innerloop")
    assert len(order(3, 8, 1)) == 8
    assert "the last step is filled from a further pass: 3 questions to ask, 8 in a step" in caplog.text
