import pytest

from innerloop.evaluate.aggregate import aggregate
from innerloop.schema import Curve, Mode, Outcome, Source, Trajectory


def trajectory(question, name, source, outcome=None, mode=Mode.PLAIN):
    return Trajectory(
        id=f"{question}/{name}", question_id=question, text="t", source=source, outcome=outcome, mode=mode
    )


def curve(of, start, end):
    return Curve(
        question_id=of.question_id,
        trajectory_id=of.id,
        position=(0, 1),
        token_id=(None, 5),
        token=(None, "t"),
        loss=(start, end),
        answer_tokens=1,
    )


def test_groups_means_and_differences():
    rows = [
        (trajectory("a", "sample-0", Source.SAMPLE, Outcome.RIGHT), 3.0, 1.0),
        (trajectory("a", "sample-1", Source.SAMPLE, Outcome.RIGHT), 3.0, 3.0),
        (trajectory("a", "sample-2", Source.SAMPLE, Outcome.WRONG), 3.0, 4.0),
        (trajectory("b", "sample-0", Source.SAMPLE, Outcome.RIGHT), 2.0, 0.0),
        (trajectory("b", "sample-1", Source.SAMPLE, Outcome.WRONG), 2.0, 2.0),
        (trajectory("a", "solution", Source.SOLUTION, Outcome.RIGHT), 3.0, 0.0),
        (trajectory("a", "solution/shuffled", Source.SHUFFLED), 3.0, 2.5),
    ]
    result = aggregate([curve(t, s, e) for t, s, e in rows], [t for t, _, _ in rows])
    gains = {g.group.label: (g.gain.mean, g.trajectories, g.gain.questions) for g in result.groups}
    assert gains == {
        "Worked solutions": (3.0, 1, 1),
        "Samples, right": (pytest.approx(1.5), 3, 2),  # question a: (2 + 0)/2 = 1, question b: 2
        "Samples, wrong": (pytest.approx(-0.5), 2, 2),
        "Control: shuffled tokens": (0.5, 1, 1),
    }
    differences = {(d.minuend.label, d.subtrahend.label): d.gain for d in result.differences}
    assert set(differences) == {
        ("Samples, right", "Samples, wrong"),
        ("Worked solutions", "Control: shuffled tokens"),
    }
    right_wrong = differences["Samples, right", "Samples, wrong"]
    assert right_wrong.paired
    assert right_wrong.mean == pytest.approx(2.0)  # paired: (1 − −1 + 2 − 0)/2


def test_modes_are_apart_where_a_source_has_both():
    thinking = trajectory("a", "thinking-0", Source.SAMPLE, Outcome.RIGHT, Mode.THINKING)
    not_thinking = trajectory("a", "no-thinking-0", Source.SAMPLE, Outcome.RIGHT, Mode.NO_THINKING)
    result = aggregate([curve(thinking, 2, 1), curve(not_thinking, 2, 2)], [thinking, not_thinking])
    assert [g.group.label for g in result.groups] == ["Samples, thinking, right", "Samples, no-thinking, right"]


def test_trajectories_without_a_curve_are_left_out():
    probed, unprobed = trajectory("a", "file-0", Source.FILE), trajectory("a", "file-1", Source.FILE)
    [group] = aggregate([curve(probed, 1, 0)], [probed, unprobed]).groups
    assert group.trajectories == 1
