"""Requests to a server that is slow, busy, broken or gone: pacing, waiting, trying again."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2

from innerloop.errors import InputError
from innerloop.rollout.server_protocol import Answer, RequestRefused, ServerFault, quoted

log = logging.getLogger("innerloop.rollout")

_CONNECT = 10.0  # seconds for the connection itself
_LINGER = 5.0  # for the end of the body behind its last event
_LONGEST_WAIT = 3600.0  # what a server may ask for before the run is stopped instead
_LONGEST_BACKOFF = 60.0
_PASSING = (408, 409, 425, 429)  # and everything from 500 on
_IN_A_ROW = 20  # requests that fail for good without one that succeeds, before the run is stopped
_KEEP = "what was finished is kept, and the same command goes on from there"


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How hard to try.

    ``timeout``: seconds without a token until a request counts as hung (waiting for its turn in the server's queue
    included). ``retries``: attempts after the first. ``backoff``: seconds before the first of them, doubled for each
    next one up to a minute, and shortened at random by up to half, so that clients do not come back all at once.
    ``requests_per_minute``: starts at most, 0 for no limit.
    """

    timeout: float = 600.0
    retries: int = 8
    backoff: float = 1.0
    requests_per_minute: float = 0.0


class ServerClient:
    """One server, over one event loop. ``key`` is sent with each request, and never told to anybody else."""

    def __init__(self, client: httpx2.AsyncClient, base: str, patience: Patience, key: str | None) -> None:
        self._client = client
        self._base = base
        self._patience = patience
        self._key = key
        self._jitter = random.Random()  # for waiting times only
        self._free_at = self._paused_until = 0.0
        self.successes = 0
        self._failed_in_a_row = 0

    async def models(self) -> list[dict[str, Any]] | None:
        """What the server lists; ``None`` for a server without such a list."""
        try:
            response = await self._client.get(f"{self._base}/models", timeout=_CONNECT)
        except httpx2.HTTPError as error:
            raise ServerFault(self._hide(f"{type(error).__name__} {error}".strip()), unreachable=True) from error
        if response.status_code >= 400 and response.status_code not in (401, 403):
            return None  # transformers serve fails here where there is no hub cache
        self._check_status(response.status_code, response.headers, response.content)
        try:
            listed = response.json().get("data")
        except (ValueError, AttributeError):
            return None
        return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else None

    async def ask(self, path: str, body: dict[str, Any]) -> Answer:
        """The whole answer to a request, tried again where that may help.

        Raises `RequestRefused` for a request that the server will never take, `ServerFault` for one that failed every
        time, `ConnectionError` where the server is gone for all, `InputError` where the settings are at fault.
        """
        attempt, before, seen = 0, self.successes, self.successes
        while True:
            await self._turn()
            try:
                answer = await self._once(path, body)
            except ServerFault as fault:
                if fault.busy and self.successes != seen:  # the others get through, so will this one
                    attempt, seen = 0, self.successes
                if attempt >= self._patience.retries:
                    await self._give_up(fault, stuck=self.successes == before)
                    raise
                await self._wait(fault, attempt)
                attempt += 1
            else:
                self.successes += 1
                self._failed_in_a_row = 0
                return answer

    async def _once(self, path: str, body: dict[str, Any]) -> Answer:
        answer, seconds = Answer(), self._patience.timeout
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds) as silence:
                async with self._client.stream("POST", self._base + path, json=body) as response:
                    if response.status_code != 200:
                        self._check_status(response.status_code, response.headers, await response.aread())
                    if "event-stream" not in response.headers.get("content-type", ""):
                        answer.feed(await response.aread())
                    else:
                        async for event in httpx2.EventSource(response):
                            if event.data.strip() == "[DONE]":  # read on: only then is the connection used again
                                silence.reschedule(loop.time() + min(seconds, _LINGER))
                                continue
                            answer.feed(event.data)
                            silence.reschedule(loop.time() + seconds)  # a bare keep-alive does not count
        except TimeoutError as error:
            if answer.finish is not None:
                return answer
            raise ServerFault(f"no token came for {seconds:g} s") from error
        except httpx2.HTTPError as error:
            said = self._hide(f"{type(error).__name__} {error}".strip())
            unreachable = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
            raise ServerFault(f"the connection failed: {said}", unreachable=unreachable) from error
        answer.check()
        return answer

    def _check_status(self, status: int, headers: httpx2.Headers, content: bytes) -> None:
        """Raises what a status other than success means."""
        if status < 300:
            return
        said = self._hide(_message(content))
        if status in (401, 403):
            raise InputError(f"the server refuses access ({status}: {said}); check the key (--key-env) and the model")
        if 300 <= status < 400:
            raise InputError(f"the server sends requests on to {headers.get('location')!r}; give that with --server")
        if "insufficient_quota" in said:
            raise InputError(f"the account with the server is used up ({said}); {_KEEP}")
        if status in _PASSING or status >= 500:
            wait = _retry_after(headers)
            raise ServerFault(f"{status}: {said}", wait=wait, busy=status == 429 or wait is not None)
        raise RequestRefused(f"{status}: {said}", missing=status in (404, 405))

    async def _turn(self) -> None:
        """Waits while all have to, and until this request's place in the rate."""
        now = time.monotonic()
        start = max(now, self._free_at, self._paused_until)
        rate = self._patience.requests_per_minute
        self._free_at = start + (60 / rate if rate else 0.0)
        if start > now:
            await asyncio.sleep(start - now)

    async def _wait(self, fault: ServerFault, attempt: int) -> None:
        if fault.wait is not None:
            if fault.wait > _LONGEST_WAIT:
                raise ConnectionError(f"the server asks to wait {fault.wait:.0f} s ({fault}); {_KEEP}")
            self._paused_until = max(self._paused_until, time.monotonic() + fault.wait)
            seconds = fault.wait + self._jitter.uniform(0, min(fault.wait, 1.0))
        else:
            longest = min(self._patience.backoff * 2**attempt, _LONGEST_BACKOFF)
            seconds = longest * self._jitter.uniform(0.5, 1)
        level = logging.DEBUG if attempt == 0 or fault.busy else logging.WARNING
        log.log(level, "%s; trying again in %.1f s", fault, seconds)
        await asyncio.sleep(seconds)

    async def _give_up(self, fault: ServerFault, *, stuck: bool) -> None:
        """`ConnectionError` where it is not this request's own trouble."""
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= _IN_A_ROW:
            raise ConnectionError(f"{_IN_A_ROW} requests in a row failed, the last one with: {fault}; {_KEEP}")
        if stuck and (fault.unreachable or not await self._alive()):
            raise ConnectionError(f"the server at {self._base} does not answer ({fault}); {_KEEP}")

    async def _alive(self) -> bool:
        try:
            await self.models()
        except ServerFault:
            return False
        return True

    def _hide(self, text: str) -> str:
        """Servers quote keys in their complaints."""
        return text.replace(self._key, "•••") if self._key else text


