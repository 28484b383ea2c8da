"""The score of a run that goes on: that of the table at the end, as far as it has come."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest

from innerloop.evaluate.resample import intervals
from innerloop.evaluate.running import RunningScore
from innerloop.schema import Mode, Outcome, Question, Source, Trajectory


def questions(count, template=None):
    metadata = [None if template is None else f'{{"template": {i // template}}}' for i in range(count)]
    return [Question(id=f"q-{i}", question="?", answer="1", metadata=metadata[i]) for i in range(count)]


def judged(question, right, mode=Mode.PLAIN, number=0):
    outcome = {True: Outcome.RIGHT, False: Outcome.WRONG}.get(right, right)
    name = f"{question.id}/{mode}-{number}"
    return Trajectory(
        id=name, question_id=question.id, text="", source=Source.SAMPLE, mode=mode, sample=number, outcome=outcome
    )


def numbers(text):
    return [int(part) for part in re.findall(r"\d+", text)]


def test_nothing_is_said_before_the_first_verdict():
    asked = questions(2)
    score = RunningScore(asked)
    assert score.text() == ""
    score.add(judged(asked[0], None))
    score.add(judged(asked[0], Outcome.UNDECIDED))
    assert score.text() == ""
    score.add(judged(asked[0], True))
    assert score.text() == "100 % right", "one question has no interval"


def test_it_is_the_mean_of_the_questions_with_their_interval():
    asked = questions(40)
    score = RunningScore(asked)
    for i, question in enumerate(asked):
        for number in range(4):
            score.add(judged(question, number < i % 5, number=number))
        score.add(judged(question, Outcome.UNDECIDED, number=5))
    values = np.array([[min(i % 5, 4) / 4] for i in range(40)])
    (span,) = intervals(values, resamples=99_999)
    mean, low, high = numbers(score.text())
    assert mean == 50
    assert low == pytest.approx(100 * span.low, abs=2)
    assert high == pytest.approx(100 * span.high, abs=2)


def test_all_wrong_so_far_is_no_proof_of_zero():
    asked = questions(10)
    score = RunningScore(asked)
    for question in asked:
        score.add(judged(question, False))
    assert score.text() == "0 % [0, 31] right", "1 − 0.025^(1/10)"


def test_questions_of_one_template_make_the_interval_wider():
    width = []
    for template in (None, 5):
        asked = questions(20, template)
        score = RunningScore(asked)
        for i, question in enumerate(asked):
            score.add(judged(question, i < 10))
        _, low, high = numbers(score.text())
        width.append(high - low)
    assert width[1] > 1.5 * width[0]


def test_modes_are_told_apart():
    asked = questions(1)
    score = RunningScore(asked)
    score.add(judged(asked[0], True, Mode.THINKING))
    score.add(judged(asked[0], False, Mode.NO_THINKING))
    assert score.text() == "thinking 100 %, no-thinking 0 % right"


@pytest.mark.slow
def test_looking_all_the_time_costs_little():
    asked = questions(2000)
    score = RunningScore(asked)
    start = time.process_time()
    looking = 0.0
    while time.process_time() - start < 1.0:
        for question in asked[:50]:
            score.add(judged(question, True))
        before = time.process_time()
        score.text()
        looking += time.process_time() - before
    assert looking < 0.6
