"""``innerloop select`` from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Ran

from innerloop.schema import Outcome
from innerloop.store import Run

Cli = Callable[..., Ran]


@pytest.fixture
def trajectories(tmp_path: Path) -> Path:
    """Four right and two wrong ones of six questions; the right ones get longer."""
    rows = [
        {
            "question_id": f"q-{i}",
            "text": f"We add {i} and {i}. " * (1 + k) + ("wrong" if k > 3 else "good") + f" way {k}",
            "answer": str(2 * i + (k > 3)),
        }
        for i in range(6)
        for k in range(6)
    ]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def select(cli: Cli, questions_file: Path, trajectories: Path, tmp_path: Path) -> Callable[..., Ran]:
    def run(*more: str | Path, out: str = "r", support: int = 2) -> Ran:
        return cli("select", "--questions", questions_file, "--trajectories", trajectories, "--support", support,
                   "--out", tmp_path / out, "--json", *more)  # fmt: skip

    return run


def chosen(folder: Path) -> list[str]:
    return [trajectory.id for trajectory in Run.open(folder).trajectories()]


def test_the_shortest_right_ones_are_written_with_their_verdicts(select: Callable[..., Ran], tmp_path: Path) -> None:
    ran = select("--by", "shortest")
    assert ran.status == 0, ran.err
    result = json.loads(ran.out)
    assert {name: result[name] for name in ("questions", "trajectories", "candidates", "left_out", "gain")} == {
        "questions": 6, "trajectories": 12, "candidates": 24, "left_out": 12, "gain": None,
    }  # fmt: skip
    assert chosen(tmp_path / "r") == [f"q-{i}/file-{k}" for i in range(6) for k in range(2)]
    run = Run.open(tmp_path / "r")
    assert {trajectory.outcome for trajectory in run.trajectories()} == {Outcome.RIGHT}
    assert run.done("questions") == {f"q-{i}" for i in range(6)}


@pytest.mark.parametrize("by", ["random", "diverse", "max-variance"])
def test_the_same_command_chooses_the_same(select: Callable[..., Ran], tmp_path: Path, by: str) -> None:
    for out in ("a", "b"):
        assert select("--by", by, "--seed", "3", out=out).status == 0
    assert chosen(tmp_path / "a") == chosen(tmp_path / "b")
    assert select("--by", by, "--seed", "3", out="a").status == 0  # again in its own folder
    assert chosen(tmp_path / "a") == chosen(tmp_path / "b")
    assert len(chosen(tmp_path / "a")) == 12


def test_another_seed_draws_others(select: Callable[..., Ran], tmp_path: Path) -> None:
    for seed in range(2):
        assert select("--by", "random", "--seed", str(seed), out=str(seed)).status == 0
    assert chosen(tmp_path / "0") != chosen(tmp_path / "1")


def test_max_variance_takes_right_and_wrong_ones(select: Callable[..., Ran], tmp_path: Path) -> None:
    assert select("--by", "max-variance", support=4).status == 0
    outcomes = [trajectory.outcome for trajectory in Run.open(tmp_path / "r").trajectories()]
    assert (outcomes.count(Outcome.RIGHT), outcomes.count(Outcome.WRONG)) == (12, 12)


def test_too_few_are_named_or_skipped(select: Callable[..., Ran], trajectories: Path, tmp_path: Path) -> None:
    lines = trajectories.read_text().splitlines(keepends=True)
    trajectories.write_text("".join(lines[2:]))  # q-0 keeps two right ones
    ran = select(support=3)
    assert ran.status == 2
    assert "--support 3: 1 of 6 questions have fewer right trajectories (q-0 has 2)" in ran.err
    assert not (tmp_path / "r" / "run.json").exists()
    ran = select("--skip-short", support=3)
    assert ran.status == 0
    assert json.loads(ran.out)["short"] == 1
    assert "q-0" not in Run.open(tmp_path / "r").done("questions")
    assert "no question has enough" in select("--skip-short", support=9, out="s").err
    assert "have fewer trajectories" in select("--keep", "all", support=9, out="s").err
    assert "have fewer judged trajectories" in select("--by", "max-variance", support=9, out="s").err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--by", "max-variance", "--keep", "right"), "right and wrong ones are needed"),
        (("--by", "longest"), "longest"),
    ],
)
def test_bad_arguments(select: Callable[..., Ran], options: tuple[str, ...], said: str) -> None:
    ran = select(*options)
    assert ran.status == 2
    assert said in ran.err


def test_a_selection_does_not_take_the_place_of_what_it_chose_from(
    cli: Cli, questions_file: Path, trajectories: Path, tmp_path: Path
) -> None:
    first = ("select", "--questions", questions_file, "--trajectories", trajectories, "--support", 2, "--out")
    assert cli(*first, tmp_path / "r").status == 0
    run = json.loads((tmp_path / "r" / "run.json").read_text())
    run["stages"]["rollout"] = run["stages"].pop("select")
    (tmp_path / "r" / "run.json").write_text(json.dumps(run))
    before = chosen(tmp_path / "r")
    ran = cli("select", "--trajectories", tmp_path / "r", "--support", 1, "--out", tmp_path / "r")
    assert ran.status == 2
    assert "holds a rollout run, and a selection needs a folder of its own" in ran.err
    assert chosen(tmp_path / "r") == before
    ran = cli("select", "--trajectories", tmp_path / "r", "--support", 1, "--out", tmp_path / "s")
    assert ran.status == 0, ran.err
    assert "6 of 12 trajectories of 6 questions" in ran.out
    assert "next: innerloop train sft" in ran.out


@pytest.mark.model
@pytest.mark.parametrize("by", ["gain", "gain-per-token"])
def test_by_gain_takes_what_the_probe_finds(
    cli: Cli, select: Callable[..., Ran], questions_file: Path, trajectories: Path, tiny_model: Path, tmp_path: Path,
    by: str,
) -> None:  # fmt: skip
    from innerloop.inner.summary import summarise

    more = ("--by", by, "--model", tiny_model, "--threads", "1")
    ran = select(*more)
    assert ran.status == 0, ran.err
    result = json.loads(ran.out)
    assert result["new_curves"] == 24
    assert cli("probe", "--questions", questions_file, "--trajectories", trajectories, "--model", tiny_model,
               "--threads", 1, "--out", tmp_path / "p").status == 0  # fmt: skip
    curves = {curve.trajectory_id: curve for curve in Run.open(tmp_path / "p").curves()}
    gains = {name: summarise(curve).gain for name, curve in curves.items()}
    worth = {name: gain / (curves[name].position[-1] if by == "gain-per-token" else 1) for name, gain in gains.items()}
    expected = []
    for i in range(6):
        expected += sorted((f"q-{i}/file-{k}" for k in range(4)), key=lambda name: -worth[name])[:2]
    assert chosen(tmp_path / "r") == expected
    assert result["gain"] == pytest.approx(sum(gains[name] for name in expected) / 12, abs=1e-5)
    right = [f"q-{i}/file-{k}" for i in range(6) for k in range(4)]
    assert result["gain_before"] == pytest.approx(sum(gains[name] for name in right) / 24, abs=1e-5)
    for curve in Run.open(tmp_path / "r").curves():
        assert curve.position == (0, curves[curve.trajectory_id].position[-1])
        assert curve.loss[0] == pytest.approx(curves[curve.trajectory_id].loss[0], abs=1e-4)
        assert curve.loss[-1] == pytest.approx(curves[curve.trajectory_id].loss[-1], abs=1e-4)
    again = select(*more)
    assert json.loads(again.out)["new_curves"] == 0
    assert "loading" not in again.err

    # The curves of a run are used, if they are of this model and of these texts.
    assert cli("probe", "--questions", questions_file, "--trajectories", trajectories, "--model", tiny_model,
               "--threads", 1, "--out", tmp_path / "p", "--json").status == 0  # fmt: skip
    words = ["select", "--trajectories", tmp_path / "p", "--support", 2, "--by", by, "--json"]
    ran = cli(*words, "--model", tiny_model, "--out", tmp_path / "s")
    assert ran.status == 0, ran.err
    assert json.loads(ran.out)["new_curves"] == 0
    assert chosen(tmp_path / "s") == expected
    ran = cli(*words, "--model", tiny_model, "--suffix", "so: ", "--out", tmp_path / "o", "--threads", 1)
    assert "its curves are not used: suffix None → so: " in ran.err
    assert json.loads(ran.out)["new_curves"] == 24


@pytest.mark.model
def test_curves_of_another_text_are_measured_again(
    select: Callable[..., Ran], trajectories: Path, tiny_model: Path, tmp_path: Path
) -> None:
    more = ("--by", "gain", "--model", tiny_model, "--threads", "1")
    assert select(*more).status == 0
    trajectories.write_text(trajectories.read_text().replace("good way 3", "best way 3"))
    ran = select(*more)
    assert ran.status == 0, ran.err
    assert json.loads(ran.out)["new_curves"] == 6


@pytest.mark.model
def test_a_selection_is_trained_on(select: Callable[..., Ran], cli: Cli, tmp_path: Path) -> None:
    from innerloop.outer.init import fresh, save

    save(*fresh("tiny", "characters", 0), tmp_path / "m")
    assert select("--by", "diverse").status == 0
    ran = cli("train", "sft", "--model", tmp_path / "m", "--trajectories", tmp_path / "r", "--support", 2,
              "--passes", 2, "--batch-size", 4, "--out", tmp_path / "t", "--threads", 1, "--json")  # fmt: skip
    assert ran.status == 0, ran.err
    assert json.loads(ran.out)["rows"] == 12
    assert json.loads(ran.out)["steps"] == 3


def test_a_curve_of_a_thinking_text_ends_with_its_delimiter() -> None:
    from innerloop.schema import Source, Trajectory
    from innerloop.testing.runs import curve
    from innerloop.verbs.select import _is_of

    told = Trajectory(id="q/thinking-0", question_id="q", text="one two", source=Source.SAMPLE)
    texts = {told.id: told.text}
    whole = curve(told, ["\n", "one", " two", "\n", "</think>"], [3.0] * 6)
    assert _is_of(whole, texts, {"</think>"})
    assert not _is_of(whole, texts, {"[/THINK]"})
    assert _is_of(curve(told, ["one", " two"], [3.0] * 3), texts, {"</think>"})
    assert not _is_of(curve(told, ["\n", "one"], [3.0] * 3), texts, {"</think>"})
    assert not _is_of(curve(told, ["one", " two", " three"], [3.0] * 4), texts, {"</think>"})
