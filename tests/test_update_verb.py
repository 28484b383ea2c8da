"""``innerloop update`` through the real command line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from innerloop.errors import InputError
from innerloop.ids import file_names
from innerloop.store import Run
from innerloop.verbs.update import UpdateSettings, parse_positions

Cli = Callable[..., Any]


@pytest.mark.parametrize(
    ("text", "length", "expected"),
    [
        ("end", 7, (7,)),
        ("all", 3, (0, 1, 2, 3)),
        ("every:3", 7, (0, 3, 6, 7)),
        ("every:3", 6, (0, 3, 6)),
        ("parts:2", 7, (3, 7)),
        ("parts:3", 1, (0, 1)),
        ("9,0,4", 5, (0, 4, 9)),
    ],
)
def test_positions(text, length, expected):
    assert parse_positions(text, length) == expected


@pytest.mark.parametrize("text", ["", "every", "every:0", "parts:0", "every:-1", "1,,2", "last", "1.5"])
def test_positions_that_make_no_sense(text):
    with pytest.raises(InputError, match=r"--positions .*: write end, all, every:N"):
        UpdateSettings(positions=text)


def test_names_of_adapter_folders_differ():
    assert list(file_names(["q/1", "q 1", "q-1", "../..", "ü"], "adapter")) == ["q-1", "q-1-2", "q-1-3", "adapter", "ü"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gauge": "paper", "scope": "answer"}, "--scope answer: gauge paper"),
        ({"merge": True}, "--merge: say with --save-adapter"),
        ({"gauge": "paper", "save_adapter": Path("A")}, "--save-adapter: gauge paper is no exact patch"),
        ({"gauge": "atention"}, "--gauge atention: did you mean attention"),
    ],
)
def test_settings_that_contradict_each_other(settings, message):
    with pytest.raises(InputError, match=message):
        UpdateSettings(**settings)


@pytest.fixture
def arguments(tiny_model: Path, questions_file: Path, tmp_path: Path) -> list[str]:
    return [
        *("update", "--model", str(tiny_model), "--threads", "1", "--questions", str(questions_file)),
        *("--positions", "parts:3", "--out", str(tmp_path / "R")),
    ]


@pytest.mark.model
def test_everything_is_stored_and_the_second_time_there_is_nothing_to_do(cli: Cli, arguments, tmp_path):
    more = ["--controls", "shuffled", "--controls", "filler", "--controls", "other-question", "--untrained"]
    first = cli(*arguments, *more, "--json")
    assert first.status == 0, first.err
    told = json.loads(first.out.splitlines()[-1])
    run = Run.open(tmp_path / "R")
    updates = run.updates()
    trajectories = run.trajectories()
    kinds = {t.source.value for t in trajectories}
    assert kinds == {"solution", "shuffled", "filler", "other-question"}
    assert {u.id for u in updates if not u.untrained} == {t.id for t in trajectories}
    assert {u.trajectory_id for u in updates if u.untrained} == {t.id for t in trajectories if t.source == "solution"}
    assert all(u.residual < 1e-3 for u in updates)
    assert all(u.predicted is not None and u.causal_predicted is not None for u in updates)
    assert told["positions"] == sum(not u.untrained for u in updates)
    assert told["residual"] == max(u.residual for u in updates if not u.untrained)
    assert {row["group"] for row in told["alignment"]} >= {"Worked solutions", "Control: filler"}

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "R" / "updates").iterdir()}
    again = cli(*arguments, *more)
    assert again.status == 0
    assert "nothing to do" in again.err
    assert "loading" not in again.err
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "R" / "updates").iterdir()} == before


@pytest.mark.model
def test_loss_of_an_update_is_the_probes_loss(cli: Cli, arguments, tmp_path):
    assert cli(*arguments, "--alignment", "none").status == 0
    probe = ["probe", *arguments[1:7], "--out", str(tmp_path / "P")]
    assert cli(*probe).status == 0
    losses = {
        (curve.trajectory_id, position): loss
        for curve in Run.open(tmp_path / "P").curves()
        for position, loss in zip(curve.position, curve.loss, strict=True)
    }
    updates = Run.open(tmp_path / "R").updates()
    assert updates
    for record in updates:
        assert record.loss == pytest.approx(losses[record.trajectory_id, record.position], abs=1e-4)
        assert record.predicted is None


@pytest.mark.model
@pytest.mark.parametrize("gauge", ["mlp", "paper"])
def test_other_gauges(cli: Cli, arguments, tmp_path, gauge):
    ran = cli(*arguments, "--gauge", gauge, "--alignment", "first")
    assert ran.status == 0, ran.err
    for record in Run.open(tmp_path / "R").updates():
        assert record.gauge == gauge
        assert record.predicted is not None
        assert record.step_predicted is None
        assert (record.layer_error is not None) == (gauge == "paper")


@pytest.mark.model
def test_adapters_one_per_trajectory_or_merged_per_question(cli: Cli, arguments, tmp_path):
    ran = cli(*arguments, "--alignment", "none", "--save-adapter", tmp_path / "A")
    assert ran.status == 0, ran.err
    questions = Run.open(tmp_path / "R").questions()
    folders = sorted(path.name for path in (tmp_path / "A").iterdir())
    assert len(folders) == len(questions) > 1
    for folder in folders:
        assert (tmp_path / "A" / folder / "adapter_config.json").is_file()
        assert (tmp_path / "A" / folder / "adapter_model.safetensors").is_file()
    again = cli(*arguments, "--alignment", "none", "--save-adapter", tmp_path / "A")
    assert again.status == 2
    assert re.search(r"adapter folder '.*A' exists already", again.err)
    merged = cli(*arguments, "--alignment", "none", "--save-adapter", tmp_path / "M", "--merge", "--limit", "1")
    assert merged.status == 2, "--limit differs from the run in the folder"
    other = [*arguments[:-1], str(tmp_path / "R1")]
    assert cli(*other, "--alignment", "none", "--save-adapter", tmp_path / "M", "--merge", "--limit", "1").status == 0
    assert (tmp_path / "M" / "adapter_config.json").is_file(), "one adapter goes into the folder itself"


@pytest.mark.model
def test_a_position_beyond_a_trajectory_leaves_no_folder(cli: Cli, arguments, tmp_path):
    ran = cli(*["0,4000" if word == "parts:3" else word for word in arguments])
    assert ran.status == 2
    assert re.search(r"/solution: position 4000 lies outside 0…\d+", ran.err)
    assert len([line for line in ran.err.splitlines() if "loading" not in line]) == 1
    assert not (tmp_path / "R").exists()


@pytest.mark.model
def test_killed_and_started_again_it_loses_and_doubles_nothing(cli: Cli, arguments, tmp_path):
    code = (
        "import sys, time, innerloop.verbs.shards as shards; shards.SHARD_SECONDS = 0\n"
        "from innerloop.inner import update as module; real = module.update\n"
        "def slow(*args, **options):\n"
        "    for made in real(*args, **options):\n"
        "        yield made\n"
        "        time.sleep(0.5)\n"
        "module.update = slow\n"
        "from innerloop.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], env=os.environ | {"OMP_NUM_THREADS": "1"})
    folder = tmp_path / "R" / "updates"
    deadline = time.monotonic() + 120
    while not list(folder.glob("*.parquet")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {record.id for record in Run.open(tmp_path / "R").updates()}
    ran = cli(*arguments)
    assert ran.status == 0, ran.err
    run = Run.open(tmp_path / "R")
    assert done < {trajectory.id for trajectory in run.trajectories()} == {record.id for record in run.updates()}
    rows = run.read("updates").num_rows
    assert rows == len(run.updates()) == len({(r.id, r.position) for r in run.updates()})
