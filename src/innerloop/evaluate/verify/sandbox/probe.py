"""The program that tries to get out of a sandbox, before the sandbox is trusted with anything."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from innerloop.evaluate.verify.sandbox.limits import Limits

LIMITS = Limits(time=10, memory=512, processes=8, file=2, folder=8)
ESSENTIAL = ("the number of processes", "memory")  # what the kernel itself must hold
PROGRAMS = "starting programs"  # allowed in bubblewrap, whose programs see no more than their own folder

# Nothing here does harm where it succeeds: signal 0 only asks, and a fixed small number of children ends at once.
_BEGINNING = """
import json, os, decimal, random  # what is loaded late must be readable too

got = []
def attempt(name, act):
    try:
        act()
    except (Exception, SystemExit):
        return
    if name not in got:
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

def divide():
    import _thread
    wait = _thread.allocate_lock()
    wait.acquire()
    held = 0
    try:
        for held in range({processes} + 4):
            _thread.start_new_thread(wait.acquire, (True, 5))
    finally:
        for _ in range(held):
            try:
                wait.release()
            except RuntimeError:
                pass

def write():
    with open({file!r}, "a") as stream:
        stream.write("x")

def allocate():
    bytearray({memory})

open("own", "w").close()
os.remove("own")
attempt("the network", connect)
attempt("the number of processes", multiply)
attempt("the number of processes", divide)
attempt("reading files", lambda: open({file!r}).read())
attempt("writing files", write)
attempt("listing folders", lambda: os.listdir({folder!r}))
attempt("other processes", lambda: os.kill({parent}, 0))
attempt("memory", allocate)
"""

# By ways that only the kernel sees: other handles of folders, system calls from C.
_DEEP = """
import ctypes, errno, fcntl, mmap, resource, signal, time
library = ctypes.CDLL(None, use_errno=True)

def call(name, *arguments, meant=()):
    result = getattr(library, name)(*arguments)
    if result < 0 and ctypes.get_errno() not in meant:
        raise OSError(ctypes.get_errno(), name)
    return result

def segment():
    call("shmctl", call("shmget", 0, 4096, 0o1600), 0, None)  # removed at once

def share():
    mmap.mmap(-1, 4096)

def look():
    place = (ctypes.c_ulong * 2)(1, 1)  # an address that is never there: a bad one is only told to who may look
    call("process_vm_readv", {parent}, place, 1, place, 1, 0, meant=(errno.EFAULT,))

def leave():
    os.mknod("left", 0o600, dir_fd=os.open({open!r}, os.O_PATH))

def keep():
    held = []
    for number in range(3 * {size} // {piece}):
        held.append(os.open(str(number), os.O_CREAT | os.O_RDWR))
        os.write(held[-1], bytes({piece} << 20))
        os.unlink(str(number))

def start():
    import subprocess
    subprocess.run(["/bin/true"], check=True)

attempt("shared memory", lambda: call("memfd_create", b"held", 0))
attempt("shared memory", segment)
attempt("shared memory", share)
attempt("keys of the user", lambda: call("syscall", {keyctl}, 6, -4, None, 0))
attempt("reading files", lambda: os.open("secret", os.O_RDONLY, dir_fd=os.open({folder!r}, os.O_PATH)))
attempt("writing files", lambda: os.open("secret", os.O_WRONLY, dir_fd=os.open({folder!r}, os.O_PATH)))
attempt("files that anybody may read", lambda: os.open("shown", os.O_RDONLY, dir_fd=os.open({open!r}, os.O_PATH)))
attempt("folders that anybody may write to", leave)
attempt("folders that anybody may write to", lambda: os.mkdir({open!r} + "/kept"))
attempt("permissions and times of files", lambda: os.utime({file!r}))
attempt("names, sizes and times of files (not what is in them)", lambda: os.stat({file!r}))
attempt("names, sizes and times of files (not what is in them)", lambda: os.stat({open!r} + "/shown"))
attempt("looking into other processes", look)
attempt("looking into other processes", lambda: open("/proc/{parent}/maps").read(1))
attempt("limits of other processes", lambda: resource.prlimit({parent}, resource.RLIMIT_CORE))
attempt("the size of files that are deleted but open", keep)
attempt({programs!r}, start)
"""
_END = """
print(json.dumps({{"got": got}}))
"""


@dataclass(frozen=True, kw_only=True)
class Bait:
    """What a program might get at: a file that only its owner may touch, a folder for anybody, somebody who listens."""

    file: Path
    open: Path
    port: int


@contextmanager
def bait() -> Iterator[Bait]:
    """Laid out for a while."""
    with (
        tempfile.TemporaryDirectory(prefix="innerloop-bait-") as folder,
        tempfile.TemporaryDirectory(prefix="innerloop-bait-") as public,
        socket.socket() as server,
    ):
        file = Path(folder, "secret")
        file.write_text("secret")
        Path(public).chmod(0o777)
        Path(public, "shown").touch(0o644)
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield Bait(file=file, open=Path(public), port=server.getsockname()[1])


def program(bait: Bait, *, deep: bool) -> str:
    """The text of the program; ``deep`` with all ways that it knows, else with those of ordinary code."""
    return (_BEGINNING + (_DEEP if deep else "") + _END).format(
        file=str(bait.file),
        folder=str(bait.file.parent),
        open=str(bait.open),
        port=bait.port,
        parent=os.getpid(),
        processes=LIMITS.processes,
        memory=2 * LIMITS.memory << 20,
        piece=LIMITS.file,
        size=LIMITS.folder,
        keyctl=219 if hasattr(os, "uname") and os.uname().machine == "aarch64" else 250,
        programs=PROGRAMS,
    )


def escapes(output: str) -> tuple[str, ...] | None:
    """What it managed to do; None where it said nothing that can be read."""
    try:
        return tuple(str(name) for name in json.loads(output.strip().rpartition("\n")[2])["got"])
    except (ValueError, KeyError, TypeError):
        return None
