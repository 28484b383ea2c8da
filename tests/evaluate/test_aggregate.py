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


def run_with_controls(gain_of):
    """Curves of two sources over ten questions, each trajectory with its shuffle; ``gain_of(question, name)``."""
    rows = []
    for q in range(10):
        for name, source, outcome in (
            ("solution", Source.SOLUTION, None),
            ("sample-0", Source.SAMPLE, Outcome.RIGHT),
            ("sample-1", Source.SAMPLE, Outcome.WRONG),
        ):
            of = trajectory(f"q{q}", name, source, outcome)
            control = trajectory(f"q{q}", f"{name}/shuffled", Source.SHUFFLED)
            rows += [(t, 3.0, 3.0 - gain_of(q, t.id.partition("/")[2])) for t in (of, control)]
    return aggregate([curve(t, s, e) for t, s, e in rows], [t for t, _, _ in rows])


def test_no_gain_over_its_own_control_is_reported_as_none():
    # Solutions gain just what their shuffles gain; samples gain, their shuffles lose, so that all shuffles pooled gain
    # 1.5 less than the solutions.
    own = {"solution": 2.0, "sample-0": 1.0, "sample-1": 0.5, "sample-0/shuffled": -0.5, "sample-1/shuffled": 0.0}
    result = run_with_controls(lambda q, name: own.get(name, 2.0) + 0.01 * q)
    shown = {(d.minuend.label, d.subtrahend.label): d.gain for d in result.differences}
    assert {names: gain.mean for names, gain in shown.items()} == {
        ("Samples, right", "Samples, wrong"): pytest.approx(0.5),
        ("Worked solutions", "Control: shuffled tokens (worked solutions)"): pytest.approx(0.0, abs=1e-12),
        ("Samples, right", "Control: shuffled tokens (samples)"): pytest.approx(1.5),
        ("Samples, wrong", "Control: shuffled tokens (samples)"): pytest.approx(0.5),
    }
    solutions = shown["Worked solutions", "Control: shuffled tokens (worked solutions)"]
    assert solutions.paired
    assert not solutions.excludes(0)
    assert (solutions.questions, solutions.values) == (10, 10)
    assert len({g.group.key for g in result.groups}) == len(result.groups) == 5


def test_a_difference_pairs_each_trajectory_with_its_own_control():
    # Gains vary by whole nats from question to question, and each control's with its trajectory's: paired they differ
    # by exactly 0.1, whatever the spread.
    gain = run_with_controls(lambda q, name: q - (0.1 if name.endswith("shuffled") else 0.0)).differences[1].gain
    assert gain.mean == pytest.approx(0.1)
    assert gain.high - gain.low < 1e-9


def test_a_control_whose_trajectory_is_not_there_is_a_group_without_a_difference():
    rows = [trajectory("a", "solution", Source.SOLUTION), trajectory("a", "lost/shuffled", Source.SHUFFLED)]
    result = aggregate([curve(t, 3, 1) for t in rows], rows)
    assert [g.group.label for g in result.groups] == ["Worked solutions", "Control: shuffled tokens"]
    assert result.differences == ()


def test_modes_are_apart_where_a_source_has_both():
    thinking = trajectory("a", "thinking-0", Source.SAMPLE, Outcome.RIGHT, Mode.THINKING)
    not_thinking = trajectory("a", "no-thinking-0", Source.SAMPLE, Outcome.RIGHT, Mode.NO_THINKING)
    result = aggregate([curve(thinking, 2, 1), curve(not_thinking, 2, 2)], [thinking, not_thinking])
    assert [g.group.label for g in result.groups] == ["Samples, thinking, right", "Samples, no-thinking, right"]


def test_trajectories_without_a_curve_are_left_out():
    probed, unprobed = trajectory("a", "file-0", Source.FILE), trajectory("a", "file-1", Source.FILE)
    [group] = aggregate([curve(probed, 1, 0)], [probed, unprobed]).groups
    assert group.trajectories == 1
