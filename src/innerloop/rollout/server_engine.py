"""Sampling through an OpenAI-compatible server: vLLM, SGLang, llama.cpp, Ollama, ``transformers serve``, a provider.

What is guaranteed, and what is not. The server samples; we send each request's seed (folded to 31 bits) and everything
that the distribution depends on, so that no default of the server or the model slips in where the server takes it.
Whether a seed repeats is the server's affair: vLLM and llama.cpp seed every request by itself, up to the rounding of
their batches; ``transformers serve`` seeds one generator for all requests, so only one request at a time repeats;
providers promise nothing. A server may also ignore a field that it does not know (Ollama's interface has no ``top_k``)
and go by its own default, without saying so. Log-probabilities are not asked for. Token ids are kept where the server
tells them (vLLM).

How it is talked to is found out once, with requests for one token: prompts as token ids if the server takes them, as
text if not, both only if the server counts as many tokens in the same text as our tokenizer does, and else the bare
question by way of the server's own chat template.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

from innerloop import chat
from innerloop.errors import InputError
from innerloop.prompts import INSTRUCTION, turns
from innerloop.rollout.engine import Completion, Request, Sampling
from innerloop.rollout.server_address import base_address
from innerloop.rollout.server_client import Patience, ServerClient, connected
from innerloop.rollout.server_protocol import AllRefused, Answer, Api, Dialect, RequestRefused, ServerFault
from innerloop.schema import Mode, Question, Status
from innerloop.speaker import Speaker, load_speaker

log = logging.getLogger("innerloop.rollout")

CONCURRENCY = 32
_TOLD = 5  # unknown finish reasons that are told of, once each
_PROBE = "Is 12345 + 0x7fff = 3.14159?  Naïve tokenizers: \t\\boxed{46}\n\n\n    東京, Москва, naïveté…   don't agree"
_EXTRAS: tuple[Literal["fields", "generation_config", "none"], ...] = ("fields", "generation_config", "none")

_BETWEEN = b"\xff"  # a byte that no UTF-8 has

T = TypeVar("T")


class ChatSpeaker:
    """Talks in text: a token is a byte of UTF-8. For servers that make the prompt themselves."""

    tokenizer_identity: str | None = None  # the server's tokenizer is not known here

    def __init__(
        self,
        instruction: str | None = None,
        think_start: str | None = None,
        think_end: str | None = None,
        system: str | None = None,
    ) -> None:
        self.instruction = INSTRUCTION if instruction is None else instruction
        self.system = system or None
        self.think_start = think_start or chat.DELIMITERS[0][0]
        self.think_end = think_end or chat.DELIMITERS[0][1]

    def prompt(self, question: str | Question, *, mode: Mode = Mode.PLAIN) -> list[int]:
        """The bytes of the user's turn, with those of the system turn before them, where there is one."""
        if mode is not Mode.PLAIN:
            raise InputError(
                f"--mode {mode.value}: a chat server writes the prompt itself; name a model whose tokenizer is at hand "
                "with --model, or use --mode plain"
            )
        said = turns(question, self.instruction, self.system)
        return list(_BETWEEN.join(turn["content"].encode() for turn in said))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of such bytes."""
        return bytes(ids).replace(_BETWEEN, b"\n\n").decode()

    def turns(self, ids: Sequence[int]) -> list[dict[str, str]]:
        """The turns that a prompt holds."""
        texts = [part.decode() for part in bytes(ids).split(_BETWEEN)]
        return [
            {"role": role, "content": text} for role, text in zip(("system", "user")[-len(texts) :], texts, strict=True)
        ]

    def split_thinking(self, text: str, *, opened: bool = False) -> tuple[str | None, str]:
        """See ``chat.split_thinking``."""
        return chat.split_thinking(text, self.think_start, self.think_end, opened=opened)

    def manner(self) -> dict[str, Any]:
        """How the model is talked to, for a run's manifest."""
        return {name: getattr(self, name) for name in ("instruction", "system", "think_start", "think_end")}


