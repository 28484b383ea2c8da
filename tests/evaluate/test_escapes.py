"""The sandboxes against programs that try every door (`escapes`), as root and as an ordinary user."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import psutil
import pytest

import innerloop
from innerloop.evaluate.verify.sandbox import Kind, Limits, Sandbox, Stop, cgroup, probe, sandbox

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="about the Linux kernel"),
    pytest.mark.model,  # starts processes
]

SCRIPT = Path(__file__).with_name("escapes.py")
SOURCES = Path(innerloop.__file__).parents[1]
ORDINARY = 54321  # a user id that nobody has


def as_user(who: str) -> list[str]:
    """The beginning of a command that runs as that user."""
    if who == "the tests' user":
        return []
    if os.geteuid() != 0:
        pytest.skip("the tests run as an ordinary user, so the other case is this one")
    bwrap, change = shutil.which("bwrap"), shutil.which("setpriv")
    if bwrap is None or change is None:
        pytest.skip("becoming an ordinary user, who can read the interpreter in a closed home, takes bwrap and setpriv")
    needed = [Path(sys.base_prefix), Path(sys.prefix), Path(sysconfig.get_path("purelib")), SOURCES, SCRIPT]
    closed = {above for path in needed for above in path.parents if not above.stat().st_mode & 0o001}
    outer = [above for above in closed if not closed & {*above.parents}]
    ways = [part for above in outer for part in ("--perms", "0755", "--tmpfs", str(above))]
    for path in needed:
        if above := next((above for above in outer if path.is_relative_to(above)), None):
            for way in reversed([way for way in path.parents if way != above and way.is_relative_to(above)]):
                ways += ["--perms", "0755", "--dir", str(way)]
            ways += ["--ro-bind", str(path), str(path)]
    user = [f"--re{kind}id={ORDINARY}" for kind in "ug"]
    command = [bwrap, "--dev-bind", "/", "/", *ways, "--cap-add", "ALL", "--", change, *user, "--clear-groups", "--"]
    tried = subprocess.run([*command, sys.executable, "-c", ""], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no other user can be had here: {tried.stderr.strip()[-200:]}")
    return command


def run(who: str, *arguments: str) -> dict:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES), "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/"}
    command = [*as_user(who), sys.executable, *arguments]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=170, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.parametrize("who", ["the tests' user", "an ordinary user"])
@pytest.mark.parametrize("case", ["bubblewrap", "weaker", "weaker namespaces"])
def test_no_door_is_open(who, case):
    """``namespaces``: as where the system grants none, which is where the weaker sandbox is used."""
    kind = Kind(case.partition(" ")[0])
    if sandbox._fault(kind):
        pytest.skip(sandbox._fault(kind))
    found = run(who, str(SCRIPT), *case.split())
    if found["fault"]:
        pytest.skip(found["fault"])
    assert found["uid"] == (os.getuid() if who == "the tests' user" else ORDINARY)
    assert found["calls"] == []
    assert found["alone"] == []
    if kind is Kind.BUBBLEWRAP or not {"reading files", "files that anybody may read"} & {*found["gaps"]}:
        assert found["files"] == []
    assert found["changed"] == []
    assert found["left"] == []
    assert "test 2 of 2: 'nothing' instead of 'secret" in found["theft"], found["theft"]
    assert "finished=True" in found["daemon"], found["daemon"]
    assert "finished=True" in found["ordinary"], found["ordinary"]
    if kind is Kind.BUBBLEWRAP:
        assert "finished=True" in found["processes"], found["processes"]
        assert (found["tables"], found["empty"], found["buffers"]) == (Stop.MEMORY, Stop.FILES, Stop.MEMORY)


def weaker(without: tuple[str, ...]) -> set[str]:
    got = sandbox._tried(Sandbox(Kind.WEAKER, probe.LIMITS, without=without), deep=True)
    assert isinstance(got, tuple), got
    return {*got}


def test_gaps_are_what_a_program_gets_at():
    """Each door that a machine lacks is named by what can be done for want of it, and nothing else is."""
    held = weaker(("hook",))
    if len(held) > 1:
        pytest.skip(f"this machine lacks something itself: {held}")
    assert held == {"names, sizes and times of files (not what is in them)"}  # the kernel has no rule for these
    assert weaker(("hook", "namespaces")) == held | {"the size of files that are deleted but open"}
    lost = {"files that anybody may read", "folders that anybody may write to"}
    assert weaker(("hook", "landlock")) >= held | lost
    assert weaker(("hook", "seccomp")) >= held | {"shared memory", "keys of the user"}
    bare = weaker(("hook", "seccomp", "landlock", "namespaces"))
    assert bare >= held | lost | {"shared memory", "the network", "starting programs"}


def test_bubblewrap_alone_would_not_be_trusted(monkeypatch):
    """The probe tries what only the filter refuses, so a kernel without filters is found out."""
    if sandbox._fault(Kind.BUBBLEWRAP):
        pytest.skip(sandbox._fault(Kind.BUBBLEWRAP))
    monkeypatch.setitem(sandbox.DOORS, Kind.BUBBLEWRAP, ())
    sandbox._fault.cache_clear()
    try:
        assert "does not contain shared memory, keys of the user" in sandbox._fault(Kind.BUBBLEWRAP)
    finally:
        sandbox._fault.cache_clear()


def test_a_program_that_turns_off_the_hook_meets_the_kernel(tmp_path):
    if sandbox._fault(Kind.WEAKER) or "reading files" in sandbox._gaps() or "writing files" in sandbox._gaps():
        pytest.skip("no file rules in this kernel")
    secret = tmp_path / "secret"
    secret.write_text("the secret")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == secret.owner() and folder != Path("/"):
            folder.chmod(0o755)
    program = f"""
