"""Sampling with vLLM, on this machine: requests go in as others leave, completions come as each is done.

What is guaranteed, and what is not. Each completion has a generator of its own, seeded from its request, so order,
neighbours and an interruption never change which random numbers it meets. The logits do change in their last bits with
the rows that happen to be computed together; where a draw is that close, the completion differs from there on.
vLLM's seed is the request's, folded to 31 bits. Log-probabilities are taken from the logits as the model gives them, at
temperature 1 and with nothing cut off.

Everything that vLLM has a default of its own for is said: neither a model's generation settings nor pickled weights
slip in, its usage statistics stay off, and its log goes to standard error, errors only (unless ``VLLM_LOGGING_LEVEL``
says otherwise).
"""

from __future__ import annotations

import json
import logging
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.errors import InputError, first_line
from innerloop.rollout.engine import NOT_NUMBERS, Completion, Request, Sampling, fold_seed
from innerloop.schema import Status

if TYPE_CHECKING:
    from innerloop.speaker import Speaker

log = logging.getLogger("innerloop.rollout")

INSTALL = "pip install 'innerloop[vllm]'; without a GPU see docs/engines.md"
_STREAMS = 128  # completions at once on a CPU; on a GPU vLLM knows better
_AHEAD = 2  # requests known to vLLM, as multiples of those that run at once: the next ones wait where they can begin
_STEP = 2048  # tokens that a CPU reads in one step; a prompt that is longer has one to itself
_PAD = 256  # room is made in steps of so many tokens
_SAID = 300  # characters of a message that are worth a line
_REFUSED = (ValueError, TypeError, RuntimeError, KeyError, OSError, ImportError, AssertionError)  # raised at the start
_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # standard output belongs to results
}


def installed() -> bool:
    """Whether vLLM can be imported here."""
    return find_spec("vllm") is not None


def check_installed() -> None:
    """`InputError` with the command that installs vLLM, where it is missing."""
    if not installed():
        raise InputError(f"engine vllm needs the package vllm: {INSTALL}")