class ServerEngine:
    """A server as an engine.

    ``speaker`` is the model's own, or ``None`` where there is no tokenizer for it (then ``chat`` is spoken).
    ``served`` is the model's name on the server, by default ``model`` or the only one there. ``key`` is the server's
    key; it is kept in memory alone. ``speaker`` says after ``connect`` what prompts have to be made with.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str,
        speaker: Speaker | ChatSpeaker,
        served: str | None = None,
        api: Literal["auto", "tokens", "text", "chat"] = "auto",
        key: str | None = None,
        concurrency: int | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._base = base_address(url)
        self._model = model
        self._served = served
        self._api = api
        self._key = key
        self._concurrency = concurrency or CONCURRENCY
        self._patience = patience or Patience()
        self._dialect: Dialect | None = None
        self._context: int | None = None
        self._missing = False  # the server has no such path
        self._unknown: set[str] = set()  # finish reasons that were told of
        self.speaker = speaker

    @property
    def name(self) -> str:
        """The model's, as the server calls it."""
        return self._served or self._model

    @property
    def api(self) -> Api | None:
        """How the server is talked to; ``None`` before ``connect``."""
        return None if self._dialect is None else self._dialect.api

    def describe(self) -> dict[str, Any]:
        """What a run's manifest says about the model."""
        return {
            "name": self._model,
            "engine": "server",
            "server": self._base,
            "served": self._served,
            "api": self.api,
            "fingerprint": f"{self._served} ({self.api})",
            **self.speaker.manner(),
            "max_context": self._context,
        }

    def connect(self, sampling: Sampling) -> None:
        """Finds out which model is there and how to talk to it. `InputError` says what does not fit."""
        if self._dialect is None:
            _in_thread(self._connect(sampling))

    async def _connect(self, sampling: Sampling) -> None:
        brief = replace(self._patience, retries=min(2, self._patience.retries))
        async with connected(self._base, brief, key=self._key, concurrency=1) as client:
            try:
                self._choose_model(await client.models())
                self._dialect = await self._negotiate(client, sampling)
            except AllRefused as refusal:
                raise InputError(str(refusal)) from None
            except (ServerFault, ConnectionError) as fault:
                raise InputError(
                    f"--server {self._base}: {fault}; is the server up and its address right (usually it ends in /v1)?"
                ) from fault
        if self._dialect.api == "chat" and isinstance(self.speaker, Speaker):
            own = self.speaker
            self.speaker = ChatSpeaker(own.instruction, own.think_start, own.think_end, own.system)
        if self._dialect.extras == "none" and sampling.top_k:
            raise InputError(f"--top-k {sampling.top_k}: the server at {self._base} does not take it; give --top-k 0")
        log.info("%s at %s: prompts go as %s", self.name, self._base, _SPOKEN[self._dialect.api])

    def _choose_model(self, listed: dict[str, int | None] | None) -> None:
        """The model's name on the server, and its context where the server tells it."""
        entries = listed or {}
        wanted = self._served or self._model
        if wanted not in entries and len(entries) == 1 and self._served is None:
            (wanted,) = entries
            log.info("the server holds one model, %s, and that is taken for %s", wanted, self._model)
        elif wanted not in entries and entries and self._served is None:
            names = ", ".join(list(entries)[:8])
            raise InputError(
                f"the server has no model {wanted!r}; name one of its {len(entries)} with --server-model: {names}"
            )
        self._served = wanted
        known = self.speaker.max_context if isinstance(self.speaker, Speaker) else None
        self._context = entries.get(wanted) or known

    async def _negotiate(self, client: ServerClient, sampling: Sampling) -> Dialect:
        """The first way of talking that the server takes and understands as we do."""
        refusals: list[str] = []
        if self._api != "chat" and isinstance(self.speaker, Speaker):
            dialect = await self._negotiate_prompt(client, sampling, self.speaker, refusals)
            if dialect is not None:
                return dialect
        if self._api in ("auto", "chat"):
            request = Request(id="probe", prompt=tuple(b"Hello"), seed=0)
            for limit in ("max_tokens", "max_completion_tokens"):
                for extras in _EXTRAS:
                    dialect = Dialect(api="chat", extras=extras, limit=limit)
                    if await self._try(client, dialect, request, "Hello", sampling, refusals) is not None:
                        return dialect
        raise InputError(f"--server {self._base}: it takes no request of ours: {refusals[-1] if refusals else '?'}")

    async def _negotiate_prompt(
        self, client: ServerClient, sampling: Sampling, speaker: Speaker, refusals: list[str]
    ) -> Dialect | None:
        """Prompts as tokens or as text; ``None`` where the server takes neither. `InputError`: another tokenizer."""
        request = Request(id="probe", prompt=tuple(speaker.prompt(_PROBE)), seed=0)
        text = speaker.decode(request.prompt)
        counts: list[int] = []
        for extras in _EXTRAS:
            found = None
            for strip in dict.fromkeys(("", str(speaker.tokenizer.bos_token or ""))):
                dialect = Dialect(api="text", extras=extras, strip=strip)
                answer = await self._try(client, dialect, request, text, sampling, refusals)
                if answer is None:
                    break
                if answer.prompt_tokens in (None, len(request.prompt)):
                    found = dialect
                    break
                counts.append(answer.prompt_tokens or 0)
            if self._missing:
                return None
            if self._api != "text" and (found or not counts):
                dialect = Dialect(api="tokens", extras=extras)
                answer = await self._try(client, dialect, request, text, sampling, refusals)
                if answer is not None and answer.prompt_tokens in (None, len(request.prompt)):
                    return dialect
            if found and self._api != "tokens":
                return found
        if counts and self._api != "auto":
            raise InputError(_ANOTHER.format(self.name, counts[0], len(request.prompt), self._model))
        if counts:
            log.warning(
                "%s counts %d tokens where %s has %d, so its chat template makes the prompts",
                *(self.name, counts[0], self._model, len(request.prompt)),
            )
        return None

    async def _try(
        self,
        client: ServerClient,
        dialect: Dialect,
        request: Request,
        text: str,
        sampling: Sampling,
        refusals: list[str],
    ) -> Answer | None:
        """The answer to a request for one token, or ``None`` where the server will not have it."""
        body = dialect.body(self.name, request, text, sampling, 1)
        try:
            return await client.ask(dialect.path, body, tokens=1, prompt=len(request.prompt))
        except RequestRefused as refusal:
            refusals.append(str(refusal))
            self._missing = refusal.missing
        except ServerFault as fault:  # some servers stumble over what they do not know
            if fault.unreachable or fault.busy:
                raise
            refusals.append(str(fault))
        log.debug("%s: %s", dialect, refusals[-1])
        return None

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        """One completion per request, each as soon as it is done; the module says what is guaranteed.

        Raises `ConnectionError` where the server is gone for good, after all patience; what was given out stays.
        """
        self.connect(sampling)
        done: queue.SimpleQueue[Completion | BaseException | None] = queue.SimpleQueue()
        loop = asyncio.new_event_loop()
        task = loop.create_task(self._work(requests, sampling, done))
        thread = threading.Thread(target=_drive, args=(loop, task, done), name="innerloop-server", daemon=True)
        thread.start()
        try:
            while (item := done.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            loop.call_soon_threadsafe(task.cancel)
            thread.join()
            loop.close()

    async def _work(self, requests: Sequence[Request], sampling: Sampling, done: queue.SimpleQueue[Any]) -> None:
        """As many workers as may ask at once, taking the requests in turn."""
        waiting = iter(requests)
        options: dict[str, Any] = {"key": self._key, "concurrency": self._concurrency, "requests": len(requests)}
        async with connected(self._base, self._patience, **options) as client:

            async def worker() -> None:
                for request in waiting:
                    done.put(await self._complete(client, request, sampling))

            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._concurrency, len(requests))):
                    group.create_task(worker())

    async def _complete(self, client: ServerClient, request: Request, sampling: Sampling) -> Completion:
        assert self._dialect is not None
        chatting = self._dialect.api == "chat"
        room = sampling.max_tokens
        if self._context is not None and not chatting:
            room = self._context - len(request.prompt)
        if room < 1:
            return _failed(
                request,
                f"the prompt has {len(request.prompt)} tokens, and {self.name} has a context of {self._context}: "
                "nothing can follow; use a shorter question or a model with a longer context",
            )
        limit = min(sampling.max_tokens, room)
        speaker = self.speaker
        said = speaker.turns(request.prompt) if isinstance(speaker, ChatSpeaker) else speaker.decode(request.prompt)
        body = self._dialect.body(self.name, request, said, sampling, limit)
        try:
            answer = await client.ask(self._dialect.path, body, tokens=limit, prompt=len(request.prompt))
        except (RequestRefused, ServerFault) as error:
            return _failed(request, str(error))
        self._tell_unknown(answer.unknown_finish)
        completion = answer.completion(
            request,
            limit=limit,
            context=self._context if room < sampling.max_tokens else None,
            think=(self.speaker.think_start, self.speaker.think_end),
        )
        return completion if self._ids_fit(completion, client) else replace(completion, token_ids=())

    def _ids_fit(self, completion: Completion, client: ServerClient) -> bool:
        """Whether the token ids are ones of our tokenizer, and do not spell the server's key."""
        ids = completion.token_ids
        if not ids or not isinstance(self.speaker, Speaker):
            return True
        if max(ids) >= len(self.speaker.tokenizer):
            return False
        spelt = self.speaker.decode(ids) if client.redactor.active else ""
        return client.redactor.text(spelt) == spelt

    def _tell_unknown(self, finish: str | None) -> None:
        if finish is not None and finish not in self._unknown and len(self._unknown) < _TOLD:
            self._unknown.add(finish)
            log.warning("unknown finish reason %s: such answers count as errors, and are left out of scores", finish)


