"""The workers of a job: started by Ray wherever it has room, given groups of work, replaced when they die.

A unit's result is given out once. When a worker dies, what it had finished is kept, and the rest of its group goes to
others: in smaller groups, and alone after a second death, so that a unit that kills its worker is found out. After a
third one it is given up, and the others go on.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from types import TracebackType
from typing import Any, Generic, Literal, Self

from innerloop.cluster.connection import Connection
from innerloop.cluster.options import ClusterOptions, Team
from innerloop.cluster.work import Done, Job, ResultT, Unit, WorkT
from innerloop.cluster.worker import Failure, Place, Turn, Worker
from innerloop.errors import InputError, first_line

log = logging.getLogger("innerloop.cluster")

DEATHS = 3  # workers that a unit may take with it, and that may die in a row before they are ready
_TURN = 1.0  # seconds that a worker waits for news before it says that there is none
_OWN_PATIENCE = 60.0  # the same as options' patience, where no machine can be added
_REMARK = 10.0  # seconds without any worker until that is remarked on


@dataclass(eq=False)
class _Member:
    """A worker. ``call`` is the answer that we wait for; ``units`` what is not done of the group that it works on."""

    actor: Any
    call: Any
    stage: Literal["starting", "opening", "ready"] = "starting"
    host: str = "a machine"
    group: int | None = None
    units: dict[str, Unit[Any]] = field(default_factory=dict)


class Crew(Generic[WorkT, ResultT]):
    """Workers that hold a job each, from `open` to `close`; a context manager that opens and closes.

    ``team`` is how many and with what, ``description`` what the job says of what they hold.
    """

    team: Team

    def __init__(self, job: Job[WorkT, ResultT], options: ClusterOptions) -> None:
        self._job = job
        self._options = options
        self.description: dict[str, Any] = {}
        self._connection: Connection | None = None
        self._members: list[_Member] = []
        self._pending: deque[Sequence[Unit[WorkT]]] = deque()
        self._ready: deque[Done[ResultT]] = deque()  # to be given out
        self._deaths: Counter[str] = Counter()  # workers that died over a unit
        self._stillborn = 0  # workers in a row that died before they were ready
        self._said: set[str] = set()
        self._groups = 0  # that were given out
        self._vacant: float | None = None  # since when there is no worker at all
        self._remarked = False

    def open(self) -> Self:
        """Joins the cluster and waits for the first worker to be ready; the others join as they can.

        `InputError` where no worker can be started or the job cannot be opened.
        """
        self._connection = Connection(self._options)
        try:
            import ray

            self._ray = ray
            self.team = self._options.resolved(self._connection.machines())
            log.info("ray: %s", self.team)
            self._actor = ray.remote(
                num_cpus=self.team.cpus,
                num_gpus=self.team.gpus,
                max_restarts=0,
                max_task_retries=0,
                scheduling_strategy="SPREAD",
            )(Worker)
            while not any(member.stage == "ready" for member in self._members):
                while len(self._members) < self.team.workers:
                    self._start()
                self._listen()
        except BaseException:
            self.close()
            raise
        return self

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, groups: Sequence[Sequence[Unit[WorkT]]]) -> Iterator[Done[ResultT]]:
        """The result of every unit, each as soon as it is there, in any order.

        Groups are given out in their order, to whichever worker is free. ``ConnectionError`` when the cluster is gone;
        what a worker says is wrong with the work as such is raised as it would be without a cluster.
        """
        self._pending.extend(groups)
        try:
            while self._pending or any(member.group is not None for member in self._members):
                self._staff()
                self._listen()
                while self._ready:
                    yield self._ready.popleft()
        finally:  # a reader that stops early leaves no worker behind that is busy with what nobody wants
            self._pending.clear()
            self._ready.clear()
            self._deaths.clear()
            for member in [member for member in self._members if member.group is not None]:
                self._dismiss(member)

    def wait_for_all(self) -> None:
        """Waits until every worker is ready, for who wants to time them."""
        while not all(member.stage == "ready" for member in self._members):
            self._listen()

    def close(self) -> None:
        """Stops the workers, whatever they are doing, and leaves the cluster."""
        if self._connection is None:
            return
        for member in list(self._members):
            self._dismiss(member)
        self._connection.close()
        self._connection = None

    def _staff(self) -> None:
        """Gives every free worker a group, and starts workers for those that died where there is work for them."""
        for member in self._members:
            if member.stage == "ready" and member.group is None and self._pending:
                self._groups += 1
                units = self._pending.popleft()
                member.group, member.units = self._groups, {unit.id: unit for unit in units}
                member.call = member.actor.turn.remote([(member.group, units)], _TURN)
        coming = sum(member.stage != "ready" for member in self._members)
        while len(self._members) < self.team.workers and coming < len(self._pending):
            self._start()
            coming += 1

    def _start(self) -> None:
        actor: Any = self._actor.remote(self._job, self.team.threads)
        self._members.append(_Member(actor, actor.hello.remote()))

    def _dismiss(self, member: _Member) -> None:
        self._members.remove(member)
        try:
            self._ray.kill(member.actor)
        except (self._ray.exceptions.RayError, ConnectionError, ValueError, RuntimeError):
            log.debug("a worker could not be told to stop", exc_info=True)

    def _listen(self) -> None:
        """Waits a moment for what workers say, and sees that there are some."""
        assert self._connection is not None
        by_call = {member.call: member for member in self._members if member.call is not None}
        if by_call:
            calls = list(by_call)
            found, _ = self._ray.wait(calls, num_returns=1, timeout=_TURN)
            if found:
                found, _ = self._ray.wait(calls, num_returns=len(calls), timeout=0)
            for call in found:
                self._hear(by_call[call], call)
        self._connection.check()
        self._look_for_anybody()

    def _hear(self, member: _Member, call: Any) -> None:
        """One answer of one worker."""
        member.call = None
        try:
            answer = self._ray.get(call)
        except self._ray.exceptions.RayTaskError as error:
            raise RuntimeError(f"a worker on {member.host} failed: {first_line(error.cause)}") from error
        except self._ray.exceptions.RayError as error:
            self._died(member, _why(error))
            return
        if isinstance(answer, Place):
            self._check_version(answer)
            member.host, member.stage = answer.host, "opening"
            member.call = member.actor.open.remote()
        elif isinstance(answer, Failure):
            self._failed(member, answer)
        elif isinstance(answer, Turn):
            self._take(member, answer)
        else:
            self._check_same(member, answer)
            member.stage = "ready"
            self._stillborn = 0

    def _take(self, member: _Member, turn: Turn) -> None:
        for warning in turn.warnings:
            if warning not in self._said:  # every worker has the same to say
                self._said.add(warning)
                log.warning("%s", warning)
        for id_, result in turn.results:
            if member.units.pop(id_, None) is not None:
                self._ready.append(Done(id=id_, result=result))
        if member.group in turn.finished:
            assert not member.units, f"a worker finished a group without {sorted(member.units)[:3]}"
            member.group = None
        if turn.failure is not None:
            self._failed(member, turn.failure)
        elif member.group is not None:
            member.call = member.actor.turn.remote([], _TURN)

    def _failed(self, member: _Member, failure: Failure) -> None:
        """What a worker says went wrong; raised, unless another worker may do better."""
        if failure.kind == "input":
            raise InputError(failure.message)
        if failure.kind == "gone":
            self._died(member, failure.message)
            return
        raise RuntimeError(f"a worker on {member.host} failed: {failure.message}")

    def _died(self, member: _Member, why: str) -> None:
        """Puts what a dead worker leaves to the front of the queue."""
        self._dismiss(member)
        if member.stage != "ready":
            self._stillborn += 1
            if self._stillborn >= DEATHS:
                raise InputError(
                    f"{self._stillborn} workers in a row died before they were ready ({why}): too little memory for "
                    f"{self.team.workers} of them? Fewer --workers, or a smaller --dtype, take less"
                )
        left = list(member.units.values())
        after = f"the {len(left)} units that it had left go to others" if left else "it held no work"
        log.warning("ray: a worker on %s died (%s); %s", member.host, why, after)
        self._deaths.update(list(member.units))
        guilty = [unit for unit in left if self._deaths[unit.id] >= DEATHS]
        alone = [unit for unit in left if 1 < self._deaths[unit.id] < DEATHS]
        others = [unit for unit in left if self._deaths[unit.id] == 1]
        reason = f"{DEATHS} workers died over it, the last one because {why}"
        self._ready.extend(Done(id=unit.id, reason=reason) for unit in guilty)
        size = max(1, -(-len(others) // 4))
        parts = [others[start : start + size] for start in range(0, len(others), size)]
        self._pending.extendleft(reversed([*parts, *([unit] for unit in alone)]))

    def _look_for_anybody(self) -> None:
        """`InputError` where there has been no worker for too long, nor one in the making."""
        assert self._connection is not None
        if any(member.stage != "starting" for member in self._members):
            self._vacant, self._remarked = None, False
            return
        now = time.monotonic()
        self._vacant = self._vacant or now
        waited = now - self._vacant
        if waited > min(_REMARK, self._options.patience) and not self._remarked:
            self._remarked = True
            log.warning("ray: no worker yet: %s", self._connection.shortage(self.team))
        patience = self._options.patience if self._connection.grows else min(self._options.patience, _OWN_PATIENCE)
        if waited > patience:
            raise InputError(
                f"no worker could be started within {patience:.0f} seconds: "
                f"{self._connection.shortage(self.team)}; take fewer --worker-cpus or --worker-gpus, or wait until "
                f"others are done"
            )

    def _check_version(self, place: Place) -> None:
        own = metadata.version("innerloop")
        if place.version != own:
            raise InputError(
                f"{place.host} has innerloop {place.version}, and this machine {own}: install the same everywhere"
            )

    def _check_same(self, member: _Member, description: dict[str, Any]) -> None:
        self.description = self.description or description
        known = self.description.get("fingerprint")
        if description.get("fingerprint") != known:
            raise InputError(
                f"{member.host} holds another model than the first worker (fingerprint {description['fingerprint']}, "
                f"not {known}): give every machine the same files"
            )


def _why(error: BaseException) -> str:
    """What became of a worker, in a few words: Ray says it in a page."""
    text = str(error)
    if "ModuleNotFoundError" in text or "No module named" in text:
        missing = text.partition("No module named ")[2].split()[0].strip("'\".,") if "No module named " in text else ""
        raise InputError(
            f"a machine of the cluster cannot import {missing or 'innerloop'}: install the same innerloop, with the "
            f"same extras, on every machine"
        ) from error
    for sign, meaning in _MEANINGS.items():
        if sign in text:
            return meaning
    return type(error).__name__


_MEANINGS = {
    "OutOfMemory": "its machine ran out of memory",
    "low on memory": "its machine ran out of memory",
    "node has died": "its machine is gone",
    "node was terminated": "its machine is gone",
    "node died": "its machine is gone",
    "worker process has died": "its process ended",
    "owner has died": "the cluster took this process for dead",
}
