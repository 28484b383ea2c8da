"""Work spread over workers: every unit once, whatever dies."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from innerloop.cluster.crew import Crew
from innerloop.cluster.options import ClusterOptions
from innerloop.cluster.work import Done, Unit, shrinking
from innerloop.errors import InputError

pytestmark = pytest.mark.model


@dataclass(frozen=True)
class Marker:
    """Leaves a file for every unit that it begins; obeys what a unit tells it to do."""

    folder: str
    child: int | None

    def run(self, units: Sequence[Unit[str]]) -> Iterator[tuple[str, dict[str, Any]]]:
        import ray

        for unit in units:
            beginnings = len(list(Path(self.folder).glob(f"{unit.id}.*")))
            Path(self.folder, f"{unit.id}.{beginnings}").touch()
            if unit.work == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if unit.work == "refuse":
                raise InputError(f"unit {unit.id} makes no sense: leave it out")
            if unit.work == "break":
                raise KeyError(unit.id)
            if unit.work == "leave" and not beginnings:
                raise ConnectionError("the engine is gone")
            if unit.work == "warn":
                logging.getLogger("innerloop.somewhere").warning("this is odd")
            time.sleep(0.05 if unit.work != "slow" else 60)
            node = ray.get_runtime_context().get_node_id()
            yield unit.id, {"pid": os.getpid(), "node": node, "threads": os.environ["OMP_NUM_THREADS"]}


@dataclass(frozen=True)
class Marking:
    folder: str
    opening: str = ""

    def open(self, threads: int) -> tuple[Marker, dict[str, Any]]:
        child = None
        if self.opening == "refuse":
            raise InputError("no such model")
        if self.opening == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.opening == "child":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid
        return Marker(self.folder, child), {"fingerprint": os.getpid() if self.opening == "differ" else "same"}


@pytest.fixture(autouse=True)
def _by_value() -> Iterator[None]:
    """Test modules cannot be imported by workers."""
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'innerloop[ray]'")
    module = sys.modules[__name__]
    ray.cloudpickle.register_pickle_by_value(module)
    yield
    ray.cloudpickle.unregister_pickle_by_value(module)


def crew(cluster: Any, folder: Path, *, opening: str = "", **options: Any) -> Crew[str, dict[str, Any]]:
    options = {"workers": 2, "cpus": 1.0, "address": cluster.address} | options
    return Crew(Marking(str(folder), opening), ClusterOptions(**options))


def units(count: int, **special: str) -> list[Unit[str]]:
    return [Unit(id=f"u{i}", work=special.get(f"u{i}", "")) for i in range(count)]


def ids(found: Sequence[Done[Any]]) -> list[str]:
    return sorted((done.id for done in found), key=lambda name: int(name[1:]))


def gone(pids: Sequence[int], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
            return True
        time.sleep(0.1)
    return False


def test_every_unit_comes_back_once_from_both_machines(cluster: Any, tmp_path: Path) -> None:
    with crew(cluster, tmp_path, threads=3) as own:
        assert own.description == {"fingerprint": "same"}
        assert (own.team.workers, own.team.cpus, own.team.threads) == (2, 1.0, 3)
        list(own.run([[unit] for unit in units(4)]))  # until both are there
        found = list(own.run(shrinking(units(24), 2, 2)))
        assert ids(found) == [f"u{i}" for i in range(24)]
        results = [done.result for done in found if done.result is not None]
        assert len(results) == 24
        assert {result["threads"] for result in results} == {"3"}
        pids = {result["pid"] for result in results}
        while len(pids) < 2:  # the second worker may have been late
            pids |= {done.result["pid"] for done in own.run([[unit] for unit in units(8)]) if done.result}
        nodes = {done.result["node"] for done in own.run([[unit] for unit in units(16)]) if done.result}
        assert len(nodes) == 2
    assert gone(sorted(pids)), "close leaves no worker behind"


def test_workers_killed_in_mid_work_lose_and_double_nothing(cluster: Any, tmp_path: Path) -> None:
    found = []
    with crew(cluster, tmp_path) as own:
        for done in own.run(shrinking(units(40), 2, 4)):
            found.append(done)
            if len(found) in (6, 16):
                assert done.result is not None
                os.kill(done.result["pid"], signal.SIGKILL)
    assert ids(found) == [f"u{i}" for i in range(40)]
    assert all(done.reason is None for done in found)


def test_a_unit_that_kills_its_workers_is_given_up_and_the_others_are_not(cluster: Any, tmp_path: Path) -> None:
    with crew(cluster, tmp_path) as own:
        found = list(own.run(shrinking(units(12, u5="kill"), 2, 2)))
    assert ids(found) == [f"u{i}" for i in range(12)]
    [failed] = [done for done in found if done.result is None]
    assert failed.id == "u5"
    assert failed.reason is not None
    assert failed.reason.startswith("3 workers died over it")
    assert len(list(tmp_path.glob("u5.*"))) == 3


def test_a_worker_whose_engine_is_gone_is_replaced(cluster: Any, tmp_path: Path) -> None:
    with crew(cluster, tmp_path) as own:
        found = list(own.run(shrinking(units(8, u3="leave"), 2, 2)))
    assert ids(found) == [f"u{i}" for i in range(8)]
    assert all(done.result for done in found)


def test_what_is_wrong_with_the_work_ends_the_run_in_one_line(cluster: Any, tmp_path: Path) -> None:
    with crew(cluster, tmp_path) as own:
        with pytest.raises(InputError, match=r"^unit u1 makes no sense: leave it out$"):
            list(own.run([units(3, u1="refuse")]))
        with pytest.raises(RuntimeError, match=r"^a worker on \S+ failed: KeyError: 'u2'$"):
            list(own.run([units(3, u2="break")]))
        assert ids(list(own.run([units(3)]))) == ["u0", "u1", "u2"], "and the next run has workers again"
    with pytest.raises(InputError, match=r"^no such model$"):
        crew(cluster, tmp_path, opening="refuse").open()


def test_warnings_of_workers_are_said_here_once(cluster: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with crew(cluster, tmp_path) as own:
        list(own.run([[unit] for unit in units(6, u0="warn", u3="warn", u5="warn")]))
    assert [record.message for record in caplog.records].count("this is odd") == 1


def test_a_reader_that_stops_early_leaves_nobody_at_work(cluster: Any, tmp_path: Path) -> None:
    with crew(cluster, tmp_path, opening="child", workers=1) as own:
        running = own.run([units(3, u1="slow")])
        first = next(running)
        assert first.result is not None
        pid = first.result["pid"]
        family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
        assert len(family) == 2
        running.close()
        assert gone(family)


def test_too_little_is_told_in_one_line(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no worker could be started within 1 seconds: each needs 64 CPUs .* has 2"):
        crew(cluster, tmp_path, cpus=64, patience=1).open()
    with pytest.raises(InputError, match="workers in a row died before they were ready"):
        crew(cluster, tmp_path, opening="kill").open()


def test_workers_with_different_models_are_refused(cluster: Any, tmp_path: Path) -> None:
    with crew(cluster, tmp_path, opening="differ") as own, pytest.raises(InputError, match="holds another model"):
        list(own.run([[unit] for unit in units(2000)]))  # until the second one is there


def test_a_machine_that_dies_leaves_its_work_to_the_other(cluster: Any, tmp_path: Path) -> None:
    """The last test here: the cluster is not the same after it."""
    found: list[Done[Any]] = []
    with crew(cluster, tmp_path) as own:
        while len({done.result["node"] for done in own.run([[unit] for unit in units(8)]) if done.result}) < 2:
            pass
        for done in own.run(shrinking(units(40), 2, 2)):
            found.append(done)
            if len(found) == 6:
                other = next(node for node in cluster.worker_nodes)
                cluster.remove_node(other, allow_graceful=False)
    assert ids(found) == [f"u{i}" for i in range(40)]
    assert all(done.result for done in found)
    assert len({done.result["node"] for done in found[-5:] if done.result}) == 1