_SPOKEN = {"tokens": "token ids", "text": "text", "chat": "bare questions, through the server's chat template"}
_ANOTHER = (
    "the tokenizer of {} on the server is another one: {} tokens there, {} with that of --model {}; "
    "name the model that the server holds with --model, or use --api chat"
)


def speaker_for(model: str, api: str, *, trust_remote_code: bool = False, **manner: Any) -> Speaker | ChatSpeaker:
    """The model's own speaker where there is a tokenizer for it, else one for bare questions."""
    if api == "chat":
        return _chat_speaker(**manner)
    try:
        return load_speaker(model, trust_remote_code=trust_remote_code, **manner)
    except InputError as error:
        if api != "auto":
            raise
        log.info("no tokenizer for %s here (%s): its server's chat template makes the prompts", model, error)
        return _chat_speaker(**manner)


def _chat_speaker(**manner: Any) -> ChatSpeaker:
    """One for bare questions. `InputError` for what only the template can do."""
    if manner.pop("date", None) is not None:
        raise InputError("--date: the server's chat template makes the prompts, on its own day; leave the option out")
    manner.pop("no_thinking", None)  # how a mode is asked for that chats do not have
    return ChatSpeaker(**manner)


def patience(timeout: float | None, retries: int | None, requests_per_minute: float | None) -> Patience:
    """With the defaults for what is ``None``."""
    given = {"timeout": timeout, "retries": retries, "requests_per_minute": requests_per_minute}
    return Patience(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def _failed(request: Request, reason: str) -> Completion:
    return Completion(id=request.id, token_ids=(), text="", status=Status.ERROR, reason=reason, seed=request.seed)


def _drive(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None], done: queue.SimpleQueue[Any]) -> None:
    """Runs the work to its end in a thread of its own, and says how it ended."""
    end: BaseException | None = None
    try:
        loop.run_until_complete(task)
    except asyncio.CancelledError:
        pass
    except BaseExceptionGroup as group:  # of the workers that failed, the first
        end = group.exceptions[0]
    except Exception as error:  # noqa: BLE001  # told to the thread that waits for it
        end = error
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        done.put(end)


def _in_thread(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end, also where the caller's thread has an event loop already (a notebook)."""
    box: list[Any] = []

    def run() -> None:
        try:
            box.append((True, asyncio.run(work)))
        except Exception as error:  # noqa: BLE001  # raised again in the caller's thread
            box.append((False, error))

    thread = threading.Thread(target=run, name="innerloop-server", daemon=True)
    thread.start()
    thread.join()
    good, value = box[0]
    if not good:
        raise value
    return value
