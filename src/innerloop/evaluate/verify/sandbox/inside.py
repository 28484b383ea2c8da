"""What runs inside a sandbox, before and around the untrusted program.

``python -c`` gets this file compiled, so it imports nothing but the standard library. One JSON object on standard
input says what to do (see ``process.order``). Reports go, one JSON object a line, to a pipe of their own, and carry
the run's token, so that nothing which the program prints is taken for one. (A program that searches the interpreter's
own frames can find the token: this keeps early exits and prints from counting as success, not a determined forger.)

The last doors are closed right before the program: the system call filter (seccomp.py), and in the weaker mode, where
this file is the sandbox, also file rules (landlock.py) and an audit hook. Before that come namespaces where the system
grants them, and a user id of its own where it starts as root. The hook gives readable errors, and stops ordinary code
where the kernel lacks the rest; code that is written to get around a hook succeeds.
"""

from __future__ import annotations

import binascii
import contextlib
import ctypes
import json
import marshal
import os
import resource
import signal
import sys
import types
from collections.abc import Callable
from typing import Any, NoReturn

_NEW_FILES, _NEW_USER, _NEW_PID, _NEW_NET, _NEW_IPC = 0x00020000, 0x10000000, 0x20000000, 0x40000000, 0x08000000
_SET_DEATH_SIGNAL, _SET_DUMPABLE, _SET_SUBREAPER = 1, 4, 36
_PRIVATE = 0x44000  # MS_REC | MS_PRIVATE
_NO_DEVICES = 0x6  # MS_NOSUID | MS_NODEV
_REFUSED = (  # audit events, by how they begin
    *(
        "socket.",
        "ctypes.",
        "subprocess.",
        "pty.",
        "syslog.",
        "ftplib.",
        "urllib.",
        "webbrowser.",
        "os.kill",
        "os.fork",
    ),
    *("os.exec", "os.posix_spawn", "os.spawn", "os.system", "signal.pthread_kill"),
)
_CHANGING = (  # and those that are well inside the private folder
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown"),
    *("os.utime", "os.listdir", "os.scandir", "os.chdir", "os.setxattr", "os.removexattr", "shutil.", "tempfile."),
    *("sqlite3.connect", "glob."),
)
_DEVICES = ("/dev/null", "/dev/urandom", "/usr/share/zoneinfo")
_LIBRARIES = ("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/nix/store", "/etc/ld.so.cache")


def main() -> None:
    """Reads the order, closes the doors, runs the program."""
    source = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    order = json.loads(_frame(source)) | {"nothing": nothing}
    token, pipe = order["token"], order["pipe"]

    def report(**said: Any) -> None:
        os.write(pipe, json.dumps({"token": token, **said}).encode() + b"\n")

    _join(order["group"])
    isolated = True
    if order["weaker"]:
        isolated = _split_off(report, (source,), namespaces="namespaces" in order["doors"], mount=lambda: _mount(order))
        _keep_readable(order["readable"])
    close = _doors(order)
    _become(order["user"])
    if order["weaker"]:
        _die_with_parent()
    _prctl(_SET_DUMPABLE, 0)  # others of its user, its own program first of all, cannot look into it
    os.chdir(order["folder"])
    _limit(order["limits"])
    sys.path += order["paths"]

    if order["tests"]:
        report(started=True)
        order["sweep"] = isolated and os.getpid() <= 2  # sure to be alone: it will end all that it sees
        _test(order, source, report, close)
    os.close(source)
    close()
    report(started=True)
    _run(order["sources"], report)


def _join(group: int | None) -> None:
    """Moves this process into the memory group whose list of processes is open as ``group``."""
    if group is not None:
        with contextlib.suppress(OSError):
            os.write(group, b"0")
        os.close(group)


def _part(order: dict[str, Any], name: str) -> dict[str, Any]:
    """The names that another file of the sandbox defines; it comes compiled."""
    names: dict[str, Any] = {"__name__": name}
    exec(marshal.loads(binascii.a2b_base64(order["parts"][name])), names)
    return names


