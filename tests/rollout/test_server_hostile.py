"""A server that does whatever it likes with single requests, through the command: each is one error at most.

One run puts every kind of trouble to the client, between requests that are answered well.
"""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import logging
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from innerloop import InputError, ReportSettings, RolloutSettings, report, rollout
from innerloop.schema import Status, Trajectory
from innerloop.store import Run
from innerloop.testing import Asked, Reply, serving

pytestmark = pytest.mark.model  # servers: second tier

KEY = "sk-SECRET-q7Zx2Wv9Lm4Tb8Rn"
TIMEOUT = 60.0  # long: on a busy machine, too, only what the tests are about fails
BRIEF = 2.0
HINTS = "endless-hints"
TOKENS = 2
OK = b"HTTP/1.1 200 OK\r\n"
JSON = OK + b"Content-Type: application/json\r\n"


def event(said: Any) -> bytes:
    return b"data: " + (said if isinstance(said, bytes) else json.dumps(said).encode()) + b"\n\n"


def told(text: str, finish: str | None = None, **more: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}], **more})


GOOD = told("The answer is 4", "stop")
DONE = event(b"[DONE]")
ANSWER = b'{"choices": [{"message": {"content": "The answer is 4"}, "finish_reason": "stop"}]}'


def stream(*pieces: bytes, headers: dict[str, str] | None = None) -> Callable[[], Reply]:
    return lambda: Reply(stream=pieces, headers=headers or {})


def raw(*pieces: bytes) -> Callable[[], Reply]:
    return lambda: Reply(raw=pieces)


def said(body: bytes, status: int = 200, **headers: str) -> Callable[[], Reply]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda: Reply(body=body, status=status, headers=named)


def drip(piece: bytes, pause: float) -> Iterator[bytes]:
    while True:
        yield piece
        time.sleep(pause)


def blanks() -> Iterator[bytes]:
    """A megabyte of spaces again and again, packed."""
    yield JSON + b"Content-Encoding: gzip\r\n\r\n"
    yield from itertools.repeat(gzip.compress(b" " * 2**20))


def error(message: str, **more: Any) -> bytes:
    return json.dumps({"error": {"message": message, **more}}).encode()


BROKE = "the server's answer broke off"
TOO_LONG = "the server sends"
FINE = "The answer is 4"

