"""The training section's data: the records' own numbers, several runs, words that follow from them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Ran

from innerloop.errors import InputError
from innerloop.report.data import collect
from innerloop.report.page import write
from innerloop.report.training import MOST_POINTS
from innerloop.report.view import view
from innerloop.schema import Step
from innerloop.testing.runs import made_up, write_run
from innerloop.testing.trainings import made_up_steps, write_training
from innerloop.verbs.report import ReportSettings, report

HOSTILE = "</script><img src=x onerror=alert(1)>{{7*7}}\u202e"


def section(run: Path, *beside: Path) -> dict[str, Any]:
    return collect(run, beside).sections["training"]


def test_every_number_is_that_of_the_records(tmp_path: Path) -> None:
    steps = made_up_steps(steps=40, looks=5)
    data = section(write_training(tmp_path / "R", steps))
    (run,) = data["runs"]
    for kind in ("train", "watch"):
        own = [step for step in steps if step.kind == kind]
        assert run[kind]["step"] == [step.step for step in own]
        assert run[kind]["minutes"] == pytest.approx([step.seconds / 60 for step in own], rel=1e-5)
        assert run[kind]["tokens"] == [1000 * step.step for step in own]
        assert set(run[kind]["values"]) == set(dict(own[0].metrics))
        for name, values in run[kind]["values"].items():
            assert values == pytest.approx([dict(step.metrics)[name] for step in own], rel=1e-5)
    assert data["tokens"]
    drawn = {name for figure in data["figures"] for name in (*figure["metrics"], *figure["band"])}
    everything = {name for step in steps for name, _ in step.metrics}
    watched = {name for name in everything if name.startswith("watch_")}
    assert drawn | set(data["others"]) == everything
    assert watched <= drawn
    assert data["others"] == ["num_tokens", "step_time"]
    by_key = {figure["key"]: figure for figure in data["figures"]}
    assert by_key["watch-pass"]["band"] == ["watch_pass@1_low", "watch_pass@1_high"]
    assert by_key["reward"]["band"] == ["reward_std"]
    assert "kl" not in by_key


def test_the_table_has_the_ends_and_the_extremes(tmp_path: Path) -> None:
    steps = made_up_steps(steps=30, looks=0)
    rows = {row["measure"]: row for row in section(write_training(tmp_path / "R", steps))["rows"]}
    rewards = [dict(step.metrics)["reward"] for step in steps]
    shown = [float(text.replace("−", "-")) for text in rows["Reward"]["numbers"]]
    assert shown == pytest.approx([rewards[0], rewards[-1], min(rewards), max(rewards)], rel=1e-3)
    assert rows["Reward"]["steps"] == (1, 30)
    assert rows["Rollouts, right answer"]["numbers"][1] == "0.8"


def test_a_long_training_is_thinned_and_keeps_its_end(tmp_path: Path) -> None:
    steps = made_up_steps(steps=2 * MOST_POINTS + 2, looks=2, reward=False)
    run = section(write_training(tmp_path / "R", steps, recipe="sft"))["runs"][0]
    assert run["train"]["every"] == 3
    assert run["train"]["step"][:2] == [1, 4]
    assert run["train"]["step"][-1] == 2 * MOST_POINTS + 2
    assert len(run["train"]["step"]) == len(run["train"]["values"]["loss"]) <= MOST_POINTS
    assert run["watch"]["step"] == [0, 2 * MOST_POINTS + 2]


def test_numbers_that_are_none_or_missing_stay_open(tmp_path: Path) -> None:
    steps = made_up_steps(steps=3, looks=0)
    metrics = dict(steps[1].metrics)
    steps[1] = dataclasses.replace(
        steps[1],
        metrics=tuple(
            (name, math.nan if name == "entropy" else value) for name, value in metrics.items() if name != "reward"
        ),
    )
    values = section(write_training(tmp_path / "R", steps))["runs"][0]["train"]["values"]
    assert values["entropy"][1] is None
    assert values["reward"][1] is None
    assert values["reward"][0] is not None
    write(tmp_path / "R")  # JSON knows no NaN


def test_families_are_lines_of_their_own(tmp_path: Path) -> None:
    steps = made_up_steps(steps=5, looks=2, reward=False, families=("gcd", "lcm"))
    data = section(write_training(tmp_path / "R", steps, recipe="meta"))
    by_key = {figure["key"]: figure for figure in data["figures"]}
    assert by_key["families"]["metrics"] == ["loss/gcd", "loss/lcm"]
    assert by_key["families"]["labels"] == ["gcd", "lcm"]
    assert by_key["watch-pass"]["labels"] == ["all", "gcd", "lcm"]


def test_runs_are_overlaid_with_names_that_tell_them_apart(tmp_path: Path) -> None:
    first = write_training(tmp_path / "a" / "R", made_up_steps(steps=9, looks=2))
    second = write_training(tmp_path / "b" / "R", made_up_steps(steps=4, looks=0, reward=False), recipe="sft")
    third = write_training(tmp_path / "T", made_up_steps(steps=2, looks=0))
    data = section(first, second, third)
    assert [run["name"] for run in data["runs"]] == [str(first), str(second), "T"]
    assert [run["recipe"] for run in data["runs"]] == ["grpo", "sft", "grpo"]
    assert [len(run["train"]["step"]) for run in data["runs"]] == [9, 4, 2]
    assert "reward" not in data["runs"][1]["train"]["values"]
    assert {row["run"] for row in data["rows"] if row["measure"] == "Reward"} == {str(first), "T"}
    assert all(said.startswith((f"{first}: ", f"{second}: ", "T: ")) for said in data["statements"])
    result = report(ReportSettings(first, (second, third)))
    assert result.statements == tuple(data["statements"])
    with pytest.raises(InputError, match="holds no training"):
        collect(first, (write_run(tmp_path / "none", *made_up(questions=1, tokens=3)),))


def test_several_runs_from_the_command_line(cli: Callable[..., Ran], tmp_path: Path) -> None:
    runs = [write_training(tmp_path / name, made_up_steps(steps=4, looks=1)) for name in "ABC"]
    ran = cli("report", *runs, "--json")
    assert ran.status == 0, ran.err
    told = json.loads(ran.out)
    assert told["page"] == str(tmp_path / "A" / "report.html")
    assert [said[0] for said in told["statements"] if "trained by grpo: 4 steps" in said] == ["A", "B", "C"]
    nothing = cli("report", runs[0], tmp_path)
    assert (nothing.status, "not a run folder" in nothing.err) == (2, True)


def test_the_words_are_those_of_the_numbers(tmp_path: Path) -> None:
    said = section(write_training(tmp_path / "R", made_up_steps(steps=200, looks=5)))["statements"]
    assert said[0] == "Trained by grpo: 200 steps in 3.3 minutes, 200,000 tokens."
    assert said[1] == (
        "pass@1 on held-out questions rose from 0.20 [0.12, 0.28] at step 0 to 0.50 [0.42, 0.58] at step 200; "
        "the intervals do not meet."
    )
    assert any(line.startswith("The mean reward rose from −0.7") for line in said)
    assert "The entropy fell from 0.94 to 0.35 (first and last tenth)." in said
    assert not any("teach nothing" in line or "collapsed" in line for line in said)


def test_cautions(tmp_path: Path) -> None:
    def worse(step: Step) -> Step:
        way = step.step / 40
        bad = {"frac_reward_zero_std": way, "completions/clipped_ratio": way, "entropy": 1 - 0.99 * way}
        return dataclasses.replace(step, metrics=tuple((dict(step.metrics) | bad).items()))

    steps = [worse(step) for step in made_up_steps(steps=40, looks=0)]
    said = " ".join(section(write_training(tmp_path / "R", steps))["statements"])
    assert "teach nothing" in said
    assert "met the token limit" in said
    assert "entropy has collapsed" in said


def test_a_training_alone_makes_a_page_and_others_have_no_such_section(tmp_path: Path) -> None:
    run = write_training(tmp_path / "R", made_up_steps(steps=3, looks=1))
    assert [part.key for part in collect(run).shown] == ["training"]
    html = write(run).read_text(encoding="utf-8")
    assert "no trajectories yet" not in html
    assert write(run).read_bytes() == html.encode()
    other = write_run(tmp_path / "S", *made_up(questions=1, tokens=4))
    assert "training" not in [part.key for part in collect(other).shown]
    assert view(other).trainings == ()


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    steps = made_up_steps(steps=3, looks=2, reward=False, families=(HOSTILE,))
    html = write(write_training(tmp_path / "R", steps, recipe="meta")).read_text(encoding="utf-8")
    assert "<img" not in html.partition("<body>")[2].partition('<script type="text/plain"')[0]


def test_a_live_page_asks_to_be_loaded_again(tmp_path: Path) -> None:
    run = write_training(tmp_path / "R", made_up_steps(steps=3, looks=0))
    assert 'http-equiv="refresh"' not in write(run).read_text(encoding="utf-8")
    assert '<meta http-equiv="refresh" content="30">' in write(run, reload=30.0).read_text(encoding="utf-8")
