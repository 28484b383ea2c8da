"""Workers that hang, die, raise, print or eat memory harm one item only."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest

import innerloop
from innerloop.evaluate.verify.job import Job
from innerloop.evaluate.verify.pool import Pool
from innerloop.evaluate.verify.sandbox import Choice, Kind, choose, service, tree

pytestmark = pytest.mark.model  # servers and worker processes: second tier

MISBEHAVIOUR = """
import os, sys, time

BORN = time.monotonic_ns()  # process ids repeat inside namespaces

def prepare():
    pass

def run(payload):
    act = payload["act"]
    if act == "hang":
        while True:
            pass
    if act == "sleep":
        time.sleep(payload["seconds"])
    if act == "environment":
        return {"outcome": "right", "reason": " ".join(os.environ)}
    if act == "die":
        os._exit(3)
    if act == "raise":
        raise ZeroDivisionError("by nought,\\nonce")
    if act == "print":
        print('{"outcome": "wrong"}', flush=True)
    if act == "eat":
        return {"outcome": "wrong", "reason": str(len(bytearray(payload["bytes"])))}
    if act == "hold":
        held = bytearray(b"x") * payload["bytes"]
        time.sleep(10)
    return {"outcome": "right", "reason": str(BORN)}
"""


@pytest.fixture
def act(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise RuntimeError('a file of the user shadows a module')")
    monkeypatch.chdir(tmp_path)

    def job(name: str, **payload) -> Job:
        return Job(module="misbehaviour", answer="", payload={"act": name, **payload})

    with tempfile.TemporaryDirectory() as extra:  # not in tmp_path, which other users may not enter
        Path(extra).chmod(0o755)
        (Path(extra) / "misbehaviour.py").write_text(MISBEHAVIOUR)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join((extra, str(Path(innerloop.__file__).parents[1]))))
        known = service.sources()
        monkeypatch.setattr(service, "sources", lambda: known | {extra: extra})
        yield job


def nowhere() -> Choice:
    """No sandbox."""
    return Choice(kind=None, reason="none was looked for")


def weaker() -> Choice:
    """The weaker sandbox, whatever there is."""
    return Choice(kind=Kind.WEAKER)


WAYS = {"plain": nowhere, "bubblewrap": choose, "weaker": weaker}


@pytest.fixture(params=["plain", "bubblewrap"])
def find(request):
    """Ways to find a sandbox."""
    way = WAYS[request.param]
    if request.param == "bubblewrap" and way().kind is None:
        pytest.skip(way().reason)
    return way


@pytest.fixture
def pool(find):
    pool = Pool(1, time_limit=0.4, memory_limit=1024, find=find)
    yield pool
    pool.close()


def processes(pool: Pool) -> list[int]:
    """The worker's processes as the host sees them; the last one is what answers."""
    outer = pool.workers[0]._process.pid
    return [outer, *tree.descendants(outer)]


def ended(pid: int) -> bool:
    """Whether a process is gone, or soon will be."""
    deadline = time.perf_counter() + 5
    while time.perf_counter() < deadline:
        if not psutil.pid_exists(pid):
            return True
        with contextlib.suppress(psutil.Error):
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:  # nobody has asked yet
                return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("find", WAYS, indirect=True)
def test_each_failure_stays_with_its_item(act, pool):
    acts = [act("work"), act("hang"), act("work"), act("die"), act("raise"), act("print"), act("work")]
    replies = pool.run(acts)
    outcomes = [reply["outcome"] for reply in replies]
    assert outcomes == ["right", "undecided", "right", "undecided", "undecided", "right", "right"]
    assert replies[1]["reason"] == "time limit of 0.4 s"
    assert replies[3]["reason"].startswith("the worker process died")
    assert replies[4]["reason"] == "the verifier failed: ZeroDivisionError: by nought, once"
    assert replies[0]["reason"] != replies[2]["reason"], "the hung worker was replaced"
    assert replies[5]["reason"] == replies[6]["reason"], "a good one is used again"


@pytest.mark.parametrize("find", WAYS, indirect=True)
def test_a_worker_knows_no_key(act, pool, monkeypatch):
    monkeypatch.setenv("INNERLOOP_API_KEY", "sk-of-a-server")
    names = pool.run([act("environment")])[0]["reason"].split()
    assert "PATH" in names
    assert "INNERLOOP_API_KEY" not in names


@pytest.mark.skipif(sys.platform == "win32" or sys.platform == "darwin", reason="no limit on address space there")
def test_memory_is_limited(act, pool):
    replies = pool.run([act("eat", bytes=4 << 30), act("work")])
    assert replies[0] == {"outcome": "undecided", "reason": "memory limit", "keep": "run"}
    assert replies[1]["outcome"] == "right"


@pytest.mark.model  # several process starts
def test_memory_is_watched_where_the_system_has_no_limit(act, find):
    """The address space may be large here; what is really held may not."""
    pool = Pool(1, time_limit=20, memory_limit=300, find=find)
    pool.workers[0].memory_limit, watched = 1 << 20, 300
    try:
        born = pool.run([act("work")])[0]["reason"]  # started with a limit of address space far away
        pool.workers[0].memory_limit = watched
        reply = pool.run([act("hold", bytes=600 << 20)])[0]
        assert (reply["outcome"], reply["reason"]) == ("undecided", "memory limit")
        assert pool.run([act("work")])[0]["reason"] != born
    finally:
        pool.close()


