"""How threads wait for each other on a machine that others use too.

PyTorch's threads come from an OpenMP library (libgomp) that lets them spin for milliseconds before they sleep. Alone on
a machine that saves a tenth of the time. Beside another program it takes cores from whoever has work, and two programs
that both spin slow each other five-fold. The library reads its setting once, when torch is imported. So a command looks
at the machine while it starts, and where others need the cores, its threads sleep at once.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from dataclasses import dataclass

import psutil

_LOG = logging.getLogger("innerloop")
_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_SPARE = 0.3  # cores' worth of others' work that goes unnoticed between the threads
_LEAST = 0.2  # seconds to look for; shorter, the clock's ticks of 10 ms say little


@dataclass(frozen=True)
class Look:
    """The processor time of the cores that this process may use, and its own, in seconds since some moment."""

    moment: float
    all: float
    own: float


def look() -> Look:
    """The machine as it is now."""
    each = psutil.cpu_times(percpu=True)
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(each))
    used = sum(
        core.user + getattr(core, "nice", 0.0) + core.system for number, core in enumerate(each) if number in allowed
    )
    return Look(moment=time.monotonic(), all=used, own=time.process_time())


def cores_of_others(since: Look) -> float:
    """How many cores others have kept busy since that look."""
    if (missing := since.moment + _LEAST - time.monotonic()) > 0:
        time.sleep(missing)
    now = look()
    return max((now.all - since.all) - (now.own - since.own), 0.0) / (now.moment - since.moment)


def settle(since: Look) -> None:
    """Lets threads that wait sleep at once where others need the cores; before torch is imported.

    ``since`` is a look at the machine when the program started. What the user has set stays as it is.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = min(_threads(), cores)
    if threads == 1 or "torch" in sys.modules or any(name in os.environ for name in _SETTINGS):
        return
    others = cores_of_others(since)
    if others + threads > cores + _SPARE:
        os.environ["OMP_WAIT_POLICY"] = "passive"
        _LOG.debug("others use %.1f of the %d cores: threads that wait sleep at once", others, cores)


def _threads() -> int:
    """How many torch will take."""
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(given) if given.isdecimal() and int(given) > 0 else psutil.cpu_count(logical=False) or 1