import gc, types
for found in gc.get_objects():
    if isinstance(found, types.FunctionType) and found.__name__ == "hook":
        for cell in found.__closure__:
            if isinstance(cell.cell_contents, tuple):
                cell.cell_contents = ()
            elif isinstance(cell.cell_contents, types.FunctionType):
                cell.cell_contents = lambda *arguments: True
import ctypes
print(ctypes.CDLL(None).getpid() > 0)
for act in (lambda: open({str(secret)!r}).read(), lambda: open({str(secret)!r}, "a"), lambda: open("own", "w")):
    try: print(act())
    except PermissionError as error: print(error.errno)
"""
    ended = Sandbox(Kind.WEAKER, Limits(time=5, memory=256)).run([program])
    first, read, appended, own = ended.output.splitlines()
    assert first == "True", "the hook is off"
    assert (read, appended) == ("13", "13"), "the kernel says no, with its number for it"
    assert "own" in own
    assert secret.read_text() == "the secret"


@pytest.mark.parametrize("kind", [Kind.BUBBLEWRAP, Kind.WEAKER])
def test_nothing_outlives_a_host_that_is_killed(kind):
    if sandbox._fault(kind):
        pytest.skip(sandbox._fault(kind))
    text = (
        "from innerloop.evaluate.verify.sandbox import Kind, Limits, Sandbox\n"
        "program = 'import time; held = bytearray(90 << 20); time.sleep(60)'\n"
        f"Sandbox(Kind({kind.value!r}), Limits(time=60)).run([program])\n"
    )
    host = subprocess.Popen([sys.executable, "-c", text], env=os.environ | {"PYTHONPATH": str(SOURCES)})
    below: list[psutil.Process] = []
    try:
        deadline = time.monotonic() + 30
        while not any(_resident(process) > 90 << 20 for process in below):
            assert time.monotonic() < deadline, below
            time.sleep(0.05)
            below = psutil.Process(host.pid).children(recursive=True)
        host.kill()
        assert psutil.wait_procs(below, timeout=10)[1] == []
    finally:
        host.kill()
        host.wait()
        for process in below:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)


def _resident(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.Error):
        return process.memory_info().rss
    return 0


def test_a_memory_group_holds_what_no_process_holds():
    """Without the filter, so that shared memory can be had: the kernel counts it."""
    if cgroup.place() is None or sandbox._fault(Kind.BUBBLEWRAP):
        pytest.skip("no memory group can be made here")
    program = (
        "import mmap, os\n"
        "for part in range(4):\n"
        "    held = os.memfd_create('held')\n"
        "    for _ in range(120):\n"
        "        os.write(held, bytes(1 << 20))\n"
        "print('all of it')\n"
    )
    limits = Limits(time=20, memory=256, file=200)
    ended = Sandbox(Kind.BUBBLEWRAP, limits, without=["seccomp"]).run([program])
    assert ended.stop is Stop.MEMORY, ended
    assert "all of it" not in ended.output
    assert not [*cgroup.place().glob(f"innerloop-{os.getpid()}-*")], "the group is gone with the run"
