"""What a server says: an answer that can be kept, or one of the two errors; and in neither of them the key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any

import httpx2

from innerloop.rollout.engine import Completion, Request
from innerloop.rollout.sample import Planned, to_trajectory
from innerloop.rollout.server_connection import Reader
from innerloop.rollout.server_engine import ChatSpeaker
from innerloop.rollout.server_limits import Limits
from innerloop.rollout.server_protocol import Answer, RequestRefused, ServerFault
from innerloop.rollout.server_redact import Redactor
from innerloop.schema import Mode, Trajectory

INSTRUMENT = (
    "innerloop.rollout.server_connection",
    "innerloop.rollout.server_content",
    "innerloop.rollout.server_finish",
    "innerloop.rollout.server_protocol",
    "innerloop.rollout.server_redact",
)
KEY = "sk-Key/q7Zx"
_REDACTOR = Redactor(KEY)
_LIMITS = Limits.of(tokens=4, prompt=3, timeout=1.0)
_REQUEST = Request(id="r", prompt=(1,), seed=7)
_PLANNED = Planned(request=_REQUEST, question_id="q", mode=Mode.PLAIN, sample=0, opened=False)
_SPEAKER = ChatSpeaker()


def one(data: bytes) -> None:
    """The bytes as lines that are an event each, as one whole answer, and as the body of a stream."""
    _check(data.split(b"\n"))
    _check([data])
    _check([data.decode(errors="replace")])
    try:
        events = _driven(_streamed(data))
    except ServerFault as fault:
        _check_words(str(fault))
    else:
        _check(events)
    _check_words(_REDACTOR.line(data), _REDACTOR.text(data.decode(errors="surrogateescape")))


def _check(events: Iterable[str | bytes]) -> None:
    answer = Answer(_REDACTOR, _LIMITS)
    try:
        for event in events:
            answer.feed(event)
        completion = answer.checked().completion(_REQUEST, limit=4, context=None, think=("<think>", "</think>"))
    except (ServerFault, RequestRefused) as error:
        _check_words(str(error))
    else:
        _check_words(answer.unknown_finish or "")
        _check_completion(completion)


def _check_completion(completion: Completion) -> None:
    trajectory = to_trajectory(completion, _PLANNED, _SPEAKER, "model")
    _check_words(completion.text, completion.reason or "", trajectory.text, trajectory.final or "")
    assert completion.tokens is None or 0 <= completion.tokens <= _LIMITS.pieces
    assert all(0 <= token < 2**31 for token in completion.token_ids)
    assert len(completion.text) <= _LIMITS.text + 100
    Trajectory.to_table([trajectory])


def _check_words(*texts: str) -> None:
    for text in texts:
        text.encode()
        assert KEY.casefold() not in text.casefold()


async def _streamed(data: bytes) -> list[str]:
    async def body() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 100):
            yield data[start : start + 100]

    response = httpx2.Response(200, content=body(), request=httpx2.Request("POST", "http://server"))
    return [event async for event in Reader(response, 2000).events(1000)]


def _driven(work: Coroutine[Any, Any, list[str]]) -> list[str]:
    """What a coroutine gives that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError("it waits")
