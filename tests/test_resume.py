"""Interrupted in any way and started again, a run loses nothing and doubles nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from innerloop.schema import Curve, Trajectory
from innerloop.store import Run

pytestmark = pytest.mark.model
Cli = Callable[..., Any]

# Every finished unit is written at once, so that there is something to lose and to double within a second.
EAGER = "import sys, innerloop.verbs.shards as shards; shards.SHARD_SECONDS = 0; from innerloop.cli import main; "
SLOW_CURVES = (
    "import time; from innerloop.inner import probe as module; real = module.probe\n"
    "def slow(*args, **options):\n"
    "    for curve in real(*args, **options):\n"
    "        yield curve\n"
    "        time.sleep(0.2)\n"
    "module.probe = slow\n"
)
SLOW_SAMPLES = (
    "import time; from innerloop.rollout import sample as module; real = module.sample\n"
    "def slow(*args, **options):\n"
    "    for trajectory in real(*args, **options):\n"
    "        yield trajectory\n"
    "        time.sleep(0.2)\n"
    "module.sample = slow\n"
)


def start(slow: str, arguments: list[str]) -> subprocess.Popen[str]:
    code = f"{EAGER}\n{slow}sys.exit(main(sys.argv[1:]))"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def stop_after(process: subprocess.Popen[str], folder: Path, shards: int, how: signal.Signals) -> None:
    """Send the signal as soon as so many shards are there."""
    deadline = time.monotonic() + 120
    while len(list(folder.glob("*.parquet"))) < shards:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no shard was written"
        time.sleep(0.01)
    process.send_signal(how)


def rows(folder: Path) -> int:
    """Rows in all shards as they lie there, doubled ones counted twice."""
    return sum(pyarrow.parquet.read_metadata(shard).num_rows for shard in folder.glob("*.parquet"))


@pytest.fixture
def probe_arguments(tiny_model: Path, questions_file: Path) -> list[str]:
    return [
        *("probe", "--model", str(tiny_model), "--threads", "1", "--questions", str(questions_file)),
        *("--trajectories", "solutions", "--controls", "shuffled", "--every", "3", "--out"),
    ]


@pytest.fixture
def slow_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time enough between two curves to write the first."""
    from innerloop.inner import probe as module

    real = module.probe

    def slow(*args: Any, **options: Any) -> Iterator[Curve]:
        for curve in real(*args, **options):
            yield curve
            time.sleep(0.2)

    monkeypatch.setattr(module, "probe", slow)
    monkeypatch.setattr("innerloop.verbs.shards.SHARD_SECONDS", 0)


@pytest.fixture
def whole(cli: Cli, tmp_path: Path, probe_arguments: list[str]) -> dict[str, Curve]:
    """The curves of a run that nobody interrupted."""
    ran = cli(*probe_arguments, tmp_path / "whole")
    assert ran.status == 0, ran.err
    return {curve.trajectory_id: curve for curve in Run.open(tmp_path / "whole").curves()}


def same(found: list[Curve], expected: dict[str, Curve]) -> None:
    assert {curve.trajectory_id for curve in found} == expected.keys()
    assert len(found) == len(expected)
    for curve in found:
        other = expected[curve.trajectory_id]
        assert curve.position == other.position
        assert curve.token == other.token
        assert curve.loss == pytest.approx(other.loss, abs=1e-4)


@pytest.mark.parametrize("shards", [1, 4])
def test_a_killed_probe_goes_on_where_it_was(
    cli: Cli, tmp_path: Path, probe_arguments: list[str], whole: dict[str, Curve], tiny_model: Path, shards: int
) -> None:
    out = tmp_path / "R"
    process = start(SLOW_CURVES, [*probe_arguments, str(out)])
    stop_after(process, out / "curves", shards, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    before = Run.open(out).done("curves")
    assert shards <= len(before) < len(whole), "it was killed midway"
    assert Run.open(out).manifest["stages"]["probe"]["status"] == "running"

    ran = cli(*probe_arguments, out, "--json")
    assert ran.status == 0, ran.err
    result = json.loads(ran.out)
    assert result["new_curves"] == len(whole) - len(before)
    same(Run.open(out).curves(), whole)
    assert rows(out / "curves") == sum(len(curve.position) for curve in whole.values())
    assert rows(out / "trajectories") == len(whole)
    assert rows(out / "questions") == 6


def test_the_same_command_again_does_no_model_work(
    cli: Cli, tmp_path: Path, tiny_model: Path, questions_file: Path
) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    common = ["--model", model, "--threads", "1", "--out", tmp_path / "R"]
    sample = ["rollout", "--questions", questions_file, "--limit", "2", "--max-tokens", "6", *common]
    probe = ["probe", "--questions", questions_file, "--limit", "2", "--trajectories", "solutions"]
    probe += ["--trajectories", tmp_path / "R", "--controls", "shuffled", "--every", "9", *common]
    for arguments in (sample, probe):
        assert cli(*arguments).status == 0
    shutil.rmtree(model)  # what is not there cannot be loaded
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "R").rglob("*.parquet")}
    ran = cli(*sample)
    assert (ran.status, ran.err) == (
        0,
        f"innerloop: nothing to do: {tmp_path / 'R'} holds all 2 trajectories of this command\n",
    )
    ran = cli(*probe)
    assert ran.status == 0
    assert f"nothing to do: {tmp_path / 'R'} holds all " in ran.err
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "R").rglob("*.parquet")} == files


