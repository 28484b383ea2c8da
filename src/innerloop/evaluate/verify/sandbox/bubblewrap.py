"""The sandbox proper: bubblewrap, with namespaces for files, processes, network and users.

The program sees the interpreter and the system's libraries, read-only, and a small private folder in memory. There is
no home folder, no /proc, no /dev beside null, zero and random numbers, no network and nobody to signal.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from innerloop.evaluate.verify.sandbox.limits import Limits

FOLDER = "/tmp"  # the private folder, as the program sees it
_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/nix/store", "/etc/ld.so.cache", "/etc/alternatives")
_DEVICES = ("null", "zero", "random", "urandom")


def find() -> str | None:
    """The program ``bwrap``, or None."""
    return shutil.which("bwrap")


def packages() -> list[str]:
    """The folders of installed packages, which the program may import from."""
    return list(dict.fromkeys(path for name in ("purelib", "platlib") if (path := sysconfig.get_paths().get(name))))


def interpreter() -> list[str]:
    """The running interpreter without site packages, user settings or byte code, up to its program text."""
    return [str(Path(sys.executable).resolve()), "-I", "-S", "-B", "-X", "utf8", "-c"]


def command(bwrap: str, inside: str, limits: Limits, also: Sequence[str] = ()) -> list[str]:
    """The command line that runs the text ``inside`` in the sandbox; ``also`` are further folders to be read there."""
    separate = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    if os.geteuid() == 0:
        # Root of a user namespace would still be root to the kernel's limit of processes, which spares root. So no
        # user namespace here: inside.py takes another user id, and keeps no more than the right to do so until then.
        separate += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        separate += ["--unshare-user"]
    return [
        bwrap,
        *separate,
        *("--new-session", "--die-with-parent", "--hostname", "sandbox", "--clearenv"),
        *("--setenv", "PATH", "/usr/bin:/bin", "--setenv", "LANG", "C.UTF-8"),
        *("--setenv", "HOME", FOLDER, "--setenv", "TMPDIR", FOLDER),
        *("--setenv", "OMP_NUM_THREADS", "1", "--setenv", "OPENBLAS_NUM_THREADS", "1"),
        *("--perms", "1777", "--size", str(limits.folder << 20), "--tmpfs", FOLDER),
        *_bound(_SYSTEM),
        *_ways((sys.base_prefix, *packages(), *also)),
        *_bound((sys.base_prefix, *packages(), *also)),
        *(part for name in _DEVICES for part in ("--dev-bind", f"/dev/{name}", f"/dev/{name}")),
        *("--remount-ro", "/", "--chdir", FOLDER, "--"),
        *interpreter(),
        inside,
    ]


def _bound(paths: Sequence[str]) -> list[str]:
    return [part for path in dict.fromkeys(paths) for part in ("--ro-bind-try", path, path)]


def _ways(paths: Sequence[str]) -> list[str]:
    """Empty folders that lead to the paths. Bubblewrap would give them the permissions of a closed home folder."""
    above = dict.fromkeys(str(way) for path in paths for way in reversed(Path(path).parents) if way != Path("/"))
    return [part for way in above if way not in (FOLDER, *_SYSTEM) for part in ("--perms", "0755", "--dir", way)]
