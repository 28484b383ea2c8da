"""A system call filter: what a sandboxed process may ask of the kernel, and nothing else.

The file also runs as text inside a sandbox that sees no file of ours, so it imports nothing but the standard library.
It is a list of what is allowed, because a list of what is refused would be out of date with the next kernel. What
is left out, and why:

- memory that no process is seen to hold: System V and POSIX queues and shared memory, memfds, shared and huge mappings
  (shared memory that is unmapped, or dropped by ``madvise``, leaves the resident set), ``vmsplice``, ``splice``,
  kernel AIO, inotify; sockets other than connected pairs, and larger buffers for those and for pipes;
- other processes: ``ptrace`` and its kin, handles of processes, signals by ``fcntl`` ownership, their limits and
  priorities, children of the parent (``CLONE_PARENT``), which would outlive the one that made them;
- the kernel's own doors: namespaces, mounts, keys, ``bpf``, ``perf``, ``io_uring``, ``userfaultfd``, file handles,
  modules, clocks, ``ioctl`` beyond questions about terminals and pipes;
- changing user, and undoing what was set for the process (``prctl``).

Programs that expect a call to be missing on older kernels (``clone3``, ``openat2``) are told so and take another way.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

# name, number on x86_64, number on aarch64
_FILES = """
read 0 63, write 1 64, close 3 57, lseek 8 62, pread64 17 67, pwrite64 18 68, readv 19 65, writev 20 66,
preadv 295 69, pwritev 296 70, preadv2 327 286, pwritev2 328 287, sendfile 40 71, copy_file_range 326 285,
ftruncate 77 46, fallocate 285 47, fadvise64 221 223, readahead 187 213, fsync 74 82, fdatasync 75 83, flock 73 32,
dup 32 23, dup2 33 -, dup3 292 24, pipe 22 -, pipe2 293 59, close_range 436 436, poll 7 -, ppoll 271 73, select 23 -,
pselect6 270 72, epoll_create 213 -, epoll_create1 291 20, epoll_ctl 233 21, epoll_wait 232 -, epoll_pwait 281 22,
epoll_pwait2 441 441, eventfd 284 -, eventfd2 290 19, timerfd_create 283 85, timerfd_settime 286 86,
timerfd_gettime 287 87, creat 85 -, stat 4 -, fstat 5 80, lstat 6 -, newfstatat 262 79, statx 332 291, statfs 137 43,
fstatfs 138 44, access 21 -, faccessat 269 48, faccessat2 439 439, readlink 89 -, readlinkat 267 78, getdents 78 -,
getdents64 217 61, getcwd 79 17, chdir 80 49, fchdir 81 50, rename 82 -, renameat 264 38, renameat2 316 276,
mkdir 83 -, mkdirat 258 34, rmdir 84 -, link 86 -, linkat 265 37, unlink 87 -, unlinkat 263 35, symlink 88 -,
symlinkat 266 36, umask 95 166, getxattr 191 8, lgetxattr 192 9, fgetxattr 193 10, listxattr 194 11,
llistxattr 195 12, flistxattr 196 13
"""
_ATTRIBUTES = """
chmod 90 -, fchmod 91 52, fchmodat 268 53, fchmodat2 452 452, chown 92 -, lchown 94 -, fchown 93 55, fchownat 260 54,
utime 132 -, utimes 235 -, futimesat 261 -, utimensat 280 88, truncate 76 45
"""
_MEMORY = """
mprotect 10 226, munmap 11 215, brk 12 214, mremap 25 216, msync 26 227, madvise 28 233, mbind 237 235,
set_mempolicy 238 237, get_mempolicy 239 236, membarrier 324 283, mseal 462 462, map_shadow_stack 453 453
"""
_TIME = """
nanosleep 35 101, clock_nanosleep 230 115, clock_gettime 228 113, clock_getres 229 114, gettimeofday 96 169,
time 201 -, times 100 153, alarm 37 -, getitimer 36 102, setitimer 38 103, timer_create 222 107,
timer_settime 223 110, timer_gettime 224 108, timer_getoverrun 225 109, timer_delete 226 111
"""
_SELF = """
rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139, rt_sigpending 127 136, rt_sigtimedwait 128 137,
rt_sigsuspend 130 133, sigaltstack 131 132, pause 34 -, restart_syscall 219 128, exit 60 93, exit_group 231 94,
wait4 61 260, waitid 247 95, getpid 39 172, getppid 110 173, gettid 186 178, getpgid 121 155, getpgrp 111 -,
getsid 124 156, setpgid 109 154, setsid 112 157, getuid 102 174, geteuid 107 175, getgid 104 176, getegid 108 177,
getresuid 118 148, getresgid 120 150, getgroups 115 158, capget 125 90, getrusage 98 165, getrlimit 97 163,
setrlimit 160 164, getpriority 140 141, sched_yield 24 124, sched_getaffinity 204 123, sched_getparam 143 121,
sched_getscheduler 145 120, sched_getattr 315 275, sched_get_priority_max 146 125, sched_get_priority_min 147 126,
sched_rr_get_interval 148 127, getcpu 309 168, set_tid_address 218 96, set_robust_list 273 99, futex 202 98,
futex_waitv 449 449, futex_wake 454 454, futex_wait 455 455, futex_requeue 456 456, rseq 334 293, arch_prctl 158 -,
uname 63 160, sysinfo 99 179, getrandom 318 278
"""
_PAIRS = """
sendto 44 206, recvfrom 45 207, sendmsg 46 211, recvmsg 47 212, sendmmsg 307 269, recvmmsg 299 243, shutdown 48 210,
getsockname 51 204, getpeername 52 205, getsockopt 55 209
"""
_PROCESSES = "fork 57 -, vfork 58 -, execve 59 221, execveat 322 281"
_ABSENT = "clone3 435 435, openat2 437 437"
_CHECKED = """
open 2 -, openat 257 56, mmap 9 222, clone 56 220, fcntl 72 25, ioctl 16 29, prctl 157 167, prlimit64 302 261,
sched_setaffinity 203 122, socketpair 53 199, kill 62 129, tgkill 234 131
"""
_OURS = "seccomp 317 277, keyctl 250 219"
_LAST = 462  # the last call that was considered; later ones do not exist for the program
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH_…

_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; low halves first
_WHOLE = 0xFFFFFFFF

_NEW, _PARENT, _THREAD = 0x7E020000, 0x8000, 0x10000  # CLONE_NEW…, CLONE_PARENT, CLONE_THREAD
_FCNTL = (*range(8), 1030, 1032)  # descriptors, flags and locks; asking for a pipe's size
_IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451, 0x802C542A)  # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, …
_PRCTL = (3, 15, 16, 21, 23, 29, 39, 0x53564D41)  # names of threads and of memory, timer slack, and questions
_TRUNCATE = 0o1000
_OPENING = (_TRUNCATE | 3, (0, 1, 2, 3, *(_TRUNCATE | mode for mode in (1, 2, 3))))  # emptied only when written

Checks = tuple[tuple[int, int, tuple[int, ...]], ...]  # argument, mask, and what may be left under the mask
Instruction = tuple[int, int, int, int]


def install(*, alone: bool = False) -> None:
    """Closes the doors for this process and all that it starts; there is no way back.

    It gets a session keyring of its own, cannot be looked into by others of its user, and takes the filter. ``alone``
    is for a process that sees the files and processes of its user: it refuses other processes and programs, signals to
    any but itself, and changes to owners, permissions, times and (by name) lengths of files. Raises OSError where the
    kernel or the machine has no such filter.
    """
    calls = _numbers(_OURS)
    program = b"".join(struct.pack("=HBBI", *line) for line in _program(alone=alone))
    buffer = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("HL", len(program) // 8, ctypes.addressof(buffer)))
    library = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    library.prctl(4, zero, zero, zero, zero)  # PR_SET_DUMPABLE
    library.syscall(calls["keyctl"], 1, None)  # KEYCTL_JOIN_SESSION_KEYRING; keyctl is refused in any case
    library.prctl(38, ctypes.c_ulong(1), zero, zero, zero)  # PR_SET_NO_NEW_PRIVS
    # SECCOMP_SET_MODE_FILTER for all threads
    if library.syscall(calls["seccomp"], 1, 1, header):
        raise OSError(ctypes.get_errno(), "the kernel takes no system call filter")


def _column() -> tuple[int, int]:
    machine = os.uname().machine if sys.platform == "linux" and sys.maxsize > 1 << 32 else sys.platform
    if machine not in _MACHINES:
        raise OSError(errno.ENOSYS, f"no system call filter for {machine}")
    return _MACHINES[machine]


def _numbers(table: str) -> dict[str, int]:
    """Name → number of the calls that this machine has."""
    column = _column()[0]
    rows = (row.split() for row in table.split(","))
    return {name: int(numbers[column]) for name, *numbers in rows if numbers[column] != "-"}


def _checks(*, alone: bool) -> dict[str, Checks]:
    """What the arguments of a call must be for it to be allowed."""
    own = ((0, _WHOLE, (os.getpid(),)),) if alone else ()
    return {
        "open": ((1, *_OPENING),) if alone else (),
        "openat": ((2, *_OPENING),) if alone else (),
        "mmap": ((3, 0x4000F, (2,)),),  # MAP_PRIVATE, without MAP_HUGETLB
        "clone": ((0, _NEW | _PARENT, (0,)), *(((0, _THREAD, (_THREAD,)),) if alone else ())),
        "fcntl": ((1, _WHOLE, _FCNTL),),
        "ioctl": ((1, _WHOLE, _IOCTL),),
        "prctl": ((0, _WHOLE, _PRCTL),),
        "prlimit64": ((0, _WHOLE, (0,)),),
        "sched_setaffinity": ((0, _WHOLE, (0,)),),
        "socketpair": ((0, _WHOLE, (1,)), (1, 0xF, (1,))),  # AF_UNIX, SOCK_STREAM: datagrams could go elsewhere
        "kill": own,
        "tgkill": own,
    }


def _program(*, alone: bool) -> list[Instruction]:
    tables = [_FILES, _MEMORY, _TIME, _SELF, _PAIRS, *([] if alone else [_PROCESSES, _ATTRIBUTES])]
    checked, checks = _numbers(_CHECKED), _checks(alone=alone)
    lines: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, _column()[1]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _LAST + 1),  # those of the x32 convention, which have bit 30 set, are beyond it too
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
    ]
    for number in _numbers(_ABSENT).values():
        lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    for name, number in checked.items():
        refused = _ERRNO | (errno.ENOTTY if name == "ioctl" else errno.EPERM)
        body = [line for check in checks[name] for line in _checked(check, refused)]
        lines += [(_EQUAL, 0, len(body) + 1, number), *body, (_RETURN, 0, 0, _ALLOW)]
    for first, last in _ranges([number for table in tables for number in _numbers(table).values()]):
        lines += [(_AT_LEAST, 1, 0, first), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
        lines += [(_AT_LEAST, 1, 0, last + 1), (_RETURN, 0, 0, _ALLOW)]
    return [*lines, (_RETURN, 0, 0, _ERRNO | errno.EPERM)]


def _checked(check: tuple[int, int, tuple[int, ...]], refused: int) -> list[Instruction]:
    """Goes on after these lines where the argument is one of the values, and refuses the call otherwise."""
    argument, mask, values = check
    compared = [(_EQUAL, len(values) - place, 0, value) for place, value in enumerate(values)]
    return [
        (_LOAD, 0, 0, _ARGUMENTS + 8 * argument),
        (_AND, 0, 0, mask),
        *compared,
        (_RETURN, 0, 0, refused),
    ]


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    """Ascending numbers, those without a gap taken together."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges
