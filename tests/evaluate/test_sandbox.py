"""Programs that try to get out of the sandbox, to outlive it or to eat the machine; each test looks whether they did.

Every attack is bounded by itself as well (a loop that ends, a victim of our own), should a sandbox ever fail.
"""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from innerloop.evaluate.verify.sandbox import Kind, Limits, Sandbox, Stop, choose, sandbox

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks around in /proc")

LIMITS = Limits(time=5, memory=256, processes=12, file=4, folder=16, output=256)
OPEN = ("seccomp", "hook")  # what refuses processes in the weaker kind: the limits must hold without that too
MARK = "# a program in innerloop's sandbox"  # stands in the command line of every sandboxed process


@pytest.fixture(scope="module", params=[Kind.BUBBLEWRAP, Kind.WEAKER])
def kind(request):
    fault = sandbox._fault(request.param)  # the harmless probe: no attack is run where it got out
    if fault is not None:
        pytest.skip(fault)
    return request.param


@pytest.fixture
def box(kind):
    box = Sandbox(kind, LIMITS)
    yield box
    box.close()
    assert survivors() == [], "nothing may be left of any program"


def survivors() -> list[str]:
    """The sandboxed processes that live on this machine and belong to this test's process."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes()
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                uid = (folder / "status").read_text().partition("Uid:")[2].split()[0]
            except (OSError, IndexError):
                continue
            ours = int(uid) // 1000 == 1_800_000 + os.getpid() % 100_000 or os.geteuid() != 0
            if MARK.encode() in command and state not in "ZX" and ours:
                found.append(f"{folder.name} {state} {uid}")
    return found


@contextmanager
def most_at_once():
    """Counts the survivors while a program runs."""
    seen, done = [0], threading.Event()

    def watch():
        while not done.wait(0.05):
            seen.append(len(survivors()))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def test_a_program_runs_to_its_end(box):
    ended = box.run(["import math, decimal\nprint(math.factorial(5), decimal.Decimal(1) / 8)"])
    assert ended.finished
    assert ended.output == "120 0.125\n"


def test_what_is_reported_between_two_looks_is_heard(kind, box, monkeypatch):
    """A busy machine may let a program end between a look at its pipes and the one at its process."""
    if kind is Kind.WEAKER:
        pytest.skip("its process reports and waits to be killed, so it cannot end between two looks")

    others = set(psutil.Process().children())  # of tests before this one

    class Slow(selectors.DefaultSelector):
        def select(self, timeout=None):
            found = super().select(0)
            children = set(psutil.Process().children()) - others
            deadline = time.monotonic() + 30
            while any(child.status() != psutil.STATUS_ZOMBIE for child in children) and time.monotonic() < deadline:
                time.sleep(0.01)
            return found

    monkeypatch.setattr(selectors, "DefaultSelector", Slow)
    ended = box.run(["pass"])
    assert ended.finished, ended


def test_the_first_source_that_compiles_is_run(box):
    assert box.run(["def (", "return 1", "print('third')"]).output == "third\n"
    assert box.run(["def ("]).error.startswith("SyntaxError")


def test_what_is_raised_is_told(box):
    ended = box.run(["assert 1 == 2, 'no,\\nnever'"])
    assert not ended.finished
    assert ended.error == "AssertionError: no, never"


@pytest.mark.model  # several process starts
@pytest.mark.parametrize(
    "program",
    [
        "import os; os._exit(0)",
        "raise SystemExit(0)",
        "import sys; sys.exit()",
        'import os\nfor pipe in range(3, 60):\n try: os.write(pipe, b\'{"finished": true, "token": ""}\\n\')\n'
        " except OSError: pass\nos._exit(0)",
        "print('{\"finished\": true}', flush=True); import os; os._exit(0)",
        "import ctypes; ctypes.string_at(0)",
        "exec('(' * 90 + ')' * 90 + 'x')",
        "compile('(' * 100_000, 'deep', 'exec')",
    ],
)
def test_ending_early_is_not_finishing(box, program):
    ended = box.run([program])
    assert not ended.finished
    assert ended.started
    assert ended.error


@pytest.mark.model
def test_a_fork_bomb(kind):
    """The bomb itself would stop after three seconds, and its limit was seen to hold before."""
    bomb = (
        "import os, time\n"
        "end = time.time() + 3\n"
        "while time.time() < end:\n"
        "    try: os.fork()\n"
        "    except OSError: time.sleep(0.01)\n"
    )
    box = Sandbox(kind, replace(LIMITS, time=2), without=OPEN)
    with most_at_once() as seen:
        start = time.monotonic()
        box.run([bomb])
    assert time.monotonic() - start < 25
    assert max(seen) <= LIMITS.processes + 6  # the launchers are not counted against the limit
    assert max(seen) >= 3, "it did multiply"
    assert survivors() == []


@pytest.mark.model
def test_many_threads(box):
    program = "import threading, time\nfor _ in range(100): threading.Thread(target=time.sleep, args=(2,)).start()"
    ended = box.run([program])
    assert not ended.finished
    assert "thread" in ended.error


@pytest.mark.model
def test_endless_output(box):
    ended = box.run(["while True: print('x' * 1000)"])
    assert ended.stop is Stop.OUTPUT
    assert len(ended.output) == LIMITS.output << 10


@pytest.mark.model
def test_endless_time(box):
    small = Sandbox(box.kind, replace(LIMITS, time=0.5))
    for program in ("while True: pass", "import time; time.sleep(60)", "10 ** 10 ** 8"):
        start = time.monotonic()
        assert small.run([program]).stop is Stop.TIME
        assert time.monotonic() - start < 10


@pytest.mark.model
def test_memory_of_one_process(box):
    ended = box.run(["held = []\nfor _ in range(2000): held.append(bytearray(1 << 20))"])
    assert ended.stop is Stop.MEMORY


@pytest.mark.model
def test_memory_of_many_processes(kind):
    """Each stays below the limit, all together (8 × 100 MiB) do not."""
    program = (
        "import os, time\n"
        "for _ in range(8):\n"
        "    if not os.fork():\n"
        "        held = bytearray(b'x') * (100 << 20)\n"
        "        time.sleep(4)\n"
        "        os._exit(0)\n"
        "time.sleep(4)\n"
    )
    assert Sandbox(kind, LIMITS, without=OPEN).run([program]).stop is Stop.MEMORY
    assert survivors() == []


@pytest.mark.model
def test_one_large_file_and_many_files(box):
    assert not box.run(["open('large', 'wb').write(bytes(8 << 20))"]).finished
    many = "import time\nfor i in range(32):\n    open(f'{i}', 'wb').write(bytes(1 << 20))\n    time.sleep(0.05)"
    ended = box.run([many])
    assert ended.stop is Stop.FILES or "No space left" in ended.error


@pytest.mark.model
def test_writing_and_reading_outside(box, tmp_path):
    home = Path.home()
    secret = tmp_path / "secret"
    secret.write_text("the secret")
    known = {entry.name for folder in (tmp_path, home) for entry in folder.iterdir()}
    program = f"""
