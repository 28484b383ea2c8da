"""What runs inside a sandbox, before and around the untrusted program.

``python -c`` gets the text of this file, so it imports nothing but the standard library. One JSON object on standard
input says what to do (see ``process.order``). Reports go, one JSON object a line, to a pipe of their own, and carry
the run's token, so that nothing which the program prints is taken for one. (A program that searches the interpreter's
own frames can find the token: this keeps early exits and prints from counting as success, not a determined forger.)

In the weaker mode this file is the sandbox too: namespaces where the system grants them, a user id of its own where it
starts as root, and an audit hook that refuses files elsewhere, sockets, signals and other programs. Such a hook stops
ordinary code; code that is written to get around it may succeed.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import types
from typing import Any, NoReturn

_NEW_USER, _NEW_PID, _NEW_NET, _NEW_IPC = 0x10000000, 0x20000000, 0x40000000, 0x08000000
_SET_DEATH_SIGNAL, _SET_SUBREAPER, _SET_NO_NEW_PRIVILEGES = 1, 36, 38
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
    *("os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.putenv", "signal.pthread_kill"),
)
_CHANGING = (  # and those that are well inside the private folder
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown"),
    *("os.utime", "os.listdir", "os.scandir", "os.chdir", "os.setxattr", "os.removexattr", "shutil.", "tempfile."),
    *("sqlite3.connect", "glob."),
)
_DEVICES = ("/dev/null", "/dev/urandom", "/usr/share/zoneinfo")


def main() -> None:
    """Reads the order, closes the doors, runs the program."""
    source = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    order = json.loads(_frame(source)) | {"nothing": nothing}
    token, pipe = order["token"], order["pipe"]

    def report(**said: Any) -> None:
        os.write(pipe, json.dumps({"token": token, **said}).encode() + b"\n")

    isolated = True
    if order["weaker"]:
        isolated = _split_off(report)
        _keep_readable(order["readable"])
    _become(order["user"])
    if order["weaker"]:
        _die_with_parent()
    os.chdir(order["folder"])
    _limit(order["limits"])
    sys.path += order["paths"]

    def guard() -> None:
        if order["guard"]:
            _guard(order["folder"], (*order["readable"], *sys.path))

    if order["tests"]:
        report(started=True, isolated=isolated)
        _test(order, source, report, guard)
    os.close(source)
    guard()
    report(started=True, isolated=isolated)
    _run(order["sources"], report)


def _test(order: dict[str, Any], source: int, report: Any, guard: Any) -> NoReturn:
    """Runs the first of the sources that can be compiled on inputs (on_inputs.py), and ends the process."""
    program, error = _compiled(order["sources"])
    if error is None:
        names: dict[str, Any] = {"__name__": "on_inputs"}
        exec(order["harness"], names)
        names["run"](program, order, (lambda: _frame(source), _told, report, guard), (source, order["pipe"]))
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
    for folder in folders:
        handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        sys.path[:] = [
            path.replace(folder, f"/proc/self/fd/{handle}", 1) if path.startswith(folder) else path for path in sys.path
        ]
    sys.path_importer_cache.clear()


def _call(name: str, *arguments: int) -> bool:
    """A function of the C library; False where it fails or there is none."""
    try:
        import ctypes

        return getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) == 0
    except (ImportError, OSError, AttributeError):
        return False


def _die_with_parent() -> None:
    _call("prctl", _SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    _call("prctl", _SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def _split_off(report: Any) -> bool:
    """Goes on in a child, in namespaces of its own where they are granted (the return value says so).

    The parent stays outside: lost processes become its children, it says when the child ended, and waits to be killed
    together with all that is below it.
    """
    _call("prctl", _SET_SUBREAPER, 1, 0, 0, 0)
    user, group = os.getuid(), os.getgid()
    isolated = _call("unshare", _NEW_PID | _NEW_NET | _NEW_IPC)
    if not isolated and (isolated := _call("unshare", _NEW_USER | _NEW_PID | _NEW_NET | _NEW_IPC)):
        own = {"setgroups": "deny", "uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
        for file, text in own.items():
            with contextlib.suppress(OSError), open(f"/proc/self/{file}", "w") as stream:  # noqa: PTH123  # starts quicker
                stream.write(text)
    child = os.fork()
    if not child:
        return isolated
    status = os.waitpid(child, 0)[1]
    report(ended=os.waitstatus_to_exitcode(status))
    while True:
        signal.pause()


def _guard(folder: str, readable: tuple[str, ...]) -> None:
    """The audit hook: reading in the interpreter's folders, writing in the private one, and nothing else."""
    real, path_of, refuse, changing = os.path.realpath, os.fsdecode, _REFUSED, _CHANGING
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
        elif event.startswith(refuse):
            raise PermissionError(f"the sandbox does not allow {event}")
        elif event.startswith(changing):
            reading = event in ("os.listdir", "os.scandir")
            for place in arguments:
                if isinstance(place, str | bytes | os.PathLike) and not within(place, allowed if reading else inside):
                    raise PermissionError(f"the sandbox does not allow {event} of {place!r}")

    sys.addaudithook(hook)


if __name__ == "__main__":
    main()
