"""The program that tries to get out of a sandbox, before the sandbox is trusted with anything."""

from __future__ import annotations

import json
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from innerloop.evaluate.verify.sandbox.limits import Limits

LIMITS = Limits(time=10, memory=512, processes=8)
ESSENTIAL = ("the number of processes", "memory")  # what the kernel itself must hold

# Nothing here does harm where it succeeds: signal 0 only asks, and a fixed small number of children ends at once.
_PROGRAM = """
import json, os, decimal, random  # what is loaded late must be readable too

got = []
def attempt(name, act):
    try:
        act()
    except (Exception, SystemExit):
        return
    got.append(name)

def connect():
    import socket
    with socket.socket() as client:
        client.settimeout(2)
        client.connect(("127.0.0.1", {port}))

def multiply():
    reading, writing = os.pipe()
    children = []
    try:
        for _ in range({processes} + 4):
            child = os.fork()
            if not child:
                os.close(writing)
                os.read(reading, 1)
                os._exit(0)
            children.append(child)
    finally:
        os.close(writing)
        for child in children:
            os.waitpid(child, 0)

def write():
    with open({file!r}, "a") as stream:
        stream.write("x")

def allocate():
    bytearray({memory})

open("own", "w").close()
os.remove("own")
attempt("the network", connect)
attempt("the number of processes", multiply)
attempt("reading files", lambda: open({file!r}).read())
attempt("writing files", write)
attempt("listing folders", lambda: os.listdir({folder!r}))
attempt("other processes", lambda: os.kill({parent}, 0))
attempt("memory", allocate)
print(json.dumps({{"got": got}}))
"""


@contextmanager
def bait() -> Iterator[tuple[Path, int]]:
    """A file that only its owner may touch, and a port that somebody listens on."""
    with tempfile.TemporaryDirectory(prefix="innerloop-bait-") as folder, socket.socket() as server:
        file = Path(folder) / "secret"
        file.write_text("secret")
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield file, server.getsockname()[1]


def program(file: Path, port: int, parent: int, processes: int) -> str:
    """The text of the program."""
    return _PROGRAM.format(
        file=str(file),
        folder=str(file.parent),
        port=port,
        parent=parent,
        processes=processes,
        memory=2 * LIMITS.memory << 20,
    )


def escapes(output: str) -> tuple[str, ...] | None:
    """What it managed to do; None where it said nothing that can be read."""
    try:
        return tuple(str(name) for name in json.loads(output.strip().rpartition("\n")[2])["got"])
    except (ValueError, KeyError, TypeError):
        return None
