"""The verbs on a cluster: the same numbers as without one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from innerloop.errors import InputError
from innerloop.inner.shared import plenty, waves
from innerloop.schema import Trajectory
from innerloop.store import Run
from innerloop.verbs.eval import EvalSettings
from innerloop.verbs.probe import ProbeSettings
from innerloop.verbs.rollout import RolloutSettings
from innerloop.verbs.shared import configuration, out_folder
from innerloop.verbs.update import UpdateSettings


def test_options_of_a_cluster_need_one() -> None:
    for settings in (RolloutSettings, EvalSettings, ProbeSettings, UpdateSettings):
        questions: Any = ("q.jsonl",) if settings is EvalSettings else "q.jsonl"
        with pytest.raises(InputError, match="--workers needs --engine ray"):
            settings(questions=questions, workers=2)
        with pytest.raises(InputError, match="--worker-gpus -1: must be 0 or more"):
            settings(questions=questions, engine="ray", worker_gpus=-1)
        assert settings(questions=questions, engine="ray", workers=2, device="cpu").cluster().gpus == 0
    with pytest.raises(InputError, match="--worker-engine needs --engine ray"):
        RolloutSettings(questions="q.jsonl", worker_engine="llamacpp")
    with pytest.raises(InputError, match="--batch-size does not apply to --engine llamacpp"):
        RolloutSettings(questions="q.jsonl", engine="ray", worker_engine="llamacpp", batch_size=4)
    with pytest.raises(InputError, match="--server does not apply to --engine transformers"):
        RolloutSettings(questions="q.jsonl", engine="ray", server="http://localhost:8000")


def test_a_run_may_go_on_with_or_without_a_cluster() -> None:
    """So both mean the same configuration, and the same folder."""
    here = RolloutSettings(questions="q.jsonl")
    spread = replace(here, engine="ray", workers=3, address="local")
    assert configuration(here)["engine"] == configuration(spread)["engine"] == "transformers"
    assert out_folder("rollout", here) == out_folder("rollout", spread)
    llama = replace(spread, worker_engine="llamacpp")
    assert out_folder("rollout", llama) == out_folder("rollout", replace(here, engine="llamacpp"))
    assert out_folder("rollout", llama) != out_folder("rollout", here)
    probe = ProbeSettings(questions="q.jsonl")
    assert out_folder("probe", probe) == out_folder("probe", replace(probe, engine="ray", workers=2))


def test_waves_are_neighbours_that_fit_together() -> None:
    assert [list(wave) for wave in waves([5, 5, 5, 20, 1, 9], 10)] == [[0, 1], [2], [3], [4, 5]]
    assert list(waves([], 10)) == []
    assert plenty([3, 2000], on_cpu=True) == 2000
    assert plenty([3, 20], on_cpu=True) == 1024


def workers() -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if (process.info["cmdline"] or [""])[0].startswith("ray::Worker")
    ]


@pytest.mark.model
@pytest.mark.long  # `test_crew.py` kills workers in the second tier
def test_sampled_trajectories_are_the_plain_engines_while_workers_are_killed(
    cluster: Any, cli: Callable[..., Any], tiny_model: Path, tmp_path: Path
) -> None:
    common = ["--model", tiny_model, "--dtype", "float64", "--questions", "gym:chain_sum?size=12", "--samples", 4]
    common += ["--max-tokens", 80, "--threads", 1, "--batch-size", 4, "--json"]
    assert cli("rollout", *common, "--out", tmp_path / "here").status == 0

    killed: list[int] = []

    def kill() -> None:
        """Two workers, one after the other, as soon as they have begun to work."""
        end = time.monotonic() + 120
        while len(killed) < 2 and time.monotonic() < end:
            time.sleep(0.3)
            for process in workers():
                if process.pid not in killed and process.cpu_times().user > 4 + 2 * len(killed):
                    process.send_signal(signal.SIGKILL)
                    killed.append(process.pid)
                    break

    killer = threading.Thread(target=kill)
    killer.start()
    spread = ["--engine", "ray", "--address", cluster.address, "--workers", 2, "--worker-cpus", 1]
    ran = cli("rollout", *common, *spread, "--out", tmp_path / "spread")
    killer.join()
    assert len(killed) == 2, "or nothing was tried"
    assert ran.status == 0, ran.err
    assert json.loads(ran.out)["trajectories"] == 48, "and nothing else on standard output"
    found = [Run.open(tmp_path / name).read("trajectories") for name in ("here", "spread")]
    here, there = ({t.id: t for t in Trajectory.from_table(table)} for table in found)
    assert len(found[1]) == len(there) == 48, "none doubled"
    assert {id_: (t.token_ids, t.seed, t.outcome, t.model) for id_, t in here.items()} == {
        id_: (t.token_ids, t.seed, t.outcome, t.model) for id_, t in there.items()
    }


@pytest.mark.model
@pytest.mark.parametrize(
    ("verb", "options"),
    [
        ("probe", ["--every", 3, "--candidates", "answers", "--controls", "shuffled"]),
        pytest.param("update", ["--positions", "parts:2", "--controls", "filler"], marks=pytest.mark.long),
    ],
)
def test_measurements_are_those_without_a_cluster_to_the_last_bit(
    verb: str,
    options: list[Any],
    cluster: Any,
    cli: Callable[..., Any],
    tiny_model: Path,
    questions_file: Path,
    tmp_path: Path,
) -> None:
    common = ["--model", tiny_model, "--questions", questions_file, *options, "--threads", 1, "--json"]
    spread = ["--engine", "ray", "--address", cluster.address, "--workers", 2, "--worker-cpus", 1]
    here, there = tmp_path / "here", tmp_path / "there"
    ran = cli(verb, *common, "--limit", 6, "--out", here)
    assert ran.status == 0, ran.err
    ran_there = cli(verb, *common, "--limit", 6, *spread, "--out", there)
    assert ran_there.status == 0, ran_there.err
    stage = {"probe": "curves", "update": "updates"}[verb]
    key = {"probe": lambda c: c.trajectory_id, "update": lambda u: (u.id, u.position)}[verb]
    records = [{key(record): record for record in getattr(Run.open(out), stage)()} for out in (here, there)]
    if verb == "probe":  # each worker compares some of its own with the definition
        assert [any(record.plain_loss for record in own.values()) for own in records] == [True, True]
        records = [{id_: replace(record, plain_loss=()) for id_, record in own.items()} for own in records]
    assert records[0] == records[1]
    assert len(records[0]) >= 12
    first, second = (Run.open(out).manifest["stages"][verb]["model"] for out in (here, there))
    assert first == second
    again = cli(verb, *common, "--limit", 6, "--out", there)  # and without a cluster there is nothing left to do
    assert again.status == 0
    assert "nothing to do" in again.err


@pytest.mark.model
@pytest.mark.long
def test_a_local_cluster_that_dies_ends_in_one_line_and_the_run_goes_on(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'innerloop[ray]'")
    command = [sys.executable, "-m", "innerloop", "rollout", "--model", tiny_model, "--questions"]
    command += ["gym:chain_sum?size=50", "--samples", "3", "--max-tokens", "200", "--out", tmp_path / "run", "--json"]
    spread = ["--engine", "ray", "--address", "local", "--workers", "1", "--threads", "1"]
    process = subprocess.Popen(
        [str(word) for word in [*command, *spread]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"RAY_ADDRESS": "nowhere:1"},
    )
    family: list[psutil.Process] = []
    try:
        end = time.monotonic() + 240
        while not list((tmp_path / "run" / "trajectories").glob("*.parquet")) and time.monotonic() < end:
            assert process.poll() is None, process.communicate()
            time.sleep(0.2)
        family = psutil.Process(process.pid).children(recursive=True)
        [raylet] = [child for child in family if child.name() == "raylet"]
        raylet.kill()
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 1, err
    assert out == ""
    assert [line for line in err.splitlines() if line.startswith("innerloop: ConnectionError")] == [
        "innerloop: ConnectionError: the local Ray cluster has died (raylet); what was finished is kept, and the same "
        "command goes on (--debug shows where)"
    ]
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == [], "no orphans"
    kept = Run.open(tmp_path / "run").trajectories()
    assert 0 < len(kept) < 150
    again = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    whole = Run.open(tmp_path / "run").trajectories()
    assert len({trajectory.id for trajectory in whole}) == len(whole) == 150
    tokens = {trajectory.id: trajectory.token_ids for trajectory in whole}
    assert all(tokens[trajectory.id] == trajectory.token_ids for trajectory in kept)