import os
def attempt(act):
    try: print(act())
    except OSError as error: print(type(error).__name__)
for place in ({str(tmp_path)!r}, {str(home)!r}, "/usr", "/etc", "/", "/dev/shm", "/var/tmp"):
    attempt(lambda: open(place + "/innerloop-was-here", "w").write("here"))
    attempt(lambda: os.mkdir(place + "/innerloop-was-there"))
attempt(lambda: open({str(secret)!r}).read())
attempt(lambda: open({str(secret)!r}, "a").write("changed"))
attempt(lambda: os.remove({str(secret)!r}))
attempt(lambda: os.listdir({str(tmp_path)!r}))
attempt(lambda: os.listdir({str(home)!r}))
attempt(lambda: open("/proc/{os.getpid()}/environ").read())
attempt(lambda: open("/etc/shadow").read())
"""
    ended = box.run([program])
    assert ended.finished, ended
    assert secret.read_text() == "the secret"
    assert list(tmp_path.iterdir()) == [secret]
    assert "the secret" not in ended.output
    assert "root:" not in ended.output
    for place in (home, "/usr", "/etc", "/", "/dev/shm", "/var/tmp"):
        assert not Path(place, "innerloop-was-here").exists()
        assert not Path(place, "innerloop-was-there").exists()
    listed = [line for line in ended.output.splitlines() if line.startswith("[")]
    way = {part.name for part in (Path(sys.base_prefix), *Path(sys.base_prefix).parents)}  # the interpreter is there
    assert not any(f"'{name}'" in line for line in listed for name in known - way)


@pytest.mark.model
def test_the_environment_stays_outside(box, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "tell-nobody")
    ended = box.run(["import os; print(dict(os.environ))"])
    assert ended.finished
    assert "tell-nobody" not in ended.output


@pytest.mark.model
def test_opening_a_socket(box):
    with socket.socket() as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        for end in (server, listener):
            end.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(0.2)
        listener.settimeout(0.2)
        program = f"""
