"""What keeps a cluster of our own to this user of this machine.

Ray's services listen on the loopback interface alone, ask for a token that only this cluster has, and keep logs and
sockets in a folder that nobody else can enter; ``~/.ray`` and ``/tmp/ray`` are not touched. All of that goes when the
cluster does, or this process: see `innerloop.cluster.janitor`.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from innerloop.errors import InputError

# Ray names a socket FOLDER/r/session_DATE_TIME_PID/sockets/plasma_store, and the system allows 107 bytes.
_LONGEST = 24  # characters of the folder that ours is made in
_ON_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # "0": a cluster of one machine, on every system


class Private:
    """A folder, a token and settings for one cluster, from here to `close`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir=_short_folder()))  # mode 0700
        token = self.folder / "token"
        handle = os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32))
        self._janitor = _start_janitor(self.folder)
        own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_AUTH_TOKEN": None, _ON_LOOPBACK: "0"}
        self._before = {name: os.environ.get(name) for name in own}
        _set(own)
        self._constants: Any = None

    @property
    def temporary(self) -> str:
        """Where Ray keeps its session. Ray opens it to everybody, so it lies inside the folder that is closed."""
        return str(self.folder / "r")

    def enter(self, ray: Any) -> None:
        """Have a Ray that may have been imported before read the settings."""
        self._constants = ray._private.ray_constants
        self._cluster_before = getattr(self._constants, "ENABLE_RAY_CLUSTER", True)
        self._constants.ENABLE_RAY_CLUSTER = False
        _read_settings_again()

    def check(self, ray: Any) -> None:
        """``RuntimeError`` where this version of Ray did otherwise."""
        address = ray.util.get_node_ip_address()
        if address not in ("127.0.0.1", "::1"):
            raise RuntimeError(f"this version of Ray listens on {address}, and not on the loopback interface alone")

    def close(self) -> None:
        """Have the folder removed; the settings are what they were. The cluster's processes are gone by now."""
        assert self._janitor.stdin is not None
        with suppress(OSError):
            self._janitor.stdin.write(b"c")
            self._janitor.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._janitor.wait(timeout=30)
        shutil.rmtree(self.folder, ignore_errors=True)
        _set(self._before)
        if self._constants is not None:
            self._constants.ENABLE_RAY_CLUSTER = self._cluster_before
            _read_settings_again()


def _short_folder() -> str:
    """A folder for temporary files whose path leaves room for the names of sockets."""
    usual = tempfile.gettempdir()
    for folder in (usual, "/tmp", "/var/tmp"):
        if len(os.fsencode(folder)) <= _LONGEST and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise InputError(
        f"{usual}: a path too long for the sockets of a Ray cluster, and /tmp cannot be written; set TMPDIR to a "
        f"folder of at most {_LONGEST} characters"
    )


def _start_janitor(folder: Path) -> subprocess.Popen[bytes]:
    """In a session of its own, so that no Ctrl-C meets it."""
    file = Path(__file__).with_name("janitor.py")
    return subprocess.Popen(
        [sys.executable, "-P", str(file), str(folder), str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _set(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _read_settings_again() -> None:
    """Ray keeps its settings and its token in memory; older versions have no token and need nothing."""
    with suppress(ImportError, AttributeError):
        raylet: Any = import_module("ray._raylet")
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()
