"""Requests to a server that is slow, busy, broken or gone: pacing, waiting, trying again."""

from __future__ import annotations

import asyncio
import logging
import random
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

import httpx2

from innerloop.errors import InputError
from innerloop.rollout.server_connection import Reader, http_client
from innerloop.rollout.server_limits import (
    AFTER_DONE_BYTES,
    AFTER_DONE_SECONDS,
    ERROR_BYTES,
    LISTING_BYTES,
    LISTING_SECONDS,
    Limits,
)
from innerloop.rollout.server_protocol import (
    LARGEST,
    AllRefused,
    Answer,
    RequestRefused,
    ServerFault,
    parsed,
    refuses_for_good,
)
from innerloop.rollout.server_redact import Redactor

log = logging.getLogger("innerloop.rollout")

_LONGEST_WAIT = 3600.0  # what a server may ask for before the run is stopped instead
_LONGEST_BACKOFF = 60.0
_ALONE = 3  # requests in a row that are refused as all others would be, before the run is stopped
_NAME = 500  # characters of a model's name
_IN_A_ROW = 20  # requests that fail for good without one that succeeds, before the run is stopped
_KEEP = "what was finished is kept, and the same command goes on from there"


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How hard to try.

    ``timeout``: seconds without a token until a request counts as hung (waiting for its turn in the server's queue
    included); how long a whole answer may take follows from it (`Limits`). ``retries``: attempts after the first.
    ``backoff``: seconds before the first of them, doubled for each next one up to a minute, and shortened at random by
    up to half, so that clients do not come back all at once. ``requests_per_minute``: starts at most, 0 for no limit.
    """

    timeout: float = 600.0
    retries: int = 8
    backoff: float = 1.0
    requests_per_minute: float = 0.0


class ServerClient:
    """One server, over one event loop. Its key is sent with each request, and ``redactor`` keeps it from being told."""

    def __init__(
        self, client: httpx2.AsyncClient, base: str, patience: Patience, redactor: Redactor, *, most_refused: int
    ) -> None:
        self._client = client
        self._base = base
        self._patience = patience
        self.redactor = redactor
        self._most_refused = most_refused
        self._jitter = random.Random()  # for waiting times only
        self._free_at = self._paused_until = 0.0
        self.successes = 0
        self._failed_in_a_row = self._refused_in_a_row = 0

    async def models(self) -> dict[str, int | None] | None:
        """The models that the server lists, with the context of each; ``None`` for a server without such a list."""
        try:
            async with asyncio.timeout(min(LISTING_SECONDS, self._patience.timeout)):
                async with self._client.stream("GET", f"{self._base}/models") as response:
                    status, headers = response.status_code, response.headers
                    content = await Reader(response, LISTING_BYTES).whole()
        except (TimeoutError, httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise ServerFault(self._failure(error), unreachable=True) from None
        if status in (401, 403):
            self._check_status(status, headers, content)
        if status != 200:
            return None  # transformers serve fails here where there is no hub cache
        listed = parsed(content)
        entries = listed.get("data") if isinstance(listed, dict) else None
        if not isinstance(entries, list):
            return None
        found: dict[str, int | None] = {}
        for entry in entries:
            if isinstance(entry, dict) and isinstance(entry.get("id"), str):
                context = entry.get("max_model_len")
                known = type(context) is int and 0 < context <= LARGEST
                found[self.redactor.line(entry["id"], _NAME)] = context if known else None
        return found

    async def ask(self, path: str, body: dict[str, Any], *, tokens: int, prompt: int) -> Answer:
        """The whole answer to a request for ``tokens`` tokens after ``prompt`` ones, tried again where that may help.

        Raises `RequestRefused` for a request that the server will never take, `ServerFault` for one that failed every
        time, `ConnectionError` where the server is gone for all, `InputError` where the settings are at fault.
        """
        limits = Limits.of(tokens=tokens, prompt=prompt, timeout=self._patience.timeout)
        attempt, before, seen = 0, self.successes, self.successes
        while True:
            await self._turn()
            try:
                answer = await self._once(path, body, limits)
            except ServerFault as fault:
                if fault.busy and self.successes != seen:  # the others get through, so will this one
                    attempt, seen = 0, self.successes
                if fault.lasting or attempt >= self._patience.retries:
                    await self._give_up(fault, stuck=self.successes == before)
                    raise
                await self._wait(fault, attempt)
                attempt += 1
            except AllRefused as refusal:
                self._stop_unless_alone(InputError(str(refusal)))
                raise
            else:
                self.successes += 1
                self._failed_in_a_row = self._refused_in_a_row = 0
                return answer

    async def _once(self, path: str, body: dict[str, Any], limits: Limits) -> Answer:
        try:
            return await self._answer(path, body, limits)
        except (ServerFault, RequestRefused):
            raise
        except httpx2.HTTPError as error:
            unreachable = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
            raise ServerFault(f"the connection failed: {self._failure(error)}", unreachable=unreachable) from None
        except Exception as error:  # noqa: BLE001  # whatever one answer holds is at worst this one's trouble
            log.debug("reading an answer failed:\n%s", "".join(traceback.format_tb(error.__traceback__)))
            raise ServerFault(f"the answer cannot be read: {self._failure(error)}", lasting=True) from None

    async def _answer(self, path: str, body: dict[str, Any], limits: Limits) -> Answer:
        """One attempt. Its deadline moves on with every token, up to the end of the request's time."""
        answer = Answer(self.redactor, limits)
        loop, seconds, done = asyncio.get_running_loop(), self._patience.timeout, False
        last = loop.time() + limits.seconds
        try:
            async with asyncio.timeout(seconds) as deadline:
                async with self._client.stream("POST", self._base + path, json=body) as response:
                    if not response.is_success:
                        said = await Reader(response, ERROR_BYTES).beginning()
                        self._check_status(response.status_code, response.headers, said)
                    reader = Reader(response, limits.wire)
                    if "event-stream" not in response.headers.get("content-type", ""):
                        answer.feed(await reader.whole())
                        return answer.checked()
                    async with aclosing(reader.events(limits.event)) as events:
                        async for event in events:
                            if done:
                                continue
                            if event.strip() == "[DONE]":  # read on: only then is the connection used again
                                done = True
                                reader.end_within(AFTER_DONE_BYTES)
                                deadline.reschedule(min(last, loop.time() + min(seconds, AFTER_DONE_SECONDS)))
                            elif answer.feed(event) or answer.finish is None:  # a bare keep-alive does not count
                                deadline.reschedule(min(last, loop.time() + seconds))
        except TimeoutError:
            if not done and answer.finish is None:  # else all that was missing was the end of the stream
                if loop.time() >= last:
                    longest = f"{limits.seconds:.4g} s in all (a longer --timeout allows more)"
                    raise ServerFault(f"the answer took more than {longest}", lasting=True) from None
                raise ServerFault(f"no token came for {seconds:g} s") from None
        except httpx2.HTTPError:
            if not done:
                raise
        return answer.checked()

    def _failure(self, error: Exception) -> str:
        """What went wrong with a connection, in one line; errors quote what the server sent."""
        if isinstance(error, TimeoutError):
            return "no whole answer came in time"
        said = str(error).strip()
        return type(error).__name__ + (f" {self.redactor.line(said)}" if said else "")

    def _check_status(self, status: int, headers: httpx2.Headers, content: bytes) -> NoReturn:
        """Raises what a status other than success means."""
        said = self.redactor.line(_message(content))
        if status in (401, 403):
            raise AllRefused(f"the server refuses access ({status}: {said}); check the key (--key-env) and the model")
        if "insufficient_quota" in said:
            raise AllRefused(f"the account with the server is used up ({said}); {_KEEP}")
        if status < 200 or not refuses_for_good(status):
            wait = _retry_after(headers)
            raise ServerFault(f"{status}: {said}", wait=wait, busy=status == 429 or wait is not None)
        raise RequestRefused(f"{status}: {said}", missing=status in (404, 405))

    def _stop_unless_alone(self, error: Exception) -> None:
        """Raises what stops the run, unless one request alone is affected so far."""
        self._refused_in_a_row += 1
        if self._refused_in_a_row >= self._most_refused:
            raise error from None

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
                self._stop_unless_alone(
                    ConnectionError(f"the server asks to wait {fault.wait:.0f} s ({fault}); {_KEEP}")
                )
                raise fault
            others = min(fault.wait, self._patience.timeout)  # one answer does not hold up all others for longer
            self._paused_until = max(self._paused_until, time.monotonic() + others)
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
        except RequestRefused:
            return True  # it says so itself
        except ServerFault:
            return False
        return True


@asynccontextmanager
async def connected(
    base: str, patience: Patience, *, key: str | None, concurrency: int, requests: int = 1
) -> AsyncIterator[ServerClient]:
    """A client for ``requests`` requests, whose connections are closed at the end."""
    redactor = Redactor(key)
    async with http_client(base, key, redactor, concurrency) as client:
        yield ServerClient(client, base, patience, redactor, most_refused=min(_ALONE, requests))


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
    except (ValueError, TypeError, ArithmeticError):  # a date may be none, or lie outside the calendar
        return None


def _message(content: bytes) -> str | bytes:
    """What an error answer says."""
    said = parsed(content)
    error = said.get("error", said.get("detail", said)) if isinstance(said, dict) else said
    message = error.get("message", error) if isinstance(error, dict) else error
    code = error.get("code") if isinstance(error, dict) else None
    if not isinstance(message, str):
        return content
    return f"{message} ({code})" if isinstance(code, str) else message
