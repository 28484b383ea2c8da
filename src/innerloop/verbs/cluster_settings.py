"""Work spread over a Ray cluster: the options that all verbs share which can do that."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from innerloop.errors import InputError
from innerloop.verbs.shared import InputSettings, about, at_least

if TYPE_CHECKING:
    from innerloop.cluster.options import ClusterOptions

RAY = "ray"
_OPTIONS = ("address", "workers", "worker_cpus", "worker_gpus")


@dataclass(frozen=True, kw_only=True)
class ClusterSettings(InputSettings):
    """Where work goes with ``--engine ray``, and how it is shared out. Nothing of that affects results."""

    address: str | None = field(
        default=None,
        metadata=about(
            "ray: auto (a cluster running here), HOST:PORT, ray://HOST:PORT, or local, which starts one for this run; "
            "by default the one that RAY_ADDRESS names, else local.",
            free=True,
        ),
    )
    workers: int | None = field(
        default=None,
        metadata=about("ray: workers that hold a model each; by default one per GPU, or else per machine.", free=True),
    )
    worker_cpus: float | None = field(
        default=None,
        metadata=about(
            "ray: cores that each worker reserves; by default --threads, else an equal share of a machine.", free=True
        ),
    )
    worker_gpus: float | None = field(
        default=None,
        metadata=about("ray: GPUs that each worker reserves; by default 1 where there are any.", free=True),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("workers", self.workers, 1)
        at_least("worker_cpus", self.worker_cpus, 0)
        at_least("worker_gpus", self.worker_gpus, 0)
        if not self.on_cluster:
            for name in self._cluster_options():
                if getattr(self, name) is not None:
                    raise InputError(f"--{name.replace('_', '-')} needs --engine ray: add it, or leave this out")

    @property
    def on_cluster(self) -> bool:
        """Whether a cluster is to do the work."""
        return getattr(self, "engine", None) == RAY

    def _cluster_options(self) -> tuple[str, ...]:
        return _OPTIONS

    def cluster(self) -> ClusterOptions:
        """The options as the cluster takes them; ``--threads`` is each worker's."""
        from innerloop.cluster.options import ClusterOptions

        gpus = 0.0 if self.worker_gpus is None and self.device == "cpu" else self.worker_gpus
        return ClusterOptions(
            address=self.address, workers=self.workers, cpus=self.worker_cpus, gpus=gpus, threads=self.threads
        )


@dataclass(frozen=True, kw_only=True)
class MeasuringSettings(ClusterSettings):
    """Where a model is measured."""

    engine: Literal["transformers", "ray"] = field(
        default="transformers",
        metadata=about("transformers: measure in this process; ray: on the workers of a Ray cluster.", free=True),
    )
