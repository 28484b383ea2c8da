"""Runs inside a sandbox: a program on one input after the other, each in a child, up to the first that it fails.

inside.py gets this file compiled and executes it, so it imports nothing but the standard library either. A child
knows its input but not the output that is wanted: that is read from the host's file when the child has ended. So a
program can neither find it in memory nor claim that it had it; what it leaves behind in memory or as processes is gone
before the next input.

The modules that solutions on these sites take for granted are imported, as in LiveCodeBench's own runner.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import sys
import time
import types
from collections.abc import Callable
from typing import Any

_MODULES = (
    *("string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics"),
    *("itertools", "functools", "operator", "io", "sys", "json", "builtins", "typing"),
)
_PRELUDE = "\n".join(
    [
        *(f"from {name} import *\nimport {name}" for name in _MODULES),
        "from datetime import datetime, timedelta",
        "exit = quit = sys.exit",
        "sys.setrecursionlimit(50000)",
    ]
)


def run(program: Any, order: dict[str, Any], tools: tuple[Callable[..., Any], ...], closed: tuple[int, ...]) -> None:
    """Says ``finished`` where every output is right, else what went wrong at which test.

    ``tools`` are inside.py's: to read the next text, to put an exception into words, to report, to close the doors.
    ``closed`` are the handles that no child gets.
    """
    read, told, report, close = tools
    scope: dict[str, Any] = {}
    exec(_PRELUDE, scope)
    for number in range(1, order["tests"] + 1):
        said = _child(program, scope, read(), order, closed, (told, close))
        wanted = read()
        fault = said.get("error")
        if not {"error", "stop"} & said.keys():
            fault = _difference(said, wanted, order["function"])
        if fault or "stop" in said:
            where = f"test {number} of {order['tests']}"
            stop = {"stop": said["stop"]} if "stop" in said else {}
            report(error=f"{where}: {fault}" if fault else where, **stop)
            return
    report(finished=True)


def _child(
    program: Any, scope: dict[str, Any], given: str, order: dict[str, Any], closed: tuple[int, ...], tools: Any
) -> dict[str, Any]:
    """Runs the program on one input: what it ``printed`` or its ``result``, or the ``error`` or ``stop`` it met."""
    told, close = tools
    reading, typed = os.pipe()
    printed, printing = os.pipe()
    heard, saying = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setsid()
            for one in (*closed, typed, printed, heard):
                os.close(one)
            for stream, number in (
                (reading, 0),
                (order["nothing"] if order["function"] else printing, 1),
                (order["nothing"], 2),
            ):
                os.dup2(stream, number)
            for one in (reading, printing, order["nothing"]):
                os.close(one)
            close()
            _solve(program, scope, given, order["function"], saying, told)
        finally:
            os._exit(1)
    for one in (reading, printing, saying):
        os.close(one)
    out, end, stop = _converse(given.encode("utf-8", "surrogatepass"), (typed, printed, heard), order)
    for kill in (os.killpg,) if stop is None else (os.killpg, os.kill):  # what it left behind, and itself
        with contextlib.suppress(OSError):
            kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if order["sweep"]:
        _sweep()
    if stop is not None:
        return {"stop": stop}
    try:
        said = json.loads(end) if end else {}
    except (ValueError, RecursionError):
        said = {}
    if "MemoryError" in str(said.get("error", ""))[:11]:
        return {"stop": "memory"}
    if "error" in said:
        return {"error": str(said["error"])}
    if not end and status:
        return {"error": f"killed by signal {-status}" if status < 0 else f"ended with status {status}"}
    if order["function"]:
        return {"result": said["result"]} if "result" in said else {"error": "ended before it had a result"}
    return {"printed": out.decode("utf-8", "replace")}


def _sweep() -> None:
    """Ends all other processes. Only for a process that is alone with them in a namespace."""
    with contextlib.suppress(OSError):
        os.kill(-1, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:  # lost processes are this one's children (inside.py)
            os.waitpid(-1, 0)


def _solve(
    program: Any, scope: dict[str, Any], given: str, function: str | None, saying: int, told: Callable[..., str]
) -> None:
    """In the child: runs the program, calls the function if there is one, and says how it ended."""
    module = types.ModuleType("program" if function else "__main__")
    module.__dict__.update({**scope, "__name__": module.__name__})
    sys.modules[module.__name__] = module
    said: dict[str, Any] = {}
    try:
        exec(program, module.__dict__)
        if function:
            owner = module.__dict__.get("Solution")
            own = owner is not None and hasattr(owner, function)
            call = getattr(owner(), function) if owner and own else module.__dict__[function]
            said["result"] = call(*[json.loads(line) for line in given.split("\n")])
        sys.stdout.flush()
        text = json.dumps(said)
    except SystemExit as caught:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        text = json.dumps({"error": told(caught)} if function else {})
    except BaseException as caught:  # noqa: BLE001  # whatever it is, it is the program's failure
        text = json.dumps({"error": told(caught)})
    data = text.encode()
    while data:
        data = data[os.write(saying, data) :]
    os._exit(0)


def _converse(given: bytes, pipes: tuple[int, int, int], order: dict[str, Any]) -> tuple[bytes, bytes, str | None]:
    """Feeds the input and takes what is printed and said, until both end or a limit is met."""
    typed, printed, heard = pipes
    taken = {printed: bytearray(), heard: bytearray()}
    deadline = time.monotonic() + order["time"]
    stop = None
    with selectors.DefaultSelector() as selector:
        for one in pipes:
            os.set_blocking(one, False)
        selector.register(printed, selectors.EVENT_READ)
        selector.register(heard, selectors.EVENT_READ)
        if given:
            selector.register(typed, selectors.EVENT_WRITE)
        else:
            os.close(typed)
        while heard in selector.get_map() and stop is None:
            for key, _ in selector.select(max(deadline - time.monotonic(), 0)):
                if key.fd == typed:
                    try:
                        given = given[os.write(typed, given[:65536]) :]
                    except OSError:  # it reads no further
                        given = b""
                    if not given:
                        selector.unregister(typed)
                        os.close(typed)
                    continue
                data = os.read(key.fd, 65536)
                taken[key.fd] += data
                if not data:
                    selector.unregister(key.fd)
                if sum(map(len, taken.values())) > order["output"]:
                    stop = "output"
            if time.monotonic() >= deadline:
                stop = "time"
        if typed in selector.get_map():
            os.close(typed)
    with contextlib.suppress(BlockingIOError):  # what was printed last
        while data := os.read(printed, 65536):
            taken[printed] += data
            if len(taken[printed]) > order["output"]:
                stop = "output"
                break
    os.close(printed)
    os.close(heard)
    return bytes(taken[printed]), bytes(taken[heard]), stop


def _difference(said: dict[str, Any], wanted: str, function: str | None) -> str | None:
    """What is wrong with an output, or None."""
    if function:
        try:
            right = said["result"] == json.loads(wanted)
        except (ValueError, RecursionError):
            return "the output that is wanted is no JSON"
        return None if right else f"{_short(said['result'])} instead of {_short(wanted)}"
    lines, others = ([line.strip() for line in text.strip().split("\n")] for text in (said["printed"], wanted))
    if len(lines) != len(others):
        return f"{len(lines)} lines instead of {len(others)}"
    for line, other in zip(lines, others):  # noqa: B905  # as many
        if line != other and not _same_numbers(line, other):
            return f"{_short(line)} instead of {_short(other)}"
    return None


def _same_numbers(line: str, other: str) -> bool:
    from decimal import Decimal, InvalidOperation

    try:
        return [Decimal(word) for word in line.split()] == [Decimal(word) for word in other.split()]
    except (InvalidOperation, ValueError):
        return False


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return repr(text if len(text) <= 40 else text[:39] + "…")
