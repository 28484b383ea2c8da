"""The HTTP under a server's client: nothing is followed, stored, unpacked or read without end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import urlsplit

import httpx2

from innerloop.rollout.server_protocol import AllRefused, ServerFault
from innerloop.rollout.server_redact import Redactor

_CONNECT = 10.0  # seconds for the connection itself


@asynccontextmanager
async def http_client(
    base: str, key: str | None, redactor: Redactor, concurrency: int
) -> AsyncIterator[httpx2.AsyncClient]:
    """A client that sends the key to ``base`` alone."""

    async def check(response: httpx2.Response) -> None:
        """Before the client does anything about what the headers say."""
        if 300 <= response.status_code < 400:
            place = redactor.line(response.headers.get("location", ""))
            raise AllRefused(f"the server sends requests on to {place!r}; give that with --server")
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise ServerFault(f"the server's answer is compressed, unasked ({redactor.line(encoding, 40)})")

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    local = urlsplit(base).hostname in ("localhost", "127.0.0.1", "::1")  # no proxy leads there
    options: dict[str, Any] = {
        "headers": headers | {"Accept-Encoding": "identity"},
        "limits": httpx2.Limits(max_connections=concurrency + 1, max_keepalive_connections=concurrency + 1),
        "timeout": httpx2.Timeout(None, connect=_CONNECT),  # the rest is watched as a whole
        "trust_env": not local,
        "cookies": _NoCookies(),
        "event_hooks": {"response": [check]},
        "verify": not base.startswith("http:"),  # without a certificate to check, reading the authorities' takes time
    }
    with redactor.over_logs():
        async with httpx2.AsyncClient(**options) as client:
            yield client


class _NoCookies(CookieJar):
    """Keeps none: nothing that a server sets is sent back, and nothing of it is parsed."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Leaves them where they are."""


class Reader:
    """The body of a response, no more than ``most`` bytes of it."""

    def __init__(self, response: httpx2.Response, most: int) -> None:
        self._response = response
        self._left = most
        self._ending = False

    async def _chunks(self) -> AsyncIterator[bytes]:
        async with aclosing(self._response.aiter_raw()) as chunks:
            async for chunk in chunks:
                self._left -= len(chunk)
                if self._left < 0:
                    if self._ending:
                        return
                    raise ServerFault("the server sends more than was asked for, and was stopped", lasting=True)
                yield chunk

    def end_within(self, most: int) -> None:
        """Stop after ``most`` more bytes, without complaint."""
        self._left, self._ending = most, True

    async def whole(self) -> bytes:
        """All of it."""
        return b"".join([chunk async for chunk in self._chunks()])

    async def beginning(self) -> bytes:
        """As much of it as may be read."""
        self._ending = True
        return await self.whole()

    async def events(self, most: int) -> AsyncGenerator[str]:
        """The data of its events, each of ``most`` bytes at most. They are UTF-8, whatever the server says of them."""
        headers = {"content-type": "text/event-stream; charset=utf-8-sig"}
        plain = httpx2.Response(200, headers=headers, content=self._chunks(), request=self._response.request)
        try:
            async for event in httpx2.EventSource(plain, max_event_size=most):
                yield event.data
        except httpx2.SSEError:
            if not self._ending:
                raise ServerFault("the server sends an event longer than the answer can be", lasting=True) from None
