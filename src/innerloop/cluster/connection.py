"""Joining a Ray cluster, or starting one on this machine for as long as it is needed.

Ray keeps to itself here: no usage statistics, no dashboard, no log lines of its own on our standard output. A cluster
of our own is nobody else's (`innerloop.cluster.private`).
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any

from innerloop.cluster.options import ClusterOptions, Machine, Team
from innerloop.cluster.private import Private
from innerloop.errors import InputError, first_line

log = logging.getLogger("innerloop.cluster")

INSTALL = "pip install 'innerloop[ray]'"
_STORE = 128 * 2**20  # bytes of shared memory of a cluster of our own: what travels is small
_SILENCE = 20.0  # seconds that a cluster may not answer
_LOOK = 2.0  # seconds between two looks at the cluster


def installed() -> bool:
    """Whether Ray can be imported here."""
    return find_spec("ray") is not None


class Connection:
    """A cluster that was joined or started; `close` leaves it, and stops it where it was started here."""

    def __init__(self, options: ClusterOptions) -> None:
        """`InputError` where Ray is missing or the address leads nowhere."""
        if not installed():
            raise InputError(f"engine ray needs the package ray: {INSTALL}")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        self._ray = ray
        self._foreign = ray.is_initialized()  # somebody else's in this process: used, and left as it is
        self._started: list[Any] = []  # psutil processes of a cluster of our own
        self._private: Private | None = None
        self._looked = self._answered = time.monotonic()
        address = options.address or os.environ.get("RAY_ADDRESS") or "local"
        self._local = address == "local" and not self._foreign
        if self._foreign:
            return
        self._quiet = _Quiet()
        try:
            with _own_sigterm():
                self._join(address, options)
        except (ConnectionError, OSError, RuntimeError, ValueError, ImportError, ray.exceptions.RayError) as error:
            self.close()
            said = first_line(error)
            if self._local:
                raise InputError(f"no Ray cluster could be started on this machine: {said}") from error
            raise InputError(
                f"--address {address}: no Ray cluster could be joined ({said}); start one with `ray start --head`, or "
                f"use --address local"
            ) from error
        except BaseException:  # Ctrl-C while it starts
            self.close()
            raise
        self._remember_processes()

    def _join(self, address: str, options: ClusterOptions) -> None:
        settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self._local:
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            # More workers than cores are somebody's wish, and nobody else's cluster.
            wished = (options.workers or 1) * (options.cpus if options.cpus is not None else options.threads or 1)
            settings |= {
                "num_cpus": max(cores, -(-wished // 1)),
                "include_dashboard": False,
                "object_store_memory": _STORE,
                "_temp_dir": self._own().temporary,
            }
        if address.startswith("ray://"):
            if find_spec("grpc") is None:
                raise ImportError("it needs the package grpcio: pip install 'ray[client]'")
            settings = {}
        self._ray.init(address=address, configure_logging=False, **settings)
        if self._private is not None:
            self._private.check(self._ray)

    def _own(self) -> Private:
        """What keeps the cluster ours."""
        self._private = Private()
        self._private.enter(self._ray)
        return self._private

    def machines(self) -> list[Machine]:
        """What the cluster's machines offer at the moment."""
        found = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return [Machine(cpus=own.get("CPU", 0), gpus=own.get("GPU", 0)) for own in found]

    def shortage(self, team: Team) -> str:
        """What the cluster has, beside what a worker needs."""
        machines = self.machines()
        free = self._ray.available_resources()
        return (
            f"each needs {team.cpus:g} CPUs and {team.gpus:g} GPUs on one machine, and the cluster has "
            f"{sum(m.cpus for m in machines):g} CPUs and {sum(m.gpus for m in machines):g} GPUs on {len(machines)} "
            f"machines ({free.get('CPU', 0):g} and {free.get('GPU', 0):g} free)"
        )

    @property
    def grows(self) -> bool:
        """Whether machines may still be added, so that too few now need not be too few later."""
        return not self._local

    def check(self) -> None:
        """``ConnectionError`` when the cluster is gone. Looks every few seconds only, so call it as often as you like.

        Ray itself waits for a lost cluster, and then ends the whole process.
        """
        now = time.monotonic()
        if now - self._looked < _LOOK:
            return
        self._looked = now
        if self._local:
            self._remember_processes()
            node = getattr(self._ray._private.worker, "_global_node", None)
            if dead := [name for name, _ in node.dead_processes()] if node is not None else []:
                raise ConnectionError(f"the local Ray cluster has died ({dead[0]}); {_GO_ON}")
            return
        if self._answers():
            self._answered = now
        elif now - self._answered > _SILENCE:
            raise ConnectionError(f"the Ray cluster has not answered for {_SILENCE:.0f} seconds; {_GO_ON}")

    def _answers(self) -> bool:
        """Whether the head's control service takes connections, and takes this machine for alive."""
        if self._ray.util.client.ray.is_connected():  # it tells by itself
            return True
        context = self._ray.get_runtime_context()
        host, _, port = context.gcs_address.rpartition(":")
        try:
            with socket.create_connection((host, int(port)), timeout=2):
                pass
        except OSError:
            return False
        own = context.get_node_id()
        return any(node["NodeID"] == own and node["Alive"] for node in self._ray.nodes())

    def _remember_processes(self) -> None:
        """Every process of a cluster of our own, so that none outlives it whatever has become of its parents."""
        import psutil

        if not self._local:
            return
        node = getattr(self._ray._private.worker, "_global_node", None)
        for _, process in node.live_processes() if node is not None else ():
            with suppress(psutil.Error):
                own = psutil.Process(process.pid)
                known = set(self._started)
                self._started += [found for found in (own, *own.children(recursive=True)) if found not in known]

    def close(self) -> None:
        """Leaves the cluster."""
        if self._foreign:
            return
        with suppress(self._ray.exceptions.RayError, ConnectionError, OSError, RuntimeError):
            self._remember_processes()
            self._ray.shutdown()
        self._quiet.undo()
        _end(self._started)
        self._started = []
        if self._private is not None:
            self._private.close()
            self._private = None


_GO_ON = "what was finished is kept, and the same command goes on"


def _end(processes: Sequence[Any]) -> None:
    """Kills what is still there a moment after it was told to go."""
    import psutil

    _, left = psutil.wait_procs(processes, timeout=3)
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=3)


class _Quiet:
    """Keeps Ray's remarks off our output until ``undo``."""

    def __init__(self) -> None:
        import ray

        self._worker = ray._private.worker
        self._logger = logging.getLogger("ray")
        self._before = self._logger.level, getattr(self._worker, _PRINTING, None)
        self._logger.setLevel(logging.CRITICAL)
        self._print(False)

    def undo(self) -> None:
        """As it was."""
        level, printing = self._before
        self._logger.setLevel(level)
        self._print(printing)

    def _print(self, whether: bool | None) -> None:
        """Whether notices about dead workers are printed, on standard output; Ray has no public switch for that."""
        if self._before[1] is not None:
            setattr(self._worker, _PRINTING, whether)


_PRINTING = "_worker_logs_enabled"


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keeps the process's handler of SIGTERM, which Ray replaces."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGTERM, before)
