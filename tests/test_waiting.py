"""Threads that wait spin where the machine is free, and sleep where others need it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from innerloop import waiting


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Two free cores whose busy seconds a test sets; the clock moves by hand, and torch is not there yet."""
    clock = {"wall": 100.0, "own": 5.0}
    cores = [50.0, 60.0]
    times = [type("Times", (), {"user": 0.0, "system": 0.0})() for _ in cores]

    def cpu_times(percpu: bool) -> list[object]:
        assert percpu
        for core, busy in zip(times, cores, strict=True):
            core.user, core.system = busy, 1.0
        return list(times)

    monkeypatch.setattr(psutil, "cpu_times", cpu_times)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    monkeypatch.setattr(time, "monotonic", lambda: clock["wall"])
    monkeypatch.setattr(time, "process_time", lambda: clock["own"])
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    yield cores
    os.environ.pop("OMP_WAIT_POLICY", None)


def later(machine: list[float], monkeypatch: pytest.MonkeyPatch, *, own: float, others: float) -> str | None:
    """What is set after a second in which this process and others took so much processor time."""
    began = waiting.look()
    machine[0] += own
    machine[1] += others
    wall, spent = time.monotonic() + 1, time.process_time() + own
    monkeypatch.setattr(time, "monotonic", lambda: wall)
    monkeypatch.setattr(time, "process_time", lambda: spent)
    waiting.settle(began)
    return os.environ.get("OMP_WAIT_POLICY")


def test_alone_nothing_changes(machine: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    assert later(machine, monkeypatch, own=0.9, others=0.1) is None


def test_beside_another_program_threads_sleep(machine: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    assert later(machine, monkeypatch, own=0.9, others=0.9) == "passive"


@pytest.mark.parametrize(
    ("name", "value"), [("OMP_WAIT_POLICY", "active"), ("GOMP_SPINCOUNT", "7"), ("OMP_NUM_THREADS", "1")]
)
def test_what_the_user_has_set_stays(
    machine: list[float], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """One thread has nobody to wait for."""
    monkeypatch.setenv(name, value)
    before = os.environ.get("OMP_WAIT_POLICY")
    assert later(machine, monkeypatch, own=0.5, others=1.0) == before
    assert os.environ[name] == value


def test_cores_that_are_not_ours_do_not_count(machine: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    began = waiting.look()
    machine[1] += 5.0
    assert waiting.look().all == began.all


@pytest.mark.slow
def test_a_busy_process_is_seen() -> None:
    """Where the machine has a core free for it."""
    before = waiting.look()
    time.sleep(0.3)
    idle = waiting.cores_of_others(before)
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.2)
        before = waiting.look()
        time.sleep(1)
        assert waiting.cores_of_others(before) > min(idle + 0.3, 0.6)
    finally:
        busy.kill()
        busy.wait()


@pytest.mark.slow
def test_the_command_line_looks_before_torch_is_there() -> None:
    code = "import sys; from innerloop import cli, waiting\n"
    code += "waiting.settle = lambda began: sys.exit('torch' in sys.modules or (began.moment <= 0))\n"
    code += "cli.main(['probe', '--questions', 'gym:gcd?size=1'])"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