def _doors(order: dict[str, Any]) -> Callable[[], None]:
    """What closes the doors. In the weaker mode those that the kernel lacks stay open, and the probe finds them."""
    doors, folder = order["doors"], order["folder"]
    seccomp = _part(order, "seccomp") if "seccomp" in doors else None
    landlock = _part(order, "landlock") if "landlock" in doors else None
    rules = None
    if landlock is not None:
        readable = (*order["readable"], *order["paths"], *_DEVICES, *_LIBRARIES)
        rules = landlock["prepare"](readable, (folder,))

    def close() -> None:
        if landlock is not None and rules is not None:
            landlock["enforce"](rules)
        if seccomp is not None:
            try:
                seccomp["install"](alone=order["weaker"])
            except OSError:
                if not order["weaker"]:
                    raise
        if "hook" in doors:
            _guard(folder, (*order["readable"], *sys.path))

    return close


def _test(order: dict[str, Any], source: int, report: Any, close: Any) -> NoReturn:
    """Runs the first of the sources that can be compiled on inputs (on_inputs.py), and ends the process."""
    program, error = _compiled(order["sources"])
    if error is None:
        _prctl(_SET_SUBREAPER, 1)
        tools = (lambda: _frame(source), _told, report, close)
        _part(order, "on_inputs")["run"](program, order, tools, (source, order["pipe"]))
    else:
        report(error=_told(error))
    os._exit(0)


def _frame(source: int, read: Any = os.read) -> str:
    """A text behind its length in 16 digits; nothing further is read, so that no later text is in memory."""
    parts = []
    missing = int(read(source, 16))
    while missing:
        parts.append(read(source, missing))
        if not parts[-1]:
            raise EOFError
        missing -= len(parts[-1])
    return b"".join(parts).decode("utf-8", "surrogatepass")


def _compiled(sources: list[str]) -> tuple[Any, BaseException | None]:
    """The first of the sources that can be compiled, or why the first one cannot."""
    error: BaseException | None = None
    for source in sources:
        try:
            return compile(source, "<program>", "exec", dont_inherit=True), None
        except (SyntaxError, ValueError, MemoryError, RecursionError) as caught:
            error = error or caught
    return None, error


def _told(error: BaseException) -> str:
    text = " ".join(str(error).split())[:160]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _run(sources: list[str], report: Any) -> NoReturn:
    """Executes the first of the sources that can be compiled, and ends the process."""
    program, error = _compiled(sources)
    if program is not None:
        module = sys.modules["program"] = types.ModuleType("program")
        try:
            exec(program, module.__dict__)
        except BaseException as caught:  # noqa: BLE001  # SystemExit before the end is a failure like any other
            error = caught
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    if error is None:
        report(finished=True)
    else:
        report(error=_told(error))
    os._exit(0)


def _limit(limits: dict[str, Any]) -> None:
    for name, value in limits.items():
        kind = getattr(resource, name, None)
        if kind is None:
            continue
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS knows some of them by name only
            resource.setrlimit(kind, (value, value))


def _become(user: int | None) -> None:
    """Gives up root for a user id that nobody else has, so that limits and permissions hold."""
    if user is None or os.getuid() != 0:
        return
    for candidate in (user, 65534):  # where only some ids are mapped: nobody
        try:
            os.setgroups([])
            os.setresgid(candidate, candidate, candidate)
            os.setresuid(candidate, candidate, candidate)
        except OSError:
            continue
        return


def _keep_readable(folders: list[str]) -> None:
    """Imports go on to work for another user where the interpreter lives in a closed home folder.

    An open handle leads to the interpreter's folder without the way through the home, and to nothing else in there.
    """
    if os.getuid() != 0 or sys.platform != "linux":
        return
    packages = [
        module.__path__ for module in sys.modules.values() if isinstance(getattr(module, "__path__", None), list)
    ]
    for folder in folders:
        handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        for paths in (sys.path, *packages):
            paths[:] = [
                path.replace(folder, f"/proc/self/fd/{handle}", 1) if path.startswith(folder) else path
                for path in paths
            ]
    sys.path_importer_cache.clear()