def test_an_interrupt_keeps_what_was_finished_and_says_how_to_go_on(
    cli: Cli, tmp_path: Path, probe_arguments: list[str], whole: dict[str, Curve]
) -> None:
    out = tmp_path / "R"
    process = start(SLOW_CURVES, [*probe_arguments, str(out)])
    stop_after(process, out / "curves", 2, signal.SIGINT)
    stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (130, "")
    assert "interrupted, what was finished is kept; go on with: innerloop probe --model" in stderr
    assert "Traceback" not in stderr
    assert Run.open(out).manifest["stages"]["probe"]["status"] == "interrupted"
    assert cli(*probe_arguments, out).status == 0
    same(Run.open(out).curves(), whole)
    assert Run.open(out).manifest["stages"]["probe"]["status"] == "complete"


def test_a_killed_rollout_goes_on_where_it_was(
    cli: Cli, tmp_path: Path, tiny_model: Path, questions_file: Path
) -> None:
    arguments = ["rollout", "--model", str(tiny_model), "--threads", "1", "--questions", str(questions_file)]
    arguments += ["--samples", "2", "--max-tokens", "8", "--dtype", "float64", "--out"]
    assert cli(*arguments, tmp_path / "whole").status == 0
    whole = {trajectory.id: trajectory for trajectory in Run.open(tmp_path / "whole").trajectories()}
    out = tmp_path / "R"
    process = start(SLOW_SAMPLES, [*arguments, str(out)])
    stop_after(process, out / "trajectories", 3, signal.SIGKILL)
    process.communicate()
    assert 3 <= len(Run.open(out).trajectories()) < len(whole)
    assert cli(*arguments, out).status == 0
    found: list[Trajectory] = Run.open(out).trajectories()
    assert rows(out / "trajectories") == len(found) == len(whole) == 12
    assert {trajectory.id: trajectory.token_ids for trajectory in found} == {
        name: trajectory.token_ids for name, trajectory in whole.items()
    }


def test_a_corrupt_shard_is_named_and_only_its_units_are_done_again(
    cli: Cli, tmp_path: Path, probe_arguments: list[str], whole: dict[str, Curve], slow_curves: None
) -> None:
    out = tmp_path / "R"
    assert cli(*probe_arguments, out).status == 0
    shard = out / "curves" / "00002.parquet"
    held = len(set(pyarrow.parquet.read_table(shard)["trajectory_id"].to_pylist()))
    assert held < len(whole)
    shard.write_bytes(shard.read_bytes()[:-30])
    ran = cli(*probe_arguments, out, "--json")
    assert ran.status == 0
    assert f"{shard} is corrupt and left out" in ran.err
    assert json.loads(ran.out)["new_curves"] == held
    same(Run.open(out).curves(), whole)
    assert (out / "curves" / "00002.parquet.corrupt").exists()


def test_a_full_disk_midway_keeps_what_was_finished(
    cli: Cli,
    tmp_path: Path,
    probe_arguments: list[str],
    whole: dict[str, Curve],
    slow_curves: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "R"
    real = os.fsync

    def fill(handle: int) -> None:
        if len(list((out / "curves").glob("*.parquet"))) >= 2:
            raise OSError(28, os.strerror(28))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr("innerloop.atomic.os.fsync", fill)
        ran = cli(*probe_arguments, out)
    assert ran.status == 2
    assert ran.err.splitlines()[-1].startswith(f"innerloop: {out}/curves/")
    assert "No space left on device; free some space and run the same command again" in ran.err
    kept = Run.open(out).done("curves")
    assert 0 < len(kept) < len(whole)
    assert list(out.rglob("*.tmp")) == []
    assert cli(*probe_arguments, out).status == 0
    same(Run.open(out).curves(), whole)


def test_a_question_that_changed_in_the_meantime_is_refused(
    cli: Cli, tmp_path: Path, probe_arguments: list[str], questions_file: Path
) -> None:
    out = tmp_path / "R"
    assert cli(*probe_arguments, out).status == 0
    text = questions_file.read_text()
    questions_file.write_text(text.replace("What is 3 and 3?", "What is 3 and 4?"))
    ran = cli(*probe_arguments, out)
    assert ran.status == 2
    assert f"{out}: question 'q-3' is not the same as when this run began; restore the source" in ran.err
    questions_file.write_text(text.replace("We add 3", "We put 3"))
    assert cli(*probe_arguments, out).status == 2


def test_another_model_in_the_same_place_is_refused(
    cli: Cli, tmp_path: Path, tiny_model: Path, questions_file: Path
) -> None:
    from innerloop.testing import save_tiny

    model = shutil.copytree(tiny_model, tmp_path / "model")
    arguments = ["probe", "--model", model, "--threads", "1", "--questions", questions_file, "--out", tmp_path / "R"]
    assert cli(*arguments).status == 0
    shutil.rmtree(model)
    save_tiny("llama", model, seed=1)
    for shard in (tmp_path / "R" / "curves").glob("*.parquet"):
        shard.unlink()
    ran = cli(*arguments)
    assert ran.status == 2
    assert "made with another model, fingerprint: " in ran.err
