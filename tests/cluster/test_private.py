"""A cluster of our own: on the loopback interface, for this user alone, and gone with whoever started it."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from innerloop.cluster import janitor, private
from innerloop.cluster.connection import Connection
from innerloop.cluster.options import ClusterOptions
from innerloop.errors import InputError


def gone(path: Path, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while path.exists() and time.monotonic() < end:
        time.sleep(0.1)
    return not path.exists()


@pytest.fixture
def short_tmp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files of the test's own, short enough for sockets."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


# Without Ray


def test_folder_and_token_are_this_users_alone_and_settings_come_back(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "somebody's")
    before = dict(os.environ)
    old = os.umask(0)
    try:
        own = private.Private()
    finally:
        os.umask(old)
    try:
        token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
        assert own.folder.parent == short_tmp
        assert own.folder in token.parents
        assert stat.S_IMODE(own.folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        assert len(bytes.fromhex(token.read_text())) == 32
        assert os.environ["RAY_AUTH_MODE"] == "token"
        assert "RAY_AUTH_TOKEN" not in os.environ
        assert Path(own.temporary).parent == own.folder
        session = Path(own.temporary) / "session_2026-01-01_00-00-00_000000_4194304" / "sockets" / "plasma_store.tmp"
        assert len(os.fsencode(session)) < 107
    finally:
        own.close()
    assert dict(os.environ) == before
    assert list(short_tmp.iterdir()) == []


def test_a_long_path_for_temporary_files_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    long = tmp_path / ("x" * 60)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert private._short_folder() in ("/tmp", "/var/tmp")
    monkeypatch.setattr(os, "access", lambda folder, mode: False)
    with pytest.raises(InputError, match="set TMPDIR to a folder of at most 24 characters"):
        private._short_folder()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "ended", "closed"])
def test_the_janitor_ends_what_holds_the_folder_open_and_removes_it(how: str, tmp_path: Path) -> None:
    """A process that pays no heed to anything, of a parent that is killed or ends; one that closes ends its own."""
    folder = tmp_path / "f"
    folder.mkdir()
    hold = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); f = open(sys.argv[1], 'w'); "
    hold += "print('ready', flush=True); time.sleep(600)"
    starter = textwrap.dedent(f"""
        import os, subprocess, sys
        hold = subprocess.Popen([sys.executable, "-c", {hold!r}, {str(folder / "log")!r}], stdout=subprocess.PIPE,
                                start_new_session=True)
        hold.stdout.readline()
        argv = [sys.executable, "-P", {janitor.__file__!r}, {str(folder)!r}, str(os.getpid())]
        cleaner = subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True)
        print(hold.pid, cleaner.pid, flush=True)
        own = open({str(folder / "own")!r}, "w")  # as Ray has in who started it
        if sys.stdin.readline():
            cleaner.stdin.write(b"c")
            cleaner.stdin.close()
            cleaner.wait()
            hold.kill()
            print("there", flush=True)
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", starter], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    family = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        if how == "killed":
            process.kill()
        out, _ = process.communicate("close" if how == "closed" else "")
        assert out == ("there\n" if how == "closed" else "")
        _, alive = psutil.wait_procs(family, timeout=30)
        assert alive == []
        assert gone(folder, 5)
        assert other.poll() is None, "nobody else is ended"
    finally:
        other.kill()
        other.wait()


# With Ray

_SCRIPT = """
import json, os, sys, time
from innerloop.cluster.connection import Connection
from innerloop.cluster.options import ClusterOptions

connection = Connection(ClusterOptions(address="local", workers=1))
try:
    import ray, psutil

    @ray.remote
    class Busy:
        def hello(self):
            return os.getpid()

        def work(self):
            while True:
                pass

    busy = Busy.options(num_cpus=1).remote()
    ray.get(busy.hello.remote())
    busy.work.remote()
    family = [process.pid for process in psutil.Process().children(recursive=True)]
    print(json.dumps({"folder": str(connection._private.folder), "family": family}), flush=True)
    if sys.argv[1] == "error":
        raise RuntimeError("as it happens")
    if sys.argv[1] != "end":
        time.sleep(600)
finally:
    connection.close()
"""


@pytest.fixture
def no_ray() -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'innerloop[ray]'")


@pytest.mark.model
def test_a_cluster_of_our_own_listens_on_loopback_and_keeps_its_folder_to_itself(
    no_ray: None, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = short_tmp / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    here = psutil.Process()
    before = {(c.laddr.ip, c.laddr.port) for c in here.net_connections() if c.status == psutil.CONN_LISTEN}
    children = set(here.children())  # of tests before this one
    connection = Connection(ClusterOptions(address="local", workers=1))
    try:
        import ray

        assert connection._private is not None
        folder = connection._private.folder

        @ray.remote
        def listening() -> list[str]:
            own = psutil.Process().net_connections()
            return [c.laddr.ip for c in own if c.status == psutil.CONN_LISTEN]

        found = set(ray.get(listening.remote()))
        for process in (here, *here.children(recursive=True)):
            ports = process.net_connections()
            found |= {
                c.laddr.ip for c in ports if c.status == psutil.CONN_LISTEN and (c.laddr.ip, c.laddr.port) not in before
            }
        assert found, "or nothing was looked at"
        addresses = [ipaddress.ip_address(ip.removeprefix("::ffff:")) for ip in found]
        assert [ip for ip in addresses if not ip.is_loopback] == []
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert list(home.iterdir()) == [], "no token at home"

        # Nobody is told anything without the token.
        stranger = "import sys; from ray._raylet import GcsClient; "
        stranger += "print(len(GcsClient(address=sys.argv[1]).get_all_node_info(timeout=30)))"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        address = ray.get_runtime_context().gcs_address
        wrong, right = {"RAY_AUTH_TOKEN": "f" * 64}, {"RAY_AUTH_TOKEN_PATH": os.environ["RAY_AUTH_TOKEN_PATH"]}
        for token, told in (({}, ""), (wrong, ""), (right, "1\n")):
            ran = subprocess.run(
                [sys.executable, "-c", stranger, address],
                env=environment | ({"RAY_AUTH_MODE": "token"} | token if token else {}),
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert ran.stdout == told, ran.stderr
            assert (ran.returncode == 0) == bool(told)
    finally:
        connection.close()
    assert [path.name for path in short_tmp.iterdir()] == ["home"]
    assert set(here.children()) <= children


@pytest.mark.model
@pytest.mark.parametrize(
    "how",
    [
        "kill",
        pytest.param("interrupt", marks=pytest.mark.long),
        pytest.param("terminate", marks=pytest.mark.long),
        pytest.param("error", marks=pytest.mark.long),
        pytest.param("end", marks=pytest.mark.long),
    ],
)
def test_nothing_of_it_outlives_whoever_started_it(no_ray: None, how: str, short_tmp: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()
    said = json.loads(line)
    family = []
    for pid in said["family"]:
        try:
            family.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            continue
    assert len(family) > 3
    sent = {"kill": signal.SIGKILL, "interrupt": signal.SIGINT, "terminate": signal.SIGTERM}.get(how)
    if sent is not None:
        process.send_signal(sent)
    process.communicate(timeout=60)
    _, alive = psutil.wait_procs(family, timeout=40)
    assert alive == []
    assert gone(Path(said["folder"]), 10)
    assert list(short_tmp.iterdir()) == []
