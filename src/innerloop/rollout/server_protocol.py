"""What is said to an OpenAI-compatible server, and what its answers mean. No network here.

Servers differ in what they take beside the common fields, so a dialect is found out once (``server_engine``):
``tokens`` sends the prompt as token ids to ``/completions``, ``text`` as text, ``chat`` the bare question to
``/chat/completions``, where the server's own chat template makes the prompt.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from innerloop.rollout.engine import Completion, Request, Sampling, fold_seed
from innerloop.schema import Status

Api = Literal["tokens", "text", "chat"]
Extras = Literal["fields", "generation_config", "none"]

_ENDED = ("stop", "eos", "eos_token", "end_turn", "stop_sequence")
_CUT = ("length", "max_tokens")
_BROKEN = ("abort", "error")


class ServerFault(Exception):
    """Passing trouble: the same request may well succeed later. ``wait``: seconds that the server asks for.

    ``busy``: the server works but has too much to do. ``unreachable``: nobody answered at all.
    """

    def __init__(
        self, message: str, *, wait: float | None = None, busy: bool = False, unreachable: bool = False
    ) -> None:
        super().__init__(message)
        self.wait = wait
        self.busy = busy
        self.unreachable = unreachable


class RequestRefused(Exception):
    """The server will not take this request, now or later. ``missing``: the address itself does not exist there."""

    def __init__(self, message: str, *, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How to talk to one server.

    ``extras`` says where the sampling settings go that OpenAI's interface lacks: into ``fields`` (vLLM, SGLang,
    llama.cpp), into a ``generation_config`` (transformers serve) or nowhere. ``strip`` is taken off the front of a
    text prompt, since the server adds it itself. ``limit`` is the name of the field for ``max_tokens``.
    """

    api: Api
    extras: Extras = "fields"
    strip: str = ""
    limit: str = "max_tokens"

    @property
    def path(self) -> str:
        """Below the server's base address."""
        return "/chat/completions" if self.api == "chat" else "/completions"

    def body(self, model: str, request: Request, text: str, sampling: Sampling, limit: int) -> dict[str, Any]:
        """The JSON of one request; ``text`` is what its token ids say."""
        body: dict[str, Any] = {
            "model": model,
            self.limit: limit,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": fold_seed(request.seed),
            "stream": True,
        }
        if self.api == "chat":
            body["messages"] = [{"role": "user", "content": text}]
        else:
            body["prompt"] = list(request.prompt) if self.api == "tokens" else text.removeprefix(self.strip)
        return body | self._extras(sampling, limit)

    def _extras(self, sampling: Sampling, limit: int) -> dict[str, Any]:
        """Said even where nothing is cut off: servers have defaults of their own, and so have models."""
        if self.extras == "generation_config":
            settings = {
                "do_sample": sampling.temperature > 0,
                "top_k": sampling.top_k,
                "repetition_penalty": 1.0,
                "max_new_tokens": limit,
            }
            return {"generation_config": json.dumps(settings)}
        usage = {"stream_options": {"include_usage": True}}
        if self.extras == "none":
            return usage
        return usage | {
            "top_k": sampling.top_k or -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "repeat_penalty": 1.0,  # llama.cpp's name for it
            "skip_special_tokens": False,
            "return_token_ids": self.api != "chat",
        }