def _call(name: str, *arguments: Any) -> bool:
    """A function of the C library; False where it fails or there is none."""
    try:
        return getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) == 0
    except (OSError, AttributeError):
        return False


def _prctl(option: int, value: int) -> bool:
    return _call("prctl", option, *(ctypes.c_ulong(number) for number in (value, 0, 0, 0)))


def _die_with_parent() -> None:
    _prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)


def _split_off(
    report: Any, handles: tuple[int, ...] = (), *, namespaces: bool = True, mount: Callable[[], None] | None = None
) -> bool:
    """Goes on in a child, in namespaces of its own where they are granted (the return value says so).

    The parent stays outside: lost processes become its children, it says when the child ended, and waits to be killed
    together with all that is below it. It keeps none of the ``handles``. ``mount`` is called where there are private
    mounts.
    """
    _die_with_parent()
    _prctl(_SET_SUBREAPER, 1)
    user, group = os.getuid(), os.getgid()
    apart = _NEW_PID | _NEW_NET | _NEW_IPC
    isolated = namespaces and _call("unshare", apart)
    if namespaces and not isolated and (isolated := _call("unshare", _NEW_USER | apart)):
        own = {"setgroups": "deny", "uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
        for file, text in own.items():
            with contextlib.suppress(OSError), open(f"/proc/self/{file}", "w") as stream:  # noqa: PTH123  # starts quicker
                stream.write(text)
    if isolated and mount is not None and _call("unshare", _NEW_FILES):
        mount()
    child = os.fork()
    if not child:
        return isolated
    for handle in handles:
        os.close(handle)
    _prctl(_SET_DUMPABLE, 0)
    status = os.waitpid(child, 0)[1]
    report(ended=os.waitstatus_to_exitcode(status))
    while True:
        signal.pause()


def _mount(order: dict[str, Any]) -> None:
    """Puts a file system of limited size over the private folder, in a namespace that ends with the process."""
    folder, size = order["folder"], order["size"]
    if not _call("mount", None, b"/", None, ctypes.c_ulong(_PRIVATE), None):
        return
    settings = f"size={size}m,nr_inodes={order['entries']},mode=0700".encode()
    if _call("mount", b"innerloop", os.fsencode(folder), b"tmpfs", ctypes.c_ulong(_NO_DEVICES), settings):
        owner = order["user"] if order["user"] is not None else os.getuid()
        with contextlib.suppress(OSError):
            os.chown(folder, owner, -1)


def _guard(folder: str, readable: tuple[str, ...]) -> None:
    """The audit hook: reading in the interpreter's folders, writing in the private one, and nothing else."""
    real, path_of, refuse, changing = os.path.realpath, os.fsdecode, _REFUSED, _CHANGING
    unix = 1  # AF_UNIX: asyncio talks to itself by a connected pair; what connects or binds others is refused
    inside = tuple(real(folder).rstrip("/") + end for end in ("", "/"))
    allowed = (*inside, *(real(place) for place in readable if place), *_DEVICES)
    write = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def within(place: Any, places: tuple[str, ...]) -> bool:
        path = real(path_of(place))
        return any(path == one or path.startswith(one.rstrip("/") + "/") for one in places)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and not isinstance(arguments[0], int):
            places = inside if (arguments[2] or 0) & write else allowed
            if not within(arguments[0], places):
                raise PermissionError(f"the sandbox does not let the program open {arguments[0]!r}")
        elif event.startswith(refuse) and (event != "socket.__new__" or arguments[1] != unix):
            raise PermissionError(f"the sandbox does not allow {event}")
        elif event.startswith(changing):
            reading = event in ("os.listdir", "os.scandir")
            for place in arguments:
                if isinstance(place, str | bytes | os.PathLike) and not within(place, allowed if reading else inside):
                    raise PermissionError(f"the sandbox does not allow {event} of {place!r}")

    sys.addaudithook(hook)


if __name__ == "__main__":
    main()
