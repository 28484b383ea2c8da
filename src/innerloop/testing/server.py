"""A server on loopback that says what it was told to say, and fails the way it was told to fail."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer. ``text`` is streamed, a letter an event, unless ``body`` says all of it.

    ``cut``: letters after which the connection is closed. ``hang``: seconds of silence before anything comes, and
    ``keep_alive``: whether empty lines come meanwhile. ``extra`` goes into the choice, ``finish`` is its reason.
    ``usage`` replaces the token counts, which are right by default; ``whole``: not as a stream.

    In place of all that, ``stream`` gives the pieces of an event stream as they are, and ``raw`` everything that is
    written to the connection, the status line included; either may go on for ever.
    """

    text: str = ""
    finish: str | None = "stop"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cut: int | None = None
    hang: float = 0.0
    keep_alive: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    usage: Mapping[str, int] | None = None
    whole: bool = False
    stream: Iterable[bytes] | None = None
    raw: Iterable[bytes] | None = None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request as it came. ``attempt`` counts from 0 for the same body."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    attempt: int
    time: float


Script = Callable[[Asked], Reply]


class ScriptedServer:
    """What ``serving`` gives: ``url``, and in ``asked`` all requests so far.

    ``peak``: most of them at once; ``connections``: how many were opened.
    """

    def __init__(
        self, script: Script, models: Sequence[Mapping[str, Any]] | Reply, count: Callable[[str], int]
    ) -> None:
        self.asked: list[Asked] = []
        self.peak = self.connections = 0
        self.url = ""
        self._script, self._models, self._count = script, models, count
        self._seen: Counter[str] = Counter()
        self._now = 0
        self._lock = threading.Lock()
        self.closing = threading.Event()

    def receive(self, path: str, body: dict[str, Any], headers: Mapping[str, str]) -> Asked:
        """Note a request."""
        with self._lock:
            name = json.dumps([path, body], sort_keys=True)
            asked = Asked(path=path, body=body, headers=dict(headers), attempt=self._seen[name], time=time.monotonic())
            self._seen[name] += 1
            self.asked.append(asked)
            self._now += 1
            self.peak = max(self.peak, self._now)
        return asked

    def finish(self) -> None:
        """Note that a request is over."""
        with self._lock:
            self._now -= 1

    def reply(self, asked: Asked) -> Reply:
        """What the script says."""
        return self._script(asked)

    def listing(self) -> Reply:
        """The models."""
        if isinstance(self._models, Reply):
            return self._models
        return Reply(body=json.dumps({"object": "list", "data": list(self._models)}).encode())

    def events(self, asked: Asked, reply: Reply) -> Iterator[dict[str, Any]]:
        """The answer in pieces, in the form of the path that was asked."""
        chat = asked.path.endswith("/chat/completions")
        piece = "message" if reply.whole else "delta"
        parts = [reply.text] if reply.whole else list(reply.text)
        for letter in parts or [""]:
            choice: dict[str, Any] = {piece: {"content": letter}} if chat else {"text": letter}
            yield {"choices": [{"index": 0, **choice, "finish_reason": None}]}
        last: dict[str, Any] = {piece: {}} if chat else {"text": ""}
        yield {"choices": [{"index": 0, **last, **reply.extra, "finish_reason": reply.finish}]}
        prompt = asked.body.get("prompt", "")
        counted = len(prompt) if isinstance(prompt, list) else self._count(prompt)
        usage = {"prompt_tokens": counted, "completion_tokens": len(reply.text)}
        yield {"choices": [], "usage": usage if reply.usage is None else dict(reply.usage)}


@contextmanager
def serving(
    script: Script | str,
    *,
    models: Sequence[Mapping[str, Any]] | Reply = ({"id": "scripted"},),
    count: Callable[[str], int] = lambda text: len(text.encode()),
) -> Iterator[ScriptedServer]:
    """A scripted server on a free port of the loopback interface while the block runs.

    ``script`` makes a `Reply` of each request, or is a text that every answer says. ``models`` is what it lists,
    or how it answers when it is asked for that, ``count`` how many tokens it finds in a text.
    """
    said = script if callable(script) else lambda _: Reply(text=str(script))
    server = ScriptedServer(said, models, count)
    listener = _Listener(("127.0.0.1", 0), _handler(server))
    server.url = f"http://127.0.0.1:{listener.server_address[1]}/v1"
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        listener.shutdown()
        listener.server_close()
        thread.join()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is nothing to talk about; all else is told as ever."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def _handler(server: ScriptedServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            """A new connection."""
            server.connections += 1
            super().setup()

        def log_message(self, format: str, *args: Any) -> None:  # the base's name
            """Says nothing."""

        def do_GET(self) -> None:
            """The list of models."""
            asked = Asked(path=self.path, body={}, headers={}, attempt=0, time=time.monotonic())
            with suppress(BrokenPipeError, ConnectionResetError):
                self._answer(asked, server.listing())

        def do_POST(self) -> None:
            """A completion."""
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked = server.receive(self.path, body, {name.lower(): value for name, value in self.headers.items()})
            with suppress(BrokenPipeError, ConnectionResetError):  # the client has had enough
                try:
                    reply = server.reply(asked)
                    if not server.closing.wait(reply.hang if not reply.keep_alive else 0):
                        self._answer(asked, reply)
                    self.close_connection |= server.closing.is_set()
                finally:
                    server.finish()

        def _answer(self, asked: Asked, reply: Reply) -> None:
            if reply.raw is not None:
                self.close_connection = True
                return self._pass_on(reply.raw, self._write)
            if reply.status != 200 or reply.body is not None:
                return self._send(reply.status, reply.headers, reply.body or b"")
            if reply.whole:
                pieces = list(server.events(asked, reply))
                joined = {**pieces[-1], "choices": [{**pieces[0]["choices"][0], "finish_reason": reply.finish}]}
                joined["choices"][0] |= dict(reply.extra)
                return self._send(200, reply.headers, json.dumps(joined).encode())
            self.send_response(200)
            for name, value in {"content-type": "text/event-stream", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            if reply.stream is not None:
                self._pass_on(reply.stream, self._chunk)
                return self._chunk(b"")
            until = time.monotonic() + reply.hang
            while reply.keep_alive and time.monotonic() < until and not server.closing.wait(0.02):
                self._chunk(b": still here\n\n")
            for i, event in enumerate(server.events(asked, reply)):
                if i == reply.cut:
                    self.close_connection = True
                    return None  # without the chunk that ends the body
                self._chunk(b"data: " + json.dumps(event).encode() + b"\n\n")
            self._chunk(b"data: [DONE]\n\n")
            return self._chunk(b"")

        def _pass_on(self, pieces: Iterable[bytes], write: Callable[[bytes], None]) -> None:
            for piece in pieces:
                if server.closing.is_set():
                    return
                write(piece)

        def _chunk(self, content: bytes) -> None:
            self._write(f"{len(content):x}\r\n".encode() + content + b"\r\n")

        def _write(self, content: bytes) -> None:
            self.wfile.write(content)
            self.wfile.flush()

        def _send(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in {"content-type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    return Handler