class VllmEngine:
    """A folder of safetensors as an engine; vLLM is started by the first ``generate``, and stays for the next one.

    ``streams``: completions at once at most, by default vLLM's own number. ``dtype`` auto is float32 on a CPU and
    bfloat16 on a GPU. ``memory_share``: of a GPU's memory that vLLM may take, by default vLLM's own 0.9; on a CPU keys
    and values take at most half of what is free. ``tensor_parallel``: GPUs that share the model. ``threads``: CPU
    threads, by default one a core.
    """

    def __init__(
        self,
        folder: Path,
        speaker: Speaker,
        *,
        streams: int | None = None,
        dtype: str = "auto",
        memory_share: float | None = None,
        tensor_parallel: int = 1,
        threads: int | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        check_installed()
        if streams is not None and streams < 1:
            raise InputError(f"streams is {streams}: it must be at least 1 (completions at once)")
        if dtype == "float64":
            raise InputError("vLLM has no float64: take dtype float32, or engine transformers")
        self._folder = folder
        self._speaker = speaker
        self._streams = streams
        self._dtype = dtype
        self._memory_share = memory_share
        self._tensor_parallel = tensor_parallel
        self._threads = threads
        self._trust_remote_code = trust_remote_code
        self._stops = _stop_tokens(folder, speaker)
        config = _json(folder / "config.json")
        self._vocabulary: int | None = config.get("text_config", config).get("vocab_size")
        self._engine: Any = None
        self._room = self._slots = 0  # of the engine: tokens for each completion, completions at once

    @property
    def name(self) -> str:
        """The model's."""
        return self._speaker.name

    def describe(self) -> dict[str, Any]:
        """What a run's manifest says about the model."""
        from innerloop.gguf_cache import content_key

        config = _json(self._folder / "config.json")
        files = sorted(self._folder.glob("*.safetensors"))
        return {
            "name": self.name,
            "engine": "vllm",
            "architecture": (config.get("architectures") or [""])[0],
            "parameters": sum(map(_parameters, files)),
            "dtype": self._kind(),
            "fingerprint": " ".join(map(content_key, files)),
            **self._speaker.manner(),
        }

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        """One completion per request, each as soon as it is done; the module says what is guaranteed.

        A prompt that leaves no room in the model's context is an error completion; one that leaves too little is cut
        short (truncated). Whoever stops reading early, by an interrupt too, ends vLLM with it.
        """
        context = self._speaker.max_context
        fitting = []
        for request in requests:
            unfit = self._unfit(request)
            if unfit is None:
                fitting.append(request)
            else:
                yield _error(request, unfit)
        if not fitting:
            return
        longest = max(len(request.prompt) for request in fitting) + sampling.max_tokens
        self._start(min(longest, context or longest), len(fitting))
        whole = False
        try:
            yield from self._run(fitting, sampling)
            whole = True
        finally:
            if not whole:
                self.close()

    def _unfit(self, request: Request) -> str | None:
        """Why nothing can follow a prompt; a token id without an embedding would take vLLM down as a whole."""
        context = self._speaker.max_context
        if context is not None and len(request.prompt) >= context:
            return (
                f"the prompt has {len(request.prompt)} tokens, and {self.name} has a context of {context}: "
                "nothing can follow; use a shorter question or a model with a longer context"
            )
        if self._vocabulary is not None and not 0 <= min(request.prompt) <= max(request.prompt) < self._vocabulary:
            return f"the prompt holds a token id outside 0…{self._vocabulary - 1}, the vocabulary of {self.name}"
        return None

    def close(self) -> None:
        """Ends vLLM, with the processes that it has on GPUs; the next ``generate`` starts it anew."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.engine_core.shutdown()
            if self._on_cpu():  # what it set up in this process
                from vllm.distributed import cleanup_dist_env_and_memory

                cleanup_dist_env_and_memory()

    def _kind(self) -> str:
        if self._dtype != "auto":
            return self._dtype
        return "float32" if self._on_cpu() else "bfloat16"

    def _on_cpu(self) -> bool:
        self._environment()
        with warnings.catch_warnings(action="ignore"):  # its dependencies' deprecations
            from vllm.platforms import current_platform

        return bool(current_platform.is_cpu())

    def _environment(self) -> None:
        """vLLM reads these when it is imported and when it starts processes."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        if self._threads is not None:
            os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
            os.environ["OMP_NUM_THREADS"] = str(self._threads)

    def _start(self, room: int, count: int) -> None:
        """Makes sure of an engine with ``room`` tokens for every completion."""
        if self._engine is not None and self._room >= room:
            return
        self.close()
        self._environment()
        log.info("starting vLLM, which takes a while")
        self._room = -(-room // _PAD) * _PAD
        if self._speaker.max_context is not None:
            self._room = min(self._room, self._speaker.max_context)
        if self._on_cpu():  # in this process: others would only take their time to load
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
            if self._threads is not None:
                import torch

                torch.set_num_threads(self._threads)
        try:
            with warnings.catch_warnings(action="ignore"):
                from vllm.engine.arg_utils import EngineArgs
                from vllm.v1.engine.llm_engine import LLMEngine

                self._engine = LLMEngine.from_engine_args(EngineArgs(**self._arguments(count)))
        except _REFUSED as error:
            raise InputError(
                f"vLLM cannot run {str(self._folder)!r}: {first_line(error, _SAID)}; "
                "what its processes wrote above says more"
            ) from error
        self._slots = self._engine.vllm_config.scheduler_config.max_num_seqs

    def _arguments(self, count: int) -> dict[str, Any]:
        folder = str(self._folder)
        arguments: dict[str, Any] = {
            "model": folder,
            "tokenizer": folder,
            "skip_tokenizer_init": True,  # token ids go in and come out
            "generation_config": "vllm",  # its own neutral one, not the model's
            "load_format": "safetensors",
            "logprobs_mode": "raw_logprobs",
            "dtype": self._kind(),
            "seed": 0,
            "max_model_len": self._room,
            "tensor_parallel_size": self._tensor_parallel,
            "trust_remote_code": self._trust_remote_code,
            "disable_log_stats": True,
            "use_tqdm_on_load": False,
        }
        if self._memory_share is not None:
            arguments["gpu_memory_utilization"] = self._memory_share
        if self._streams is not None:
            arguments["max_num_seqs"] = self._streams
        if self._on_cpu():  # compiling would cost more than it gains
            streams = self._streams or _STREAMS
            arguments |= {"enforce_eager": True, "max_num_seqs": streams}
            # A prompt that is read in parts has vLLM 0.32 rewind the request's generator, which on a CPU it cannot.
            arguments |= {"enable_chunked_prefill": False, "max_num_batched_tokens": max(self._room, _STEP)}
            arguments["kv_cache_memory_bytes"] = self._cache_bytes(min(streams, count))
        return arguments

    def _cache_bytes(self, streams: int) -> int:
        """For the keys and values of so many completions, at most half of the free memory."""
        import psutil
        from transformers import AutoConfig

        from innerloop.memory import cache_bytes

        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": self._trust_remote_code}
        config = AutoConfig.from_pretrained(self._folder, **options).get_text_config()
        token = cache_bytes(config, 4 if self._kind() == "float32" else 2)
        wanted = token * (streams + 1) * self._room  # one for what is lost to blocks that are not full
        return min(wanted, int(psutil.virtual_memory().available) // 2)

    def _run(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        """Keeps vLLM busy; gives what is finished after each of its steps."""
        coming = iter(requests)
        running: dict[str, Request] = {}
        while True:
            while len(running) < _AHEAD * self._slots:
                request = next(coming, None)
                if request is None:
                    break
                refused = self._add(request, sampling)
                if refused is None:
                    running[request.id] = request
                else:
                    yield _error(request, refused)
            if not running:
                return
            for output in self._step():
                if output.finished:
                    yield self._completion(running.pop(output.request_id), output.outputs[0], sampling)

    def _add(self, request: Request, sampling: Sampling) -> str | None:
        """Hands one request over; gives the reason where vLLM does not take it."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        parameters = SamplingParams(
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            max_tokens=self._limit(request, sampling),
            seed=fold_seed(request.seed),
            stop_token_ids=sorted(self._stops),
            logprobs=0,  # of the tokens drawn, no others
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        try:
            self._engine.add_request(request.id, {"prompt_token_ids": list(request.prompt)}, parameters)
        except ValueError as error:
            return f"vLLM: {first_line(error, _SAID)}"
        return None

    def _limit(self, request: Request, sampling: Sampling) -> int:
        context = self._speaker.max_context
        return sampling.max_tokens if context is None else min(sampling.max_tokens, context - len(request.prompt))

    def _step(self) -> list[Any]:
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            return list(self._engine.step())
        except EngineDeadError as error:
            raise ConnectionError(
                "vLLM's process has ended; what it wrote above says why. Finished trajectories are kept, and the same "
                "command goes on"
            ) from error

    def _completion(self, request: Request, output: Any, sampling: Sampling) -> Completion:
        ids = tuple(output.token_ids)
        limit = self._limit(request, sampling)
        status, reason = Status.COMPLETE, None
        if output.finish_reason == "length":
            status, reason = Status.TRUNCATED, f"the limit of {limit} tokens came before the end"
            if limit < sampling.max_tokens:
                reason = f"the context of {self._speaker.max_context} tokens is full"
        elif output.finish_reason != "stop":
            status, reason = Status.ERROR, f"vLLM ended it: {output.finish_reason}"
        ended = bool(ids) and status is Status.COMPLETE and ids[-1] in self._stops
        total = output.cumulative_logprob
        if total is not None and not math.isfinite(total):
            status, reason, total = Status.ERROR, f"{self.name} {NOT_NUMBERS}", None
        return Completion(
            id=request.id,
            token_ids=ids,
            text=self._speaker.decode(ids[:-1] if ended else ids),
            status=status,
            reason=reason,
            logprob=None if total is None or not ids else min(0.0, total),
            seed=request.seed,
        )


def _stop_tokens(folder: Path, speaker: Speaker) -> frozenset[int]:
    """End tokens of the generation settings (else of the configuration) and of the tokenizer."""
    settings = _json(folder / "generation_config.json") or _json(folder / "config.json")
    ends = settings.get("eos_token_id")
    ends = [ends] if isinstance(ends, int) else list(ends or [])
    return frozenset(token for token in (*ends, speaker.tokenizer.eos_token_id) if token is not None)


def _json(file: Path) -> Mapping[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _parameters(file: Path) -> int:
    from math import prod

    from safetensors import safe_open

    with safe_open(file, framework="numpy") as tensors:
        return sum(prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118


def _error(request: Request, reason: str) -> Completion:
    return Completion(id=request.id, token_ids=(), text="", status=Status.ERROR, reason=reason, seed=request.seed)