@pytest.mark.model  # several process starts
def test_workers_share_the_jobs(act):
    pool = Pool(2, time_limit=5, memory_limit=4096)
    try:
        pool.run([act("work"), act("work")])
        replies = pool.run([act("sleep", seconds=0.2) for _ in range(4)])
    finally:
        pool.close()
    assert len({reply["reason"] for reply in replies}) == 2


@pytest.mark.model  # several process starts
def test_a_worker_killed_while_idle_is_started_anew(act, pool):
    first = pool.run([act("work")])[0]["reason"]
    os.kill(processes(pool)[-1], signal.SIGKILL)
    time.sleep(0.1)
    reply = pool.run([act("work")])[0]
    assert reply["outcome"] == "right"
    assert reply["reason"] != first


@pytest.mark.model  # several process starts
def test_the_job_of_a_worker_killed_at_work_is_done_again(act, find):
    pool = Pool(1, time_limit=30, memory_limit=4096, find=find)
    try:
        first = pool.run([act("work")])[0]["reason"]
        killer = threading.Timer(0.5, os.kill, [processes(pool)[-1], signal.SIGKILL])
        killer.start()
        reply = pool.run([act("sleep", seconds=1.5)])[0]
        killer.join()
    finally:
        pool.close()
    assert reply["outcome"] == "right"
    assert reply["reason"] != first


@pytest.mark.model  # several process starts
def test_workers_killed_one_after_the_other_do_not_decide_a_job(act):
    pool = Pool(1, time_limit=30, memory_limit=4096)
    killed = []
    over = threading.Event()

    def kill():
        while len(killed) < 3 and not over.is_set():
            process = pool.workers[0]._process
            if process is not None and process.pid not in killed:
                time.sleep(0.2)
                os.kill(process.pid, signal.SIGKILL)
                killed.append(process.pid)
            time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        reply = pool.run([act("sleep", seconds=3)])[0]  # each time far longer than the killer waits
    finally:
        over.set()
        killer.join()
        pool.close()
    assert reply["outcome"] == "right"
    assert len(killed) == 3


def test_a_module_that_cannot_be_imported_is_a_reason(pool):
    reply = pool.run([Job(module="no_such_module", answer="", payload={})])[0]
    assert reply["outcome"] == "undecided"
    assert "no_such_module" in reply["reason"]


def test_a_worker_that_cannot_start_is_a_reason(pool, monkeypatch, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no python here >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    reply = pool.run([Job(module="math", answer="", payload={})])[0]
    assert (reply["outcome"], reply["keep"]) == ("undecided", "no")
    assert reply["reason"] == "the worker process did not start (no python here)"


@pytest.mark.model  # several process starts
def test_closing_ends_the_processes_and_later_jobs(act, pool):
    pool.run([act("work")])
    alive = processes(pool)
    pool.close()
    assert all(ended(pid) for pid in alive)
    assert pool.run([act("work")])[0]["reason"] == "the verifier is closed"


def test_an_interrupt_ends_a_hung_worker_at_once(act, find):
    pool = Pool(2, time_limit=60, memory_limit=4096, find=find)
    pool.run([act("work")])
    alive = processes(pool)
    # to the main thread, where the system delivers a Ctrl-C
    threading.Timer(0.3, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]).start()
    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        pool.run([act("hang"), act("hang"), act("hang")])
    assert time.perf_counter() - start < 5
    assert all(worker._process is None for worker in pool.workers)
    assert all(ended(pid) for pid in alive)


@pytest.mark.parametrize(("sandbox", "at_work"), [(False, False), (True, True)])  # elsewhere an alarm ends the work
def test_workers_end_with_a_program_that_is_killed(tmp_path, sandbox, at_work):
    if sandbox and choose().kind is None:
        pytest.skip(choose().reason)
    script = tmp_path / "program.py"
    script.write_text(
        "import threading, time\n"
        "from innerloop.evaluate.verify.pool import Pool\n"
        "from innerloop.evaluate.verify.job import Job\n"
        "from innerloop.evaluate.verify.sandbox import Choice, choose, tree\n"
        f"pool = Pool(1, time_limit=2, memory_limit=4096, find=choose if {sandbox} else lambda: Choice(kind=None))\n"
        "literal = 'innerloop.evaluate.verify.literal'\n"
        "pool.run([Job(module=literal, answer='', payload={'reference': '1', 'answer': '1'})])\n"  # no guard
        "process = pool.workers[0]._process.pid\n"
        "print(process, *tree.descendants(process), flush=True)\n"
        "tower = '9^{9^{9^{9^{9}}}} - 2^{10^{10^{10}}} + x'\n"
        "job = Job(module='innerloop.evaluate.verify.math', answer='', payload={'reference': 'x', 'answer': tower})\n"
        f"pool.run([job]) if {at_work} else time.sleep(60)\n"
    )
    program = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    with program:
        alive = [int(pid) for pid in program.stdout.readline().split()]
        time.sleep(1 if at_work else 0)
        program.kill()
    assert alive
    assert all(ended(pid) for pid in alive)