@asynccontextmanager
async def connected(base: str, patience: Patience, *, key: str | None, concurrency: int) -> AsyncIterator[ServerClient]:
    """A client whose connections are closed at the end."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    limits = httpx2.Limits(max_connections=concurrency + 1, max_keepalive_connections=concurrency + 1)
    local = urlsplit(base).hostname in ("localhost", "127.0.0.1", "::1")  # no proxy leads there
    timeout = httpx2.Timeout(None, connect=_CONNECT)  # the rest is watched as a whole
    options: dict[str, Any] = {"headers": headers, "limits": limits, "timeout": timeout, "trust_env": not local}
    # Without a certificate to check, reading all the authorities' would only take time.
    async with httpx2.AsyncClient(**options, verify=not base.startswith("http:")) as client:
        yield ServerClient(client, base, patience, key)


def _retry_after(headers: httpx2.Headers) -> float | None:
    """Seconds that the server asks to wait; the header holds seconds or a date."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        value = headers.get("retry-after")
        if value is None:
            return None
        if value.strip().replace(".", "", 1).isdigit():
            return float(value)
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _message(content: bytes) -> str:
    """What an error answer says."""
    try:
        said = json.loads(content)
    except ValueError:
        return quoted(content)
    error = said.get("error", said.get("detail", said)) if isinstance(said, dict) else said
    message = error.get("message", error) if isinstance(error, dict) else error
    code = error.get("code") if isinstance(error, dict) else None
    return quoted(f"{message} ({code})" if isinstance(code, str) else str(message))