@dataclass(eq=False)
class Answer:
    """What a server has said so far; fed with the events of a stream, or with a whole answer at once."""

    shown: list[str] = field(default_factory=list)
    thought: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    finish: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    def feed(self, data: str | bytes) -> None:
        """Take in one event. `ServerFault` for what is no such thing, `RequestRefused` for an error of ours."""
        try:
            event = json.loads(data)
        except ValueError as error:
            raise ServerFault(f"the server's answer is no JSON: {quoted(data)}") from error
        if not isinstance(event, dict):
            raise ServerFault(f"the server's answer is no JSON object: {quoted(data)}")
        if event.get("error"):
            _raise_error(event["error"])
        self._count(event.get("usage"))
        choices = event.get("choices")
        if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
            raise ServerFault(f"the server's answer has no list of choices: {quoted(data)}")
        if choices:
            self._take(choices[0], data)

    def _count(self, usage: Any) -> None:
        if not isinstance(usage, dict):
            return
        for name in ("prompt_tokens", "completion_tokens"):
            if isinstance(usage.get(name), int):
                setattr(self, name, usage[name])

    def _take(self, choice: dict[str, Any], data: str | bytes) -> None:
        said = choice.get("delta") or choice.get("message") or choice
        if not isinstance(said, dict):
            raise ServerFault(f"the server's choice is no object: {quoted(data)}")
        for names, parts in (
            (("text", "content"), self.shown),
            (("reasoning_content", "reasoning"), self.thought),
            (("refusal",), self.refusal),
        ):
            found = next((said[name] for name in names if isinstance(said.get(name), str)), "")
            if found:
                parts.append(found)
        ids = choice.get("token_ids")
        if isinstance(ids, list) and all(isinstance(token, int) for token in ids):
            self.token_ids += ids
        if isinstance(choice.get("finish_reason"), str):
            self.finish = choice["finish_reason"]

    def check(self) -> None:
        """`ServerFault` where the answer ended before the completion did."""
        if self.finish is None:
            got = "nothing" if not (self.shown or self.thought) else "only a part"
            raise ServerFault(f"the server's answer broke off: {got} came, and no finish reason")
        if self.finish in _BROKEN:
            raise ServerFault(f"the server gave up on the request (finish reason {self.finish!r})")

    def completion(self, request: Request, *, limit: int, context: int | None, think: tuple[str, str]) -> Completion:
        """The completion that this answer is; ``context`` where that, not max_tokens, set the limit."""
        text, reason, status = self._text(think), None, Status.COMPLETE
        if self.finish in _CUT:
            status = Status.TRUNCATED
            full = f"the context of {context} tokens is full"
            reason = full if context is not None else f"the limit of {limit} tokens came before the end"
        elif self.finish == "content_filter":
            status, reason = Status.ERROR, "the server's content filter withheld the answer"
        elif self.refusal:
            reason = "the model refused to answer"
        elif self.finish not in _ENDED:
            reason = f"the server ended with finish reason {str(self.finish)[:40]!r}"
        elif not text:
            reason = "the answer is empty"
        # Of a stream that lost some, the ids would not be those of the text.
        whole = self.completion_tokens in (None, len(self.token_ids))
        return Completion(
            id=request.id,
            token_ids=tuple(self.token_ids) if whole else (),
            text=text,
            status=status,
            reason=reason,
            seed=request.seed,
            tokens=self.completion_tokens,
        )

    def _text(self, think: tuple[str, str]) -> str:
        """With the thinking part in its delimiters, where the server has told it apart."""
        shown = "".join(self.shown or self.refusal)
        thought = "".join(self.thought)
        if not thought:
            return shown
        return f"{think[0]}\n{thought}\n{think[1]}\n\n{shown}" if shown or self.finish in _ENDED else think[0] + thought


def _raise_error(error: Any) -> None:
    """An error inside an answer: refused for a client's error, else passing."""
    message = error.get("message") if isinstance(error, dict) else error
    code = error.get("code") if isinstance(error, dict) else None
    said = quoted(str(message))
    if isinstance(code, int) and 400 <= code < 500 and code not in (408, 409, 425, 429):
        raise RequestRefused(f"the server refused the request: {said}")
    raise ServerFault(f"the server reported an error: {said}", busy=code == 429)


def quoted(data: str | bytes) -> str:
    """The beginning of what a server said, as one line."""
    text = data.decode(errors="replace") if isinstance(data, bytes) else data
    return " ".join(text.split())[:200] or "(nothing)"
