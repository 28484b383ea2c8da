"""Sampling with llama.cpp, in this process: GGUF files as they are, several streams at once.

What is guaranteed, and what is not. Each completion has a generator of its own, seeded from its request, so order,
neighbours and an interruption never change which random numbers it meets. The logits do change in their last bits with
the number of streams that happen to be computed together, as with every engine; where a draw is that close, the
completion differs from there on. One stream at a time (``streams=1``) repeats exactly on the same machine with the
same version. Log-probabilities are of the quantised model: llama.cpp multiplies with the weights as the file has them
and rounds activations to 8 bits, where transformers unpacks the weights and computes in float32.

Token ids and log-probabilities are kept where llama.cpp tells all of them; it leaves out tokens that end within a
character, as rare scripts and emoji have them, and such a completion has its text and its number of tokens only.

llama.cpp's seed has 32 bits; the request's 63 are folded to 31. Two samples of one question in n share a seed with
probability n² / 2³².
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from innerloop.errors import InputError, first_line
from innerloop.rollout.engine import NOT_NUMBERS, Completion, Request, Sampling, fold_seed
from innerloop.schema import Status

if TYPE_CHECKING:
    from innerloop.speaker import Speaker

log = logging.getLogger("innerloop.rollout")

INSTALL = "pip install 'innerloop[llamacpp]'"
_STREAMS = 16  # more gain little on a CPU
_PAD = 256  # llama.cpp rounds contexts up to this
_SAID = 300  # characters of a message that are worth a line
_BATCH = 2048  # prompt tokens read at once, over all streams
# llama.cpp renders a file's template when it loads the file, to see what it can do; nothing would end that.
_NO_TEMPLATE = "{{ messages[0].content }}"
_FAILED = (RuntimeError, ValueError, MemoryError, OSError)  # what the binding raises for what it is fed


def installed() -> bool:
    """Whether llama.cpp's binding can be imported here."""
    return find_spec("xllamacpp") is not None


def gguf_file(model: str) -> Path:
    """The GGUF file that a model's name stands for; `InputError` where it is something else."""
    from innerloop.model_files import locate

    place = locate(model)
    if place is None or not place.is_file():
        raise InputError(
            f"engine llamacpp reads GGUF files, and model {model!r} is none; name a .gguf file, or smollm2"
        )
    return place


def has_gpu() -> bool:
    """Whether the installed llama.cpp can compute on a GPU of this machine."""
    import xllamacpp

    return any("gpu" in str(device.get("type", "")).lower() for device in xllamacpp.get_device_info())


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """What the file's header says: architecture, number of weights, bytes of keys and values per token."""

    architecture: str
    parameters: int
    cache_bytes: int


