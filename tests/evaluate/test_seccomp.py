"""The system call filter, line by line: what it says to a call, on both machines that it knows."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from innerloop.evaluate.verify.sandbox import seccomp

ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS, ENOTTY = (0x50000 | number for number in (errno.EPERM, errno.ENOSYS, errno.ENOTTY))
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
REFUSED = {  # numbers on x86_64 and aarch64, from the kernel's tables
    **{"shmget": (29, 194), "shmat": (30, 196), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180)},
    **{"ptrace": (101, 117), "unshare": (272, 97), "setns": (308, 268), "keyctl": (250, 219), "add_key": (248, 217)},
    **{"mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "bpf": (321, 280), "socket": (41, 198)},
    **{"connect": (42, 203), "memfd_create": (319, 279), "process_vm_readv": (310, 270), "kcmp": (312, 272)},
    **{"userfaultfd": (323, 282), "perf_event_open": (298, 241), "init_module": (175, 105), "reboot": (169, 142)},
    **{"kexec_load": (246, 104), "personality": (135, 92), "vmsplice": (278, 75), "splice": (275, 76)},
    **{"open_by_handle_at": (304, 265), "inotify_init1": (294, 26), "setxattr": (188, 5), "mknodat": (259, 33)},
    **{"setresuid": (117, 147), "capset": (126, 91), "rt_sigqueueinfo": (129, 138), "swapon": (167, 224)},
    **{"io_uring_setup": (425, 425), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "fsopen": (430, 430)},
    **{"memfd_secret": (447, 447), "mount_setattr": (442, 442), "landlock_create_ruleset": (444, 444)},
}
ALLOWED = {"read": (0, 63), "write": (1, 64), "munmap": (11, 215), "futex": (202, 98), "exit_group": (231, 94)}


@pytest.fixture(params=ARCHITECTURES)
def machine(request, monkeypatch):
    column = [*ARCHITECTURES].index(request.param)
    monkeypatch.setattr(seccomp, "_column", lambda: (column, ARCHITECTURES[request.param]))
    return column


def say(number: int, *arguments: int, architecture: int | None = None, alone: bool = False) -> int:
    """What the kernel would get from the filter: the few instructions it is made of, carried out here."""
    words = {0: number, 4: seccomp._column()[1] if architecture is None else architecture}
    words |= {16 + 8 * place: value & 0xFFFFFFFF for place, value in enumerate((*arguments, *[0] * 6)[:6])}
    lines, place, held = seccomp._program(alone=alone), 0, 0
    while True:
        code, if_so, if_not, value = lines[place]
        place += 1
        if code == 0x06:
            return value
        if code == 0x20:
            held = words[value]
        elif code == 0x54:
            held &= value
        else:
            place += if_so if (held == value if code == 0x15 else held >= value) else if_not


def number(name: str, machine: int) -> int:
    tables = (seccomp._CHECKED, seccomp._FILES, seccomp._PROCESSES, seccomp._ATTRIBUTES, seccomp._PAIRS)
    return {name: of for table in tables for name, of in seccomp._numbers(table).items()}[name]


def test_what_is_not_listed_is_refused(machine):
    assert {name: say(numbers[machine]) for name, numbers in REFUSED.items()} == dict.fromkeys(REFUSED, EPERM)
    assert {name: say(numbers[machine]) for name, numbers in ALLOWED.items()} == dict.fromkeys(ALLOWED, ALLOW)


def test_what_is_unknown_does_not_exist(machine):
    assert say(435) == say(437) == ENOSYS  # clone3 and openat2, whose arguments no filter can see
    assert {say(later) for later in range(463, 600)} == {ENOSYS}
    assert say(0x40000000 | 9, 0, 0, 0, 2) == ENOSYS  # x32
    assert say(0xFFFFFFFF) == ENOSYS


def test_other_architectures_are_killed(machine):
    for other in (0x40000003, 0x40000028, *ARCHITECTURES.values()):  # i386, arm, and each other
        if other != seccomp._column()[1]:
            assert say(1, architecture=other) == KILL


def test_arguments_decide(machine):
    def mapping(flags: int) -> int:
        return say(number("mmap", machine), 0, 4096, 3, flags, -1, 0)

    assert mapping(0x02) == mapping(0x22) == mapping(0x4022) == ALLOW
    assert {mapping(flags) for flags in (0x01, 0x21, 0x03, 0x08, 0x40022, 0x2 | 1 << 18)} == {EPERM}
    clone = number("clone", machine)
    assert say(clone, 0x11) == say(clone, 0x3D0F00) == ALLOW  # a fork, a thread
    assert {say(clone, 0x11 | bit) for bit in (0x20000, 0x8000, *(1 << place for place in range(25, 31)))} == {EPERM}
    pair = number("socketpair", machine)
    assert say(pair, 1, 1) == say(pair, 1, 0x80801) == ALLOW
    assert {say(pair, 1, 2), say(pair, 1, 5), say(pair, 2, 1)} == {EPERM}
    assert say(number("ioctl", machine), 0, 0x5401) == ALLOW
    assert say(number("ioctl", machine), 0, 0x5412) == say(number("ioctl", machine), 0, 0x541C) == ENOTTY
    fcntl = number("fcntl", machine)
    assert {say(fcntl, 0, command) for command in (0, 1, 2, 3, 4, 6, 1030)} == {ALLOW}
    assert {say(fcntl, 0, command) for command in (8, 10, 15, 1024, 1026, 1031)} == {EPERM}
    assert say(number("prctl", machine), 4) == say(number("prctl", machine), 1) == EPERM
    assert say(number("prlimit64", machine), 0) == ALLOW
    assert say(number("prlimit64", machine), 1234) == EPERM


def test_alone(machine):
    def alone(name: str, *arguments: int) -> int:
        return say(number(name, machine), *arguments, alone=True)

    own = os.getpid()
    assert alone("clone", 0x3D0F00) == ALLOW
    assert alone("clone", 0x11) == alone("execve") == alone("execveat") == EPERM
    assert alone("kill", own, 9) == alone("tgkill", own, own, 6) == ALLOW
    assert {alone("kill", other, 9) for other in (0, 1, own + 1, -1, -own)} == {EPERM}
    assert {alone("openat", -100, 0, flags) for flags in (0, 1, 2, 0o1101, 0o1002)} == {ALLOW}
    assert alone("openat", -100, 0, 0o1000) == EPERM
    assert alone("fchmod") == alone("utimensat") == alone("truncate") == EPERM
    assert say(number("fchmod", machine)) == ALLOW


def test_the_filter_fits(machine):
    for alone in (True, False):
        lines = seccomp._program(alone=alone)
        assert len(lines) < 4096
        assert all(0 <= step < 256 for line in lines for step in line[1:3])


@pytest.mark.skipif(sys.platform != "linux", reason="a filter of Linux")
def test_it_runs_as_text_with_the_standard_library_alone():
    text = Path(seccomp.__file__).read_text()
    program = "install()\ntry: os.memfd_create('x')\nexcept PermissionError: os.write(1, b'held')"
    ended = subprocess.run([sys.executable, "-I", "-S", "-c", f"{text}\n{program}"], capture_output=True, check=True)
    assert ended.stdout == b"held"


def test_a_machine_that_it_does_not_know(monkeypatch):
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "host", "6", "1", "riscv64")))
    with pytest.raises(OSError, match="no system call filter for"):
        seccomp.install()
