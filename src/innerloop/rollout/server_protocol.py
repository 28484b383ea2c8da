"""What is said to an OpenAI-compatible server, and what its answers mean. No network here.

Servers differ in what they take beside the common fields, so a dialect is found out once (``server_engine``):
``tokens`` sends the prompt as token ids to ``/completions``, ``text`` as text, ``chat`` the bare question to
``/chat/completions``, where the server's own chat template makes the prompt.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from innerloop import chat
from innerloop.rollout.engine import Completion, Request, Sampling, fold_seed
from innerloop.rollout.server_content import read_content
from innerloop.rollout.server_finish import Finish, meaning, reason_of
from innerloop.rollout.server_limits import Limits
from innerloop.rollout.server_redact import Redactor, has_half, joined_halves
from innerloop.schema import Status

Api = Literal["tokens", "text", "chat"]
Extras = Literal["fields", "generation_config", "none"]

LARGEST = 2**31 - 1  # the columns for counts and token ids have 32 bits
_PASSING = (408, 409, 425, 429)  # errors of a client that pass, and everything from 500 on


class ServerFault(Exception):
    """Passing trouble: the same request may well succeed later. ``wait``: seconds that the server asks for.

    ``busy``: the server works but has too much to do. ``unreachable``: nobody answered at all. ``lasting``: asking
    again is not worth its while.
    """

    def __init__(
        self,
        message: str,
        *,
        wait: float | None = None,
        busy: bool = False,
        unreachable: bool = False,
        lasting: bool = False,
    ) -> None:
        super().__init__(message)
        self.wait = wait
        self.busy = busy
        self.unreachable = unreachable
        self.lasting = lasting


class RequestRefused(Exception):
    """The server will not take this request, now or later. ``missing``: the address itself does not exist there."""

    def __init__(self, message: str, *, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing


class AllRefused(RequestRefused):
    """The server seems to refuse every request: the key, the address or the account is at fault."""


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

    def body(
        self, model: str, request: Request, said: str | list[dict[str, str]], sampling: Sampling, limit: int
    ) -> dict[str, Any]:
        """The JSON of one request; ``said`` is what its token ids say, as a text or as the turns of a chat."""
        body: dict[str, Any] = {
            "model": model,
            self.limit: limit,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": fold_seed(request.seed),
            "stream": True,
        }
        if self.api == "chat":
            body["messages"] = [{"role": "user", "content": said}] if isinstance(said, str) else said
        else:
            assert isinstance(said, str), "turns are for chats"
            body["prompt"] = list(request.prompt) if self.api == "tokens" else said.removeprefix(self.strip)
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


class Answer:
    """What a server has said so far; fed with the events of a stream, or with a whole answer at once.

    ``limits`` bound it, and nothing of it gets out but through ``redactor``. ``finish`` is why it ended, as soon as
    that is known.
    """

    def __init__(self, redactor: Redactor, limits: Limits) -> None:
        self._redactor = redactor
        self._limits = limits
        self._shown: list[str] = []
        self._thought: list[str] = []
        self._refusal: list[str] = []
        self._size = self._pieces = 0
        self._token_ids: list[int] = []
        self._completion_tokens: int | None = None
        self.finish: str | None = None
        self.prompt_tokens: int | None = None

    def feed(self, data: str | bytes) -> bool:
        """Take in one event; whether it brought text.

        `ServerFault` for what is no such thing or goes beyond a limit, `RequestRefused` for an error of ours.
        """
        event = parsed(data)
        if not isinstance(event, dict):
            what = "no JSON" if event is None else "no JSON object"
            raise ServerFault(f"the server's answer is {what}: {self._redactor.line(data)}")
        if event.get("error"):
            self._raise_error(event["error"], data)
        if (usage := event.get("usage")) is not None:
            self._count(usage)
        choices = event.get("choices")
        if not isinstance(choices, list):
            raise ServerFault(f"the server's answer has no list of choices: {self._redactor.line(data)}")
        for choice in choices:
            if not isinstance(choice, dict):
                raise ServerFault(f"the server's choice is no object: {self._redactor.line(data)}")
            index = choice.get("index")
            if not isinstance(index, int) or index == 0:  # others were not asked for
                return self._take(choice, data)
        return False

    def _count(self, usage: Any) -> None:
        """Note how many tokens there are; counts that are no number at all are taken for unknown."""
        if not isinstance(usage, dict):
            return
        for name, most in (("prompt_tokens", LARGEST), ("completion_tokens", self._limits.pieces)):
            count = usage.get(name)
            if isinstance(count, int):
                if isinstance(count, bool) or not 0 <= count <= most:
                    raise ServerFault(f"the server's {name} is no such number", lasting=True)
                if name == "prompt_tokens":
                    self.prompt_tokens = count
                else:
                    self._completion_tokens = count

    def _take(self, choice: dict[str, Any], data: str | bytes) -> bool:
        said = choice.get("delta") or choice.get("message") or choice
        if not isinstance(said, dict):
            raise ServerFault(f"the server's choice is no object: {self._redactor.line(data)}")
        try:
            shown, thought, refusal = read_content(said)
        except ValueError as error:
            raise ServerFault(f"the server's {error}: {self._redactor.line(data)}") from None
        size = len(shown) + len(thought) + len(refusal)
        if size:
            for text, parts in ((shown, self._shown), (thought, self._thought), (refusal, self._refusal)):
                if text:
                    parts.append(text)
            self._size += size
            self._pieces += 1
            if self._size > self._limits.text or self._pieces > self._limits.pieces:
                raise ServerFault("the server sends more text than was asked for, and was stopped", lasting=True)
        if (ids := choice.get("token_ids")) is not None:
            self._take_ids(ids)
        reason = reason_of(choice.get("finish_reason"))
        # Some servers say "stop" with every event: what tells of trouble stays.
        if reason is not None and (self.finish is None or meaning(self.finish) is Finish.ENDED):
            self.finish = reason
        return size > 0

    def _take_ids(self, ids: Any) -> None:
        if not isinstance(ids, list):
            return
        for token in ids:
            if type(token) is not int or not 0 <= token <= LARGEST:
                raise ServerFault("the server's token_ids are no such numbers")
        self._token_ids += ids
        if len(self._token_ids) > self._limits.tokens:
            raise ServerFault("the server sends more token ids than were asked for, and was stopped", lasting=True)

    def checked(self) -> Answer:
        """The answer itself; `ServerFault` where it ended before the completion did, or is no text."""
        if self.finish is None:
            got = "only a part" if self._pieces else "nothing"
            raise ServerFault(f"the server's answer broke off: {got} came, and no finish reason")
        if meaning(self.finish) is Finish.BROKEN:
            raise ServerFault(f"the server gave up on the request (finish reason {self._quoted_finish})")
        for parts in (self._shown, self._thought, self._refusal):
            if has_half(joined_halves("".join(parts))):
                raise ServerFault("the server's answer holds half a character (a lone surrogate)")
        return self

    @property
    def unknown_finish(self) -> str | None:
        """The finish reason, where nobody knows what it means."""
        unknown = self.finish is not None and meaning(self.finish) is Finish.UNKNOWN
        return self._quoted_finish if unknown else None

    @property
    def _quoted_finish(self) -> str:
        return repr(self._redactor.line(self.finish or "", 40))

    def completion(self, request: Request, *, limit: int, context: int | None, think: tuple[str, str]) -> Completion:
        """The completion that this answer is; ``context`` where that, not max_tokens, set the limit."""
        said = joined_halves(self._text(think))
        text = self._redactor.text(said)
        status, reason = self._ended(limit, context, empty=not text)
        if self._spells_key(text, think):
            text, status, reason = "", Status.ERROR, "the server's answer spells the server's key"
        # Of a stream that lost some, or of a text that lost the key, the ids would not be those of the text.
        whole = text == said and self._completion_tokens in (None, len(self._token_ids))
        return Completion(
            id=request.id,
            token_ids=tuple(self._token_ids) if whole else (),
            text=text,
            status=status,
            reason=reason,
            seed=request.seed,
            tokens=self._completion_tokens,
        )

    def _ended(self, limit: int, context: int | None, *, empty: bool) -> tuple[Status, str | None]:
        """How the answer ended, and what is odd about that."""
        match meaning(self.finish or ""):
            case Finish.CUT:
                full = f"the context of {context} tokens is full"
                return Status.TRUNCATED, full if context else f"the limit of {limit} tokens came before the end"
            case Finish.WITHHELD:
                return Status.ERROR, "the server's content filter withheld the answer"
            case Finish.UNKNOWN | Finish.BROKEN:
                return Status.ERROR, f"unknown finish reason {self._quoted_finish}: the answer may not be whole"
            case Finish.REFUSED:
                return Status.COMPLETE, "the model refused to answer"
            case _ if any(self._refusal):
                return Status.COMPLETE, "the model refused to answer"
            case Finish.TOOL:
                return Status.COMPLETE, f"the server ended with finish reason {self._quoted_finish}"
        return Status.COMPLETE, "the answer is empty" if empty else None

    def _text(self, think: tuple[str, str]) -> str:
        """With the thinking part in its delimiters, where the server has told it apart."""
        shown = "".join(self._shown) or "".join(self._refusal)
        thought = "".join(self._thought)
        if not thought:
            return shown
        ended = self.finish is not None and meaning(self.finish) is Finish.ENDED
        return f"{think[0]}\n{thought}\n{think[1]}\n\n{shown}" if shown or ended else think[0] + thought

    def _spells_key(self, text: str, think: tuple[str, str]) -> bool:
        """Whether taking the thinking apart, which takes delimiters out, would put the key together."""
        if not self._redactor.active or not any(mark in text for mark in think):
            return False
        parts = [part or "" for opened in (False, True) for part in chat.split_thinking(text, *think, opened=opened)]
        return any(self._redactor.text(part) != part for part in parts)

    def _raise_error(self, error: Any, data: str | bytes) -> NoReturn:
        """An error inside an answer: refused for a client's error, else passing."""
        message = error.get("message") if isinstance(error, dict) else error
        code = error.get("code") if isinstance(error, dict) else None
        said = self._redactor.line(message if isinstance(message, str) else data)
        if isinstance(code, int) and 400 <= code < 500 and code not in _PASSING:
            raise RequestRefused(f"the server refused the request: {said}")
        raise ServerFault(f"the server reported an error: {said}", busy=code == 429)


def refuses_for_good(status: int) -> bool:
    """Whether a request with this status will be refused again."""
    return status < 500 and status not in _PASSING


def parsed(data: str | bytes) -> Any:
    """What a JSON text says; ``None`` for what is no JSON, nested beyond measure or holds numbers that are none."""
    try:
        return _JSON.decode(data if isinstance(data, str) else data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_JSON = json.JSONDecoder(parse_constant=_no_number)