class LlamaCppEngine:
    """A GGUF file as an engine.

    ``speaker`` decodes and knows the context. ``streams``: completions at once at most, by default 16, fewer where
    keys and values would take more than half of the free memory. ``threads``: CPU threads, by default all cores.
    """

    def __init__(self, gguf: Path, speaker: Speaker, *, streams: int | None = None, threads: int | None = None) -> None:
        if not installed():
            raise InputError(f"engine llamacpp needs the package xllamacpp: {INSTALL}")
        if streams is not None and streams < 1:
            raise InputError(f"streams is {streams}: it must be at least 1 (completions at once)")
        self._gguf = gguf
        self._speaker = speaker
        self._wanted = streams or _STREAMS
        self._threads = threads
        self._shape = _shape(gguf)
        self._server: Any = None
        self._slots = self._room = 0  # of the server: completions at once, tokens for each

    @property
    def name(self) -> str:
        """The model's."""
        return self._speaker.name

    def describe(self) -> dict[str, Any]:
        """What a run's manifest says about the model."""
        from innerloop.gguf_cache import content_key

        return {
            "name": self.name,
            "engine": "llamacpp",
            "architecture": self._shape.architecture,
            "parameters": self._shape.parameters,
            "file": self._gguf.name,
            "fingerprint": content_key(self._gguf),
            **self._speaker.manner(),
        }

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        """One completion per request, each as soon as it is done; the module says what is guaranteed.

        A prompt that leaves no room in the model's context is an error completion; one that leaves too little is cut
        short (truncated).
        """
        context = self._speaker.max_context
        fitting = []
        for request in requests:
            if context is not None and len(request.prompt) >= context:
                yield _error(
                    request,
                    f"the prompt has {len(request.prompt)} tokens, and {self.name} has a context of {context}: "
                    "nothing can follow; use a shorter question or a model with a longer context",
                )
            else:
                fitting.append(request)
        if not fitting:
            return
        longest = max(len(request.prompt) for request in fitting) + sampling.max_tokens
        self._serve(min(longest, context or longest), len(fitting))
        yield from self._run(fitting, sampling)

    def _serve(self, room: int, count: int) -> None:
        """Makes sure of a server with ``room`` tokens for every stream."""
        slots = min(self._wanted, count, self._affordable(room))
        if self._server is not None and self._room >= room and self._slots >= slots:
            return
        import xllamacpp

        self._server = None  # frees the memory of the old one first
        self._slots, self._room = slots, -(-room // _PAD) * _PAD
        settings = xllamacpp.CommonParams()
        settings.model.path = str(self._gguf)
        settings.n_parallel, settings.n_ctx = self._slots, self._slots * self._room
        settings.n_batch = _BATCH
        settings.cache_ram_mib = 0  # no copies of finished prompts
        settings.verbosity = 0
        settings.chat_template = _NO_TEMPLATE
        settings.ui = settings.endpoint_slots = settings.warmup = False
        if self._threads is not None:
            settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = self._threads
        try:
            self._server = xllamacpp.Server(settings)
        except _FAILED as error:
            raise InputError(f"llama.cpp cannot load {str(self._gguf)!r}: {first_line(error, _SAID)}") from error

    def _affordable(self, room: int) -> int:
        """How many streams of ``room`` tokens fit into half of the free memory; 1 at least."""
        import psutil

        free = int(psutil.virtual_memory().available)
        return max(1, free // 2 // (self._shape.cache_bytes * room)) if self._shape.cache_bytes else self._wanted

    def _run(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        """Keeps all streams busy. The call into llama.cpp releases the interpreter's lock."""
        pool = ThreadPoolExecutor(self._slots, thread_name_prefix="llamacpp")
        stop = Event()
        coming = iter(requests)
        running: set[Future[Completion]] = set()
        try:
            while True:
                while len(running) < 2 * self._slots:  # the next ones wait where a stream can take them at once
                    request = next(coming, None)
                    if request is None:
                        break
                    running.add(pool.submit(self._complete, request, sampling, stop))
                if not running:
                    return
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
        finally:  # also where the reader stops early: what runs is called off at its next token
            stop.set()
            pool.shutdown(cancel_futures=True)

    def _complete(self, request: Request, sampling: Sampling, stop: Event) -> Completion:
        context = self._speaker.max_context
        room = sampling.max_tokens if context is None else context - len(request.prompt)
        limit = min(sampling.max_tokens, room)
        body = _body(request, sampling, limit) | {
            "preserved_tokens": [self._speaker.think_start, self._speaker.think_end]  # special ones are not shown else
        }
        heard = _Heard()

        def hear(event: dict[str, Any]) -> bool:
            heard.take(event)
            return stop.is_set()

        try:
            answer = self._server.handle_completions(body, hear)
        except _FAILED as error:
            return _error(request, f"{type(error).__name__}: {first_line(error, _SAID)}")
        if isinstance(answer, dict):  # refused before it began
            heard.take(answer)
        if heard.finish is None:
            return _error(request, f"llama.cpp: {heard.error or 'it ended without a finish reason'}"[:300])
        ended = heard.finish == "stop"
        reason = None
        if not ended:
            full = room < sampling.max_tokens
            reason = f"the context of {context} tokens is full" if full else _LIMIT.format(limit)
        if not math.isfinite(heard.logprob):
            return _error(request, f"{self.name} {NOT_NUMBERS}")
        whole = len(heard.token_ids) == heard.count
        ids = tuple(heard.token_ids) if whole else ()
        return Completion(
            id=request.id,
            token_ids=ids,
            text=self._speaker.decode(ids[:-1] if ended else ids) if whole else "".join(heard.text),
            status=Status.COMPLETE if ended else Status.TRUNCATED,
            reason=reason,
            logprob=min(0.0, heard.logprob) if whole and ids else None,
            seed=request.seed,
            tokens=heard.count,
        )


@dataclass(eq=False)
class _Heard:
    """What has come of a completion. llama.cpp tells no ids of tokens that end within a character."""

    text: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprob: float = 0.0
    count: int | None = None
    finish: str | None = None
    error: str | None = None

    def take(self, event: dict[str, Any]) -> None:
        """One event of the stream."""
        if "error" in event:
            self.error = str(event["error"].get("message", event["error"]))
        if "usage" in event:
            self.count = event["usage"]["completion_tokens"]
        for choice in event.get("choices", ()):
            self.text.append(choice["text"])
            self.finish = choice["finish_reason"] or self.finish
            for entry in (choice["logprobs"] or {}).get("content", ()):
                self.token_ids.append(entry["id"])
                said = entry["logprob"]  # none where it is no number, which JSON cannot say
                self.logprob += said if isinstance(said, (int, float)) else math.nan


_LIMIT = "the limit of {} tokens came before the end"


def _body(request: Request, sampling: Sampling, limit: int) -> dict[str, Any]:
    """Everything that llama.cpp has a default of its own for is said: it would cut off rare tokens."""
    return {
        "prompt": list(request.prompt),
        "max_tokens": limit,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": 0.0,
        # In transformers' order: temperature first, so that top-p counts the sharpened probabilities.
        "samplers": ["temperature", "top_k", "top_p"],
        "repeat_penalty": 1.0,
        "seed": fold_seed(request.seed),
        "cache_prompt": False,  # a prompt read in other pieces gives other last bits
        "stream": True,  # or it could not be called off
        "logprobs": 1,  # ids and log-probabilities of the tokens drawn come only with these
    }


def _error(request: Request, reason: str) -> Completion:
    return Completion(id=request.id, token_ids=(), text="", status=Status.ERROR, reason=reason, seed=request.seed)


def _shape(gguf: Path) -> _Shape:
    """From the header alone. Keys and values are kept in 16 bits."""
    from innerloop.gguf_header import header

    found = header(gguf)

    def number(name: str, default: int) -> int:
        value = found.own(name)
        value = default if value is None else value
        return max(value) if isinstance(value, tuple) else int(value)

    heads = number("attention.head_count", 0)
    width = number("attention.key_length", number("embedding_length", 0) // heads if heads else 0)
    cached = number("block_count", 0) * number("attention.head_count_kv", heads) * width * 2 * 2
    return _Shape(architecture=found.architecture, parameters=found.weights, cache_bytes=cached)