import socket
for act in (
    lambda: socket.create_connection(("127.0.0.1", {server.getsockname()[1]}), timeout=1),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", {listener.getsockname()[1]})),
):
    try: act()
    except OSError as error: print(type(error).__name__)
"""
        box.run([program])
        with pytest.raises(TimeoutError):
            server.accept()
        with pytest.raises(TimeoutError):
            listener.recv(1)


@pytest.mark.model
def test_killing_the_parent_and_others(box):
    victim = subprocess.Popen(["sleep", "60"])
    try:
        program = f"""
import os, signal
for number in (signal.SIGTERM, signal.SIGKILL):
    for pid in ({victim.pid}, os.getppid()):
        try: os.kill(pid, number)
        except OSError: pass
    if os.getpid() < 20:  # in a namespace of its own, where all means nobody else
        try: os.kill(-1, number)
        except OSError: pass
"""
        ended = box.run([program])
        assert ended.started
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()
    assert box.run(["print('next')"]).output == "next\n"


@pytest.mark.model
def test_a_daemon_does_not_outlive_its_program(kind):
    program = (
        "import os, time\n"
        "if not os.fork():\n"
        "    os.setsid()\n"
        "    if not os.fork():\n"
        "        time.sleep(30)\n"
        "    os._exit(0)\n"
        "time.sleep(0.3)\n"
    )
    start = time.monotonic()
    ended = Sandbox(kind, LIMITS, without=OPEN).run([program])
    assert ended.finished
    assert time.monotonic() - start < 10
    assert survivors() == []


@pytest.mark.model
def test_closing_ends_what_runs(kind):
    box = Sandbox(kind, replace(LIMITS, time=60))
    threading.Timer(1, box.close).start()
    start = time.monotonic()
    assert box.run(["import time; time.sleep(60)"]).stop is Stop.CLOSED
    assert time.monotonic() - start < 20
    assert box.run(["print(1)"]).started is False
    assert survivors() == []


def test_without_bubblewrap_the_weaker_sandbox_must_be_allowed(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("PATH", str(tmp_path))
    for function in (sandbox._fault, sandbox._gaps, sandbox._warn):
        function.cache_clear()
    try:
        refused = choose()
        assert refused.kind is None
        assert "bubblewrap is not installed" in refused.reason
        assert "allow the weaker sandbox" in refused.describe()
        allowed = choose(weaker=True)
        assert allowed.kind is Kind.WEAKER
        assert "not guaranteed" in allowed.describe()
        assert "weaker sandbox (bubblewrap is not installed)" in caplog.text
    finally:
        sandbox._fault.cache_clear()


def test_a_bubblewrap_that_fails_is_not_used(monkeypatch, tmp_path):
    """As in a container that grants no namespaces."""
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    sandbox._fault.cache_clear()
    try:
        assert "No permissions to create new namespace" in choose().reason
    finally:
        sandbox._fault.cache_clear()


def test_a_sandbox_that_contains_nothing_is_not_used(monkeypatch, tmp_path):
    """A bwrap that just runs the program: the probe gets at everything, and says so."""
    hollow = tmp_path / "bwrap"
    hollow.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n')
    hollow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    sandbox._fault.cache_clear()
    try:
        assert choose().kind is None
        assert "does not contain" in choose().reason or "does not work" in choose().reason
    finally:
        sandbox._fault.cache_clear()


@pytest.mark.parametrize("setting", ["time", "memory", "processes", "file", "folder", "output"])
def test_limits_are_checked(setting):
    with pytest.raises(ValueError, match=f"{setting} is 0"):
        Limits(**{setting: 0})