# What is answered, and the beginning of the reason; FINE for what is a good answer all the same.
TROUBLE: dict[str, tuple[Callable[[], Reply], str]] = {
    # What an answer holds
    "half": (said(ANSWER.replace(b"4", b"4\\ud83d")), "the server's answer holds half a character"),
    "halves": (stream(told("The answer is 4 \ud83d"), told("\ude00", "stop"), DONE), FINE),
    "deep": (stream(event(b"[" * 900), DONE), "the server's answer is no JSON"),
    "deeper": (said(b"[" * 50_000), "the server's answer is no JSON"),
    "deep-refusal": (said(b'{"error":' * 5_000, 400), '400: {"error":{"error"'),
    "count-negative": (stream(told("4", "stop", usage={"completion_tokens": -7}), DONE), "the server's completion_tok"),
    "count-huge": (stream(told("4", "stop", usage={"completion_tokens": 10**30}), DONE), "the server's completion_tok"),
    "count-large": (stream(told("4", "stop", usage={"completion_tokens": 2 * 10**9}), DONE), "the server's completion"),
    "count-bool": (stream(told("4", "stop", usage={"completion_tokens": True}), DONE), "the server's completion_token"),
    "ids": (
        said(b'{"choices": [{"text": "4", "token_ids": [-4], "finish_reason": "stop"}]}'),
        "the server's token_ids are no such numbers",
    ),
    "bytes": (stream(bytes(range(256)) * 50), BROKE),
    "not-utf-8": (said(ANSWER.replace(b"4", b"\xff")), "the server's answer is no JSON"),
    "control": (stream(told("The answer is 4\x00\x1b[31m\u202e", "stop"), DONE), FINE),
    "after-done": (lambda: Reply(stream=itertools.chain([GOOD, DONE], itertools.repeat(told("No: 5")))), FINE),
    "cut-after-done": (raw(OK + b"Content-Type: text/event-stream\r\nContent-Length: 999\r\n\r\n", GOOD + DONE), FINE),
    "done-alone": (stream(DONE), BROKE),
    "list-as-object": (stream(event({"choices": {"0": {}}}), DONE), "the server's answer has no list of choices"),
    "odd-finish": (stream(told(FINE, f"r {KEY}"), DONE), "unknown finish reason 'r •••'"),
    # Headers and framing
    "redirect": (said(b"", 307, location=f"http://127.0.0.1:9/?k={KEY}"), "the server sends requests on to 'http"),
    "redirect-odd": (said(b"", 302, location="http://[::1:x%zz"), "the server sends requests on to 'http"),
    "charset": (stream(GOOD, DONE, headers={"content-type": "text/event-stream; charset=zlib"}), FINE),
    "charset-json": (said(ANSWER, content_type="application/json; charset=utf-16"), FINE),
    "encoding-unknown": (said(ANSWER, content_encoding="smoke"), "the server's answer is compressed, unasked (smoke)"),
    "encoding-refusal": (said(b"zip", 400, content_encoding="br"), "the server's answer is compressed, unasked (br)"),
    "length-too-long": (raw(JSON + b"Content-Length: 99999\r\n\r\n" + ANSWER), "the connection failed: RemoteProtocol"),
    "length-too-short": (raw(JSON + b"Content-Length: 9\r\n\r\n" + ANSWER), "the server's answer is no JSON"),
    "length-none": (raw(JSON + b"Content-Length: -1\r\n\r\n" + ANSWER), "the connection failed: RemoteProtocolError"),
    "chunks": (raw(JSON + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n" + ANSWER), "the connection failed: RemoteProto"),
    "no-http": (raw(b"\x00\x01\x02" * 100), "the connection failed: RemoteProtocolError"),
    "nothing": (raw(b""), "the connection failed: RemoteProtocolError"),
    "upgrade": (
        raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
        "the connection failed: RemoteProtocolError",
    ),
    "no-content": (raw(b"HTTP/1.1 204 No Content\r\n\r\n"), "the server's answer is no JSON"),
    "cookies": (said(ANSWER, set_cookie=f"k={KEY}; expires={'9' * 5000}"), FINE),
    "wait-nan": (said(b"busy", 429, retry_after_ms="nan"), "429: busy"),
    "wait-negative": (said(b"busy", 503, retry_after="-3600"), "503: busy"),
    "wait-in-the-year-1": (said(b"busy", 503, retry_after="Mon, 01 Jan 0001 00:00:00 -2359"), "503: busy"),
    "wait-odd-digits": (said(b"busy", 503, retry_after="\xb2"), "503: busy"),
    "wait-for-ever": (said(b"busy", 503, retry_after="9" * 400), "503: busy"),
    "refused": (said(b"who are you", 403), "the server refuses access (403: who are you)"),
    # Without end
    "endless": (lambda: Reply(stream=itertools.repeat(told("x" * 1000) * 20)), TOO_LONG),
    "endless-thoughts": (
        lambda: Reply(stream=itertools.repeat(event({"choices": [{"delta": {"reasoning": "x" * 1000}}]}))),
        TOO_LONG,
    ),
    "endless-line": (lambda: Reply(stream=itertools.chain([b"data: "], itertools.repeat(b"x" * 2**20))), TOO_LONG),
    "endless-lines": (lambda: Reply(stream=itertools.repeat(b"data: x\n" * 1000)), TOO_LONG),
    "endless-comments": (lambda: Reply(stream=itertools.repeat(b": " + b"x" * 10_000 + b"\n\n")), TOO_LONG),
    "endless-body": (lambda: Reply(raw=itertools.chain([JSON + b"\r\n"], itertools.repeat(b" " * 2**20))), TOO_LONG),
    "endless-refusal": (
        lambda: Reply(raw=itertools.chain([b"HTTP/1.1 400 Bad\r\n\r\n"], itertools.repeat(b"x" * 2**20))),
        "400: xxxx",
    ),
    "endless-headers": (
        lambda: Reply(raw=itertools.chain([OK], itertools.repeat(b"X: " + b"a" * 999 + b"\r\n"))),
        "the",
    ),
    "bomb": (lambda: Reply(raw=blanks()), "the server's answer is compressed, unasked (gzip)"),
    # The key
    "key-stream-refused": (stream(event(error(f"bad {KEY}", code=400))), "the server refused the request: bad •••"),
    "key-stream-error": (stream(event(error(f"bad {KEY}", code=500))), "the server reported an error: bad •••"),
    "key-no-json": (
        stream(event(f"Authorization: {KEY}".encode())),
        "the server's answer is no JSON: Authorization: •",
    ),
    "key-no-choices": (said(json.dumps({"authorization": KEY}).encode()), "the server's answer has no list of choices"),
    "key-at-the-cut": (said(error("x" * 180 + KEY), 400), "400: xxx"),
    "key-escaped": (said(error(KEY).replace(b"S", b"\\u0053"), 400), "400: •••"),
    "key-escaped-twice": (said(b"{" + error(KEY).replace(b"S", b"\\u0053"), 400), '400: {{"error": {"message": "•••"'),
    "key-basic": (said(base64.b64encode(f"Basic :{KEY}".encode()), 422), "422: QmFzaWMg"),
    "key-in-headers": (
        raw(b"HTTP/1.1 404 " + KEY.encode() + b"\r\nX: " + KEY.encode() + b"\r\n\r\n"),
        "404: (nothing)",
    ),
    "key-no-header": (raw(OK + b"\x01" + KEY.encode() + b"\r\n\r\n"), "the connection failed: RemoteProtocolError"),
    "key-in-encoding": (said(b"", 200, content_encoding=KEY), "the server's answer is compressed, unasked (•••)"),
    "key-said": (stream(told(f"{FINE} {KEY[:9]}"), told(f"{KEY[9:]}.", "stop"), DONE), FINE),
}

# What only time ends, with a short timeout.
SLOW: dict[str, tuple[Callable[[], Reply], str]] = {
    "drip": (lambda: Reply(stream=drip(told("t"), 0.05)), "the answer took more than 3 s in all (a longer --timeout"),
    "drip-comments": (lambda: Reply(stream=drip(b": ping\n\n", 0.05)), "no token came for 2 s"),
    "drip-headers": (lambda: Reply(raw=itertools.chain([OK], drip(b"X", 0.05))), "no token came for 2 s"),
    "drip-body": (lambda: Reply(raw=itertools.chain([JSON + b"\r\n"], drip(b" ", 0.05))), "no token came for 2 s"),
    "drip-after-finish": (lambda: Reply(stream=itertools.chain([GOOD], drip(told(""), 0.05))), FINE),
    HINTS: (
        lambda: Reply(raw=itertools.repeat(b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" * 9)),
        "no token came",
    ),
}


@dataclass
class Outcome:
    """The run folder, what it holds, and what was written elsewhere. ``pieces``: how many each endless reply gave."""

    path: Path
    found: dict[str, Trajectory]
    seconds: float
    settings: RolloutSettings
    pieces: Counter[str]
    log: str = ""


def counted(name: str, reply: Reply, pieces: Counter[str]) -> Reply:
    """The reply, with a count of the bytes that were taken of it."""

    def counting(given: Any) -> Iterator[bytes]:
        for piece in given:
            pieces[name] += len(piece)
            yield piece

    if reply.stream is not None:
        return Reply(stream=counting(reply.stream), headers=reply.headers)
    return Reply(raw=counting(reply.raw)) if reply.raw is not None else reply


def run_of(folder: Path, names: dict[str, tuple[Callable[[], Reply], str]], timeout: float) -> Outcome:
    """One run with all the trouble, and a good question after each bad one."""
    questions = folder / "q.jsonl"
    ids = [f"{kind}{name}" for name in names for kind in ("", "good-")]
    questions.write_text("".join(json.dumps({"id": name, "question": name, "answer": "4"}) + "\n" for name in ids))
    pieces: Counter[str] = Counter()

    def script(asked: Asked) -> Reply:
        name = asked.body["messages"][0]["content"].partition("\n")[0]
        return counted(name, names[name][0](), pieces) if name in names else Reply(text="4")

    with serving(script) as server:
        options: dict[str, Any] = {"engine": "server", "server": server.url, "model": "scripted", "api": "chat"}
        limits: dict[str, Any] = {"max_tokens": TOKENS, "timeout": timeout, "retries": 1, "concurrency": 12, "top_k": 0}
        settings = RolloutSettings(**options, **limits, questions=str(questions), out=folder / "R")
        begun = time.monotonic()
        rollout(settings, command=["innerloop", "rollout"])
        seconds = time.monotonic() - begun
    found = {t.question_id: t for t in Run.open(folder / "R").trajectories()}
    return Outcome(folder / "R", found, seconds, settings, pieces)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """All the trouble at once, with a page made of it and everything that was logged at any level."""
    folder = tmp_path_factory.mktemp("hostile")
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INNERLOOP_API_KEY", KEY)
        outcome = run_of(folder, TROUBLE, TIMEOUT)
        report(ReportSettings(folder / "R"))
    root.removeHandler(handler)
    root.setLevel(before)
    outcome.log = "\n".join(lines)
    return outcome


def check(got: Trajectory, expected: str) -> None:
    if expected is FINE:
        assert (got.status, got.reason) == (Status.COMPLETE, None)
        assert got.text.startswith(FINE)
    else:
        assert got.status is Status.ERROR
        assert (got.reason or "").startswith(expected), got.reason
        assert len(got.reason or "") < 320


@pytest.mark.parametrize("name", TROUBLE)
def test_one_bad_answer_is_one_error_at_most(outcome: Outcome, name: str) -> None:
    check(outcome.found[name], TROUBLE[name][1])


@pytest.mark.parametrize("names", [[name for name in SLOW if name != HINTS], [HINTS]], ids=["drip", "hints"])
def test_what_only_time_ends_is_ended(names: list[str], tmp_path: Path) -> None:
    outcome = run_of(tmp_path, {name: SLOW[name] for name in names}, BRIEF)
    for name in names:
        check(outcome.found[name], SLOW[name][1])
    assert outcome.seconds < 60, "of ten minutes and more that it would take"


def test_all_others_are_kept(outcome: Outcome) -> None:
    good = {name: got for name, got in outcome.found.items() if name.startswith("good-")}
    assert len(good) == len(TROUBLE)
    assert all((got.status, got.text, got.outcome) == (Status.COMPLETE, "4", "right") for got in good.values())


def test_an_emoji_in_two_halves_is_whole(outcome: Outcome) -> None:
    assert outcome.found["halves"].text == "The answer is 4 😀"


def test_time_and_bytes_are_bounded(outcome: Outcome) -> None:
    assert outcome.seconds < 60
    assert max(outcome.pieces.values()) < 20 * 2**20, "two attempts, with what the sockets hold"


def test_the_key_is_nowhere(outcome: Outcome) -> None:
    """Not in the run folder, nor on its page, nor in any log at any level."""
    written = [file for file in outcome.path.rglob("*") if file.is_file()]
    assert any(file.suffix == ".html" for file in written)
    for piece in ("SECRET", KEY[10:24], base64.b64encode(f"Basic :{KEY}".encode()).decode()[12:40]):
        for file in written:
            content = file.read_bytes().lower()
            assert piece.lower().encode() not in content, file
            assert piece[::-1].lower().encode() not in content
        assert piece.lower() not in outcome.log.lower()
        for got in outcome.found.values():
            assert piece.lower() not in f"{got.text} {got.final} {got.answer} {got.reason} {got.model}".lower()


def test_the_same_command_goes_on(outcome: Outcome) -> None:
    """From the same folder, with a server that has come to its senses; only what failed is asked for again."""
    failed = sum(got.status is Status.ERROR for got in outcome.found.values())
    with serving("4") as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("INNERLOOP_API_KEY", KEY)
        again = rollout(replace(outcome.settings, server=server.url))
    assert again.new_trajectories == failed
    assert all(t.status is Status.COMPLETE for t in Run.open(outcome.path).trajectories())


# The list of models, which every run begins with


@pytest.mark.parametrize(
    ("models", "reason"),
    [
        (lambda: Reply(raw=itertools.chain([JSON + b"\r\n"], drip(b" ", 0.05))), "no whole answer came in time"),
        (lambda: Reply(raw=itertools.chain([JSON + b"\r\n"], itertools.repeat(b" " * 2**20))), "sends more than was"),
        (lambda: Reply(raw=blanks()), "compressed, unasked"),
        (lambda: Reply(raw=itertools.repeat(b"HTTP/1.1 103 Hints\r\n\r\n")), "no whole answer came in time"),
        (said(b"", 302, location=f"http://127.0.0.1:9/{KEY}"), "sends requests on to 'http://127.0.0.1:9/•••'"),
        (said(f"who is {KEY}".encode(), 401), "refuses access (401: who is •••)"),
        (raw(OK + b"\x01" + KEY.encode() + b"\r\n\r\n"), "is the server up and its address right"),
        (said(json.dumps({"data": [{"id": f"{KEY}-{i}"} for i in range(9)]}).encode()), "the server has no model"),
    ],
    ids=["drip", "endless", "bomb", "hints", "redirect", "refused", "no-http", "key"],
)
def test_a_bad_list_of_models_is_one_line(models: Callable[[], Reply], reason: str, tmp_path: Path) -> None:
    settings = options_for(tmp_path)
    begun = time.monotonic()
    with serving("4", models=models()) as server, pytest.raises(InputError) as refused:
        rollout(RolloutSettings(server=server.url, timeout=0.5, **settings))
    assert time.monotonic() - begun < 10
    assert reason in str(refused.value)
    assert "SECRET" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("models", "name"),
    [
        (said(b"[" * 100_000), "scripted"),
        (said(b'{"data": {"id": "x"}}'), "scripted"),
        (said(b'{"data": [null, 7, {"id": 7}, {"id": {"a": 1}}, {}]}'), "scripted"),
        (said(b'{"data": [{"id": "half \\ud83d", "max_model_len": -5}]}'), "half \ufffd"),
        (said(b'{"data": [{"id": "one", "max_model_len": 1e30}]}'), "one"),
        (said(b'{"data": [{"id": "one", "max_model_len": true}]}'), "one"),
        (said(json.dumps({"data": [{"id": "one", "max_model_len": 10**30}]}).encode()), "one"),
        (said(json.dumps({"data": [{"id": f"a {KEY}"}]}).encode()), "a •••"),
        (said(b'{"data": [{"id": "\\u001b]0;title\\u0007<b>"}]}'), "\\x1b]0;title\\x07<b>"),
        (said(b"not here", 404), "scripted"),
    ],
    ids=["deep", "object", "odd", "half", "float", "bool", "huge", "key", "control", "none"],
)
def test_an_odd_list_of_models_is_lived_with(models: Callable[[], Reply], name: str, tmp_path: Path) -> None:
    with serving("4", models=models()) as server:
        rollout(RolloutSettings(server=server.url, **options_for(tmp_path)))
    run = Run.open(tmp_path / "R")
    assert [(t.text, t.model) for t in run.trajectories()] == [("4", name)]
    assert not any(b"SECRET" in file.read_bytes() for file in run.path.rglob("*") if file.is_file())


def options_for(folder: Path) -> dict[str, Any]:
    questions = folder / "q.jsonl"
    questions.write_text('{"question": "2+2?", "answer": "4"}\n')
    shared: dict[str, Any] = {"engine": "server", "api": "chat", "model": "scripted", "top_k": 0, "retries": 0}
    return shared | {"questions": str(questions), "max_tokens": 4, "out": folder / "R", "limit": 1}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INNERLOOP_API_KEY", KEY)


# The command line


def test_a_traceback_holds_no_key(tmp_path: Path) -> None:
    """``--debug`` shows where, and what exceptions say; none of them says the key."""
    questions = options_for(tmp_path)["questions"]
    with serving("4", models=raw(OK + b"\x01" + KEY.encode() + b"\r\n\r\n")()) as server:
        words = f"rollout --debug --engine server --server {server.url} --api chat --retries 0".split()
        more = ["--questions", questions, "--out", str(tmp_path / "R")]
        done = subprocess.run([sys.executable, "-m", "innerloop", *words, *more], capture_output=True, check=False)
    assert done.returncode == 2
    assert b"Traceback" in done.stderr
    assert b"SECRET" not in done.stdout + done.stderr
