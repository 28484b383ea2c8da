"""Which engine samples, and its own options: shared by the verbs that sample."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from innerloop.errors import InputError
from innerloop.rollout.engines import LLAMACPP, SERVER, TAKERS, TRANSFORMERS, VLLM, able, choose
from innerloop.store import Run
from innerloop.verbs.cluster_settings import ClusterSettings
from innerloop.verbs.shared import about, at_least

if TYPE_CHECKING:
    from innerloop.rollout.engine import Engine, Sampling
    from innerloop.rollout.sample import Speaker

log = logging.getLogger("innerloop")


@dataclass(frozen=True, kw_only=True)
class EngineSettings(ClusterSettings):
    """What generates. ``None`` takes the engine's own default; an option that an engine has no use for is refused."""

    engine: Literal["transformers", "llamacpp", "vllm", "server", "ray", "auto"] = field(
        default="transformers",
        metadata=about(
            "What generates: transformers; llamacpp (GGUF files, fast on a CPU); vllm (fast on GPUs); server "
            "(OpenAI-compatible, see --server); ray: another engine on many machines; auto: the fastest that is "
            "installed and fits the model and the options."
        ),
    )
    worker_engine: Literal["transformers", "llamacpp", "auto"] | None = field(
        default=None,
        metadata=about("ray: the engine in each worker; by default transformers.", free=True),  # see `stands_for`
    )
    batch_size: int | None = field(
        default=None,
        metadata=about("transformers: trajectories at once at most; by default 16 on a CPU, 128 on a GPU.", free=True),
    )
    concurrency: int | None = field(
        default=None,
        metadata=about("llamacpp, vllm, server: requests at once at most; by default 16, vLLM's own, 32.", free=True),
    )
    gpu_memory_utilization: float | None = field(
        default=None,
        metadata=about("vllm: share of each GPU's memory that it may take; by default vLLM's own, 0.9.", free=True),
    )
    tensor_parallel: int | None = field(
        default=None, metadata=about("vllm: GPUs that share the model; by default 1.", free=True)
    )
    server: str | None = field(
        default=None,
        metadata=about("Address of the server, such as http://localhost:8000/v1; without a path, /v1.", free=True),
    )
    server_model: str | None = field(
        default=None, metadata=about("server: what it calls the model; by default as --model, or its only one.")
    )
    api: Literal["auto", "tokens", "text", "chat"] = field(
        default="auto",
        metadata=about(
            "server: how prompts go there: as token ids, as text, or the bare question for the server's chat template; "
            "auto: the first of these that the server takes and tokenises as --model does."
        ),
    )
    key_env: str | None = field(
        default=None,
        metadata=about("server: environment variable with its key; by default INNERLOOP_API_KEY, if set.", free=True),
    )
    timeout: float | None = field(
        default=None,
        metadata=about("server: seconds without a token until a request is tried again; by default 600.", free=True),
    )
    retries: int | None = field(
        default=None,
        metadata=about(
            "server: times that a failed request is tried again; by default 8, in about 3 minutes.", free=True
        ),
    )
    requests_per_minute: float | None = field(
        default=None, metadata=about("server: requests started in a minute at most; by default no limit.", free=True)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("batch_size", self.batch_size, 1)
        at_least("concurrency", self.concurrency, 1)
        more_than_zero("gpu_memory_utilization", self.gpu_memory_utilization)
        at_least("tensor_parallel", self.tensor_parallel, 1)
        more_than_zero("timeout", self.timeout)
        at_least("retries", self.retries, 0)
        more_than_zero("requests_per_minute", self.requests_per_minute)
        able(self._inner, self._given())
        if self.key_env is not None or self.server is not None:  # checked before anything is written down
            from innerloop.rollout.server_address import base_address, key_from, refuse_in_settings

            refuse_in_settings(key_from(self.key_env), vars(self).items())
            if self.server is not None:
                base_address(self.server)

    @property
    def _inner(self) -> str:
        """The engine that holds the model, here or in workers."""
        return (self.worker_engine or TRANSFORMERS) if self.on_cluster else self.engine

    def stands_for(self) -> dict[str, Any]:
        """What the manifest records instead: results depend on the engine in the workers, not on there being some."""
        return {"engine": self._inner, "worker_engine": None}

    def _cluster_options(self) -> tuple[str, ...]:
        return (*super()._cluster_options(), "worker_engine")

    def _given(self) -> list[str]:
        """The engines' options that are not as they are by default."""
        defaults = {entry.name: entry.default for entry in dataclasses.fields(self)}
        return [name for name in TAKERS if getattr(self, name) != defaults[name]]

    def open_engine(self, run: Run, sampling: Sampling, *, count: int | None = None) -> tuple[Engine, Speaker]:
        """The engine, and what makes prompts for it and reads what it says; recorded in the run's manifest.

        ``count``: how many trajectories it is for, where that is known.
        This is the slow step: call it only when there is work to do. A run goes on with the engine that it began with.
        """
        name = self._choose(run, count)
        engine: Engine
        if self.on_cluster:
            engine, speaker, description = self._ray(name)
        elif name == SERVER:
            engine, speaker, description = self._server(run, sampling)
        elif name == LLAMACPP:
            engine, speaker, description = self._llamacpp()
        elif name == VLLM:
            engine, speaker, description = self._vllm()
        else:
            engine, speaker, description = self._transformers()
        run.record_model(description)
        run.note("engine", name)
        if name == SERVER:
            run.note("api", description["api"])
        return engine, speaker

    def _choose(self, run: Run, count: int | None) -> str:
        among = able(self._inner, self._given())
        if self._inner != "auto":
            return self._inner
        if self.on_cluster:  # its workers open no vLLM
            among = tuple(name for name in among if name != VLLM)
            if not among:
                raise InputError("--engine ray: its workers do not run vLLM; leave vLLM's options out")
        began = run.noted("engine")
        if began in among:
            name, why = began, "this run began with it"
        else:
            name, why = choose(self.model, among, count, self.concurrency)
        log.info("engine: %s (%s)", name, why)
        return name

    def _transformers(self) -> tuple[Engine, Speaker, dict[str, Any]]:
        from innerloop.rollout.transformers_engine import TransformersEngine

        loaded = self.load()
        return TransformersEngine(loaded, batch_size=self.batch_size), loaded, loaded.describe()

    def _llamacpp(self) -> tuple[Engine, Speaker, dict[str, Any]]:
        from innerloop.rollout.llamacpp_engine import LlamaCppEngine, gguf_file
        from innerloop.speaker import load_speaker

        gguf = gguf_file(self.model)
        log.info("loading %s into llama.cpp", self.model)
        speaker = load_speaker(self.model, **self.manner())
        engine = LlamaCppEngine(gguf, speaker, streams=self.concurrency, threads=self.threads)
        return engine, speaker, engine.describe()

    def _ray(self, name: str) -> tuple[Engine, Speaker, dict[str, Any]]:
        from innerloop.rollout.ray_engine import RayEngine
        from innerloop.speaker import load_speaker

        speaker = load_speaker(self.model, trust_remote_code=self.trust_remote_code, **self.manner())
        alone: dict[str, Any] = {"engine": name, **dict.fromkeys(self._cluster_options())}
        inner = dataclasses.replace(self, **alone)
        streams = self.batch_size or self.concurrency or _STREAMS
        engine = RayEngine(partial(in_worker, inner), self.cluster(), streams=streams)
        return engine, speaker, engine.describe()

    def _vllm(self) -> tuple[Engine, Speaker, dict[str, Any]]:
        from innerloop.rollout.vllm_engine import VllmEngine, check_installed

        check_installed()
        from innerloop.model_files import resolve
        from innerloop.speaker import load_speaker

        speaker = load_speaker(self.model, trust_remote_code=self.trust_remote_code, **self.manner())
        engine = VllmEngine(
            resolve(self.model, trust_remote_code=self.trust_remote_code),
            speaker,
            streams=self.concurrency,
            dtype=self.dtype,
            memory_share=self.gpu_memory_utilization,
            tensor_parallel=self.tensor_parallel or 1,
            threads=self.threads,
            trust_remote_code=self.trust_remote_code,
        )
        return engine, speaker, engine.describe()

    def _server(self, run: Run, sampling: Sampling) -> tuple[Engine, Speaker, dict[str, Any]]:
        from innerloop.rollout.server_address import check_installed, key_from

        check_installed()
        from innerloop.rollout.server_engine import ServerEngine, patience, speaker_for

        assert self.server is not None
        api: Literal["auto", "tokens", "text", "chat"] = self.api
        if api == "auto":  # a run that goes on talks as it began to
            api = run.noted("api") or api
        engine = ServerEngine(
            self.server,
            model=self.model,
            speaker=speaker_for(self.model, api, trust_remote_code=self.trust_remote_code, **self.manner()),
            served=self.server_model,
            api=api,
            key=key_from(self.key_env),
            concurrency=self.concurrency,
            patience=patience(self.timeout, self.retries, self.requests_per_minute),
        )
        engine.connect(sampling)
        return engine, engine.speaker, engine.describe()


_STREAMS = 16  # completions that an engine in a worker takes on at once at least


def in_worker(settings: EngineSettings, threads: int) -> tuple[Engine, dict[str, Any]]:
    """The engine of these settings, in a worker."""
    settings = dataclasses.replace(settings, threads=threads)
    open_here = settings._llamacpp if settings.engine == LLAMACPP else settings._transformers
    engine, _, description = open_here()
    return engine, description


def more_than_zero(name: str, value: float | None) -> None:
    """`InputError` for a setting that is 0 or less."""
    if value is not None and not value > 0:
        raise InputError(f"--{name.replace('_', '-')} {value}: must be more than 0")
