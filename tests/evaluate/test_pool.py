"""Workers that hang, die, raise, print or eat memory harm one item only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from innerloop.evaluate.verify.job import Job
from innerloop.evaluate.verify.pool import Pool

pytestmark = pytest.mark.model  # servers and worker processes: second tier

MISBEHAVIOUR = """
import os, sys, time

def prepare():
    pass

def run(payload):
    act = payload["act"]
    if act == "hang":
        while True:
            pass
    if act == "sleep":
        time.sleep(payload["seconds"])
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
    return {"outcome": "right", "reason": str(os.getpid())}
"""


@pytest.fixture
def act(tmp_path, monkeypatch):
    (tmp_path / "misbehaviour.py").write_text(MISBEHAVIOUR)
    (tmp_path / "json.py").write_text("raise RuntimeError('a file of the user shadows a module')")
    monkeypatch.chdir(tmp_path)
    extra = tmp_path / "path"
    extra.mkdir()
    (tmp_path / "misbehaviour.py").rename(extra / "misbehaviour.py")
    monkeypatch.setenv("PYTHONPATH", str(extra))

    def job(name: str, **payload) -> Job:
        return Job(module="misbehaviour", answer="", payload={"act": name, **payload})

    return job


@pytest.fixture
def pool():
    pool = Pool(1, time_limit=0.4, memory_limit=1024)
    yield pool
    pool.close()


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


@pytest.mark.skipif(sys.platform == "win32" or sys.platform == "darwin", reason="no limit on address space there")
def test_memory_is_limited(act, pool):
    replies = pool.run([act("eat", bytes=4 << 30), act("work")])
    assert replies[0] == {"outcome": "undecided", "reason": "memory limit", "keep": "run"}
    assert replies[1]["outcome"] == "right"


@pytest.mark.model  # several process starts
def test_memory_is_watched_where_the_system_has_no_limit(act):
    """The address space may be large here; what is really held may not."""
    pool = Pool(1, time_limit=20, memory_limit=300)
    pool.workers[0].memory_limit, watched = 1 << 20, 300
    try:
        pid = int(pool.run([act("work")])[0]["reason"])  # started with a limit of address space far away
        pool.workers[0].memory_limit = watched
        reply = pool.run([act("hold", bytes=600 << 20)])[0]
        assert (reply["outcome"], reply["reason"]) == ("undecided", "memory limit")
        assert int(pool.run([act("work")])[0]["reason"]) != pid
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
    first = int(pool.run([act("work")])[0]["reason"])
    os.kill(first, signal.SIGKILL)
    time.sleep(0.1)
    reply = pool.run([act("work")])[0]
    assert reply["outcome"] == "right"
    assert int(reply["reason"]) != first


@pytest.mark.model  # several process starts
def test_the_job_of_a_worker_killed_at_work_is_done_again(act):
    pool = Pool(1, time_limit=30, memory_limit=4096)
    try:
        first = int(pool.run([act("work")])[0]["reason"])
        killer = threading.Timer(0.5, os.kill, [first, signal.SIGKILL])
        killer.start()
        reply = pool.run([act("sleep", seconds=1.5)])[0]
        killer.join()
    finally:
        pool.close()
    assert reply["outcome"] == "right"
    assert int(reply["reason"]) != first


@pytest.mark.model  # several process starts
def test_workers_killed_one_after_the_other_do_not_decide_a_job(act):
    pool = Pool(1, time_limit=30, memory_limit=4096)
    killed = []

    def kill():
        while len(killed) < 3:
            process = pool.workers[0]._process
            if process is not None and process.pid not in killed:
                time.sleep(0.2)
                os.kill(process.pid, signal.SIGKILL)
                killed.append(process.pid)
            time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        reply = pool.run([act("sleep", seconds=0.5)])[0]
    finally:
        killer.join()
        pool.close()
    assert reply["outcome"] == "right"
    assert int(reply["reason"]) not in killed


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
    process = int(pool.run([act("work")])[0]["reason"])
    pool.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    assert pool.run([act("work")])[0]["reason"] == "the verifier is closed"


def test_an_interrupt_ends_a_hung_worker_at_once(act):
    pool = Pool(2, time_limit=60, memory_limit=4096)
    pool.run([act("work")])
    # to the main thread, where the system delivers a Ctrl-C
    threading.Timer(0.3, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]).start()
    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        pool.run([act("hang"), act("hang"), act("hang")])
    assert time.perf_counter() - start < 5
    assert all(worker._process is None for worker in pool.workers)


@pytest.mark.model  # several process starts
def test_workers_end_with_a_program_that_is_killed(act, tmp_path):
    script = tmp_path / "program.py"
    script.write_text(
        "import time\n"
        "from innerloop.evaluate.verify.pool import Pool\n"
        "from innerloop.evaluate.verify.job import Job\n"
        "pool = Pool(1, time_limit=60, memory_limit=4096)\n"  # no guard: the main script must not be run again
        "print(pool.run([Job(module='misbehaviour', answer='', payload={'act': 'work'})])[0]['reason'], flush=True)\n"
        "time.sleep(60)\n"
    )
    (tmp_path / "json.py").unlink()
    program = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    with program:
        worker = int(program.stdout.readline())
        program.kill()
    deadline = time.perf_counter() + 5
    while time.perf_counter() < deadline:
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        stat = Path(f"/proc/{worker}/stat")
        if stat.exists() and stat.read_text().split(") ")[-1].startswith("Z"):  # ended, and nobody has asked yet
            return
        time.sleep(0.05)
    pytest.fail("the worker outlived its program")
