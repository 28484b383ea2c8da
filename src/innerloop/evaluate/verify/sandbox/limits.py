"""What a sandboxed program may use, and how its run ended."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum

ENTRIES = 1000  # files and folders that a program may have at once; empty ones take the kernel's memory too


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Hard limits of one run.

    ``time`` in seconds of wall clock, for each test of a program that is run on several, and ``total`` for all of these
    together; ``memory`` in MiB, of address space per process and of what all of them together hold; ``processes``
    counts threads too; ``file`` and ``folder`` are the largest file and the most that all files together may take, in
    MiB; ``output`` is what it may print, in KiB.
    """

    time: float = 10.0
    total: float = 120.0
    memory: int = 1024
    processes: int = 16
    file: int = 16
    folder: int = 64
    output: int = 1024

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) <= 0:
                raise ValueError(f"{field.name} is {getattr(self, field.name)}: it must be above 0")


class Stop(StrEnum):
    """Why a run was ended from outside."""

    TIME = "time"
    MEMORY = "memory"
    PROCESSES = "processes"
    FILES = "files"
    OUTPUT = "output"
    CLOSED = "closed"  # the verifier was closed meanwhile


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a run ended.

    ``finished``: the program ran through to its end. Else ``stop`` names the limit that it met, or ``error`` says what
    was raised (``AssertionError: …``) or which signal killed it, and of several tests at which one it stopped;
    ``started`` is False where the program was never begun, because the sandbox itself failed. ``output`` is what it
    printed, cut at the limit.
    """

    finished: bool
    started: bool = True
    stop: Stop | None = None
    error: str | None = None
    output: str = ""
