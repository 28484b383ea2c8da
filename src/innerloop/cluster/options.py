"""How many workers there are, what each of them gets, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from innerloop.errors import InputError

PATIENCE = 300.0  # seconds without any worker: enough for a cluster that starts machines on demand


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What one machine of a cluster offers."""

    cpus: float
    gpus: float


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """Where to work and with how many workers.

    ``address``: ``auto`` (a cluster that runs on this machine), ``ray://HOST:PORT``, ``HOST:PORT``, ``local`` (one
    started for this run and stopped after it), or ``None``: the one that ``RAY_ADDRESS`` names, else ``local``.
    ``workers``: by default one for each GPU, or one for each machine where there are none. Each reserves ``cpus`` cores
    (by default ``threads``, or an equal share of the smallest machine's) and ``gpus`` GPUs (by default one where there
    are any), and computes with ``threads`` threads (by default as many as it reserves cores). ``patience``: seconds
    that no worker at all may be there before the run gives up.
    """

    address: str | None = None
    workers: int | None = None
    cpus: float | None = None
    gpus: float | None = None
    threads: int | None = None
    patience: float = PATIENCE

    def __post_init__(self) -> None:
        for name, least in (("workers", 1), ("threads", 1), ("cpus", 0), ("gpus", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name} is {value}: it must be {least} or more")

    def resolved(self, machines: Sequence[Machine]) -> Team:
        """What that comes to in a cluster of these machines."""
        cores = min((int(machine.cpus) for machine in machines if machine.cpus >= 1), default=1)
        all_gpus = int(sum(machine.gpus for machine in machines))
        gpus = self.gpus if self.gpus is not None else float(all_gpus > 0)
        workers = self.workers or max(1, int(all_gpus / gpus) if gpus else len(machines))
        on_each = -(-workers // max(1, len(machines)))
        cpus = self.cpus if self.cpus is not None else float(self.threads or max(1, cores // on_each))
        return Team(workers=workers, cpus=cpus, gpus=gpus, threads=self.threads or max(1, int(cpus)))


@dataclass(frozen=True, kw_only=True)
class Team:
    """Every worker alike: the cores and GPUs that it reserves, and the threads that it computes with."""

    workers: int
    cpus: float
    gpus: float
    threads: int

    def __str__(self) -> str:
        each = f"{self.cpus:g} CPUs" + (f" and {self.gpus:g} GPUs" if self.gpus else "")
        return f"{self.workers} workers, each with {each} and {self.threads} threads"
