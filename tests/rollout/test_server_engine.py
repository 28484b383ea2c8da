"""The server engine against a scripted server: how it talks, and what it makes of every kind of trouble."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from innerloop import RolloutSettings
from innerloop.errors import InputError
from innerloop.rollout.engine import Completion, Request, Sampling, fold_seed
from innerloop.rollout.sample import plan, sample
from innerloop.rollout.server_address import base_address, check_installed, key_from
from innerloop.rollout.server_client import Patience
from innerloop.rollout.server_engine import ChatSpeaker, ServerEngine
from innerloop.schema import Mode, Question, Status
from innerloop.speaker import Speaker, speak
from innerloop.testing import Asked, Reply, ScriptedServer, byte_tokenizer, serving

pytestmark = pytest.mark.model  # servers and worker processes: second tier

FAST = Patience(timeout=5.0, retries=2, backoff=0.01)
FREE = Sampling(top_k=0, max_tokens=64)


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    return speak(byte_tokenizer(), name="scripted")


def requests(speaker: Speaker, count: int = 1) -> list[Request]:
    return [Request(id=f"r{i}", prompt=tuple(speaker.prompt(f"{i} + 1?")), seed=2**40 * i + i) for i in range(count)]


def engine(server: ScriptedServer, speaker: Speaker | ChatSpeaker, **options: Any) -> ServerEngine:
    return ServerEngine(server.url, **{"model": "scripted", "speaker": speaker, "patience": FAST, **options})


def real(script: Callable[[Asked], Reply]) -> Callable[[Asked], Reply]:
    """The script for the real requests; those that find out how to talk are answered."""
    return lambda asked: Reply(text="x", finish="length") if asked.body.get("max_tokens") == 1 else script(asked)


def counting(speaker: Speaker) -> Callable[[str], int]:
    return lambda text: len(speaker.tokenizer(text, add_special_tokens=False)["input_ids"])


def run(
    speaker: Speaker, script: Callable[[Asked], Reply], count: int = 1, **options: Any
) -> tuple[dict[str, Completion], list[Asked]]:
    """What became of the requests, and the real requests that the server saw."""
    with serving(real(script), count=counting(speaker)) as server:
        done = {c.id: c for c in engine(server, speaker, **options).generate(requests(speaker, count), FREE)}
        assert len(done) == count
        return done, [asked for asked in server.asked if asked.body.get("max_tokens") != 1]


# How it talks


def test_prompts_go_as_token_ids_with_everything_the_distribution_depends_on(speaker: Speaker) -> None:
    done, asked = run(speaker, lambda _: Reply(text="It is 2."), 3)
    assert {c.text for c in done.values()} == {"It is 2."}
    assert all((c.status, c.reason, c.tokens, c.token_ids) == (Status.COMPLETE, None, 8, ()) for c in done.values())
    bodies = {tuple(entry.body["prompt"]): entry.body for entry in asked}
    for request in requests(speaker, 3):
        body = bodies[request.prompt]
        assert body["seed"] == fold_seed(request.seed)
        assert (body["temperature"], body["top_p"], body["top_k"], body["min_p"]) == (0.7, 1.0, -1, 0.0)
        assert (body["max_tokens"], body["repetition_penalty"], body["stream"]) == (64, 1.0, True)
    assert all(entry.path == "/v1/completions" for entry in asked)


def test_seeds_of_a_run_stay_apart_in_31_bits() -> None:
    questions = [Question(id=str(i), question="?", answer="1") for i in range(30)]
    planned = plan(questions, ChatSpeaker(), Sampling(samples=40))
    assert len({fold_seed(row.request.seed) for row in planned}) == 1200
    assert all(0 <= fold_seed(row.request.seed) < 2**31 for row in planned)


def test_text_where_token_ids_are_refused_without_the_token_that_the_server_adds(speaker: Speaker) -> None:
    def script(asked: Asked) -> Reply:
        if isinstance(asked.body["prompt"], list):
            return Reply(status=400, body=b'{"error": {"message": "prompt must be a string"}}')
        return Reply(text="ok")

    plain = counting(speaker)
    with serving(script, count=lambda text: plain(text) + 1) as server:  # it puts <bos> in front
        talking = engine(server, speaker)
        (done,) = talking.generate(requests(speaker), FREE)
        assert (done.text, talking.api) == ("ok", "text")
        prompt = server.asked[-1].body["prompt"]
        assert "<bos>" + prompt == speaker.decode(requests(speaker)[0].prompt)


def test_another_tokenizer_is_noticed(speaker: Speaker, caplog: pytest.LogCaptureFixture) -> None:
    with serving("ok", count=lambda text: len(text) // 4) as server:
        for api in ("tokens", "text"):
            with pytest.raises(InputError, match=r"tokenizer of scripted on the server is another one: \d+ tokens"):
                engine(server, speaker, api=api).connect(FREE)
        with caplog.at_level(logging.WARNING, "innerloop"):
            talking = engine(server, speaker)
            talking.connect(FREE)
        assert talking.api == "chat"
        assert "its chat template makes the prompts" in caplog.text
        prompt = tuple(talking.speaker.prompt("1 + 1?"))
        list(talking.generate([Request(id="a", prompt=prompt, seed=0)], FREE))
        assert server.asked[-1].body["messages"] == [{"role": "user", "content": f"1 + 1?\n\n{speaker.instruction}"}]


def test_chat_needs_no_tokenizer_and_keeps_thinking_apart() -> None:
    def script(asked: Asked) -> Reply:
        delta = {"delta": {"reasoning_content": "1 and 1 make 2", "content": "\\boxed{2}"}}
        return Reply(extra=delta)

    with serving(script) as server:
        talking = engine(server, ChatSpeaker())
        talking.connect(FREE)
        planned = plan([Question(id="q", question="1 + 1?", answer="2")], talking.speaker, FREE)
        (trajectory,) = sample(talking, talking.speaker, planned, FREE)
    assert (trajectory.text, trajectory.final) == ("1 and 1 make 2", "\\boxed{2}")
    assert (trajectory.model, trajectory.token_ids) == ("scripted", None)
    with pytest.raises(InputError, match="--mode thinking: a chat server writes the prompt itself"):
        talking.speaker.prompt("?", mode=Mode.THINKING)


def test_token_ids_are_kept_where_the_server_tells_them(speaker: Speaker) -> None:
    ids = [*speaker.encode("It is"), speaker.tokenizer.eos_token_id]
    extra = {"token_ids": ids}
    done, _ = run(speaker, lambda _: Reply(text="It is", extra=extra, usage={"completion_tokens": 6}))
    assert (done["r0"].token_ids, done["r0"].text) == (tuple(ids), "It is")
    done, _ = run(speaker, lambda _: Reply(text="It is", extra=extra, usage={"completion_tokens": 7}))
    assert (done["r0"].token_ids, done["r0"].text, done["r0"].tokens) == ((), "It is", 7), "some were lost"


def test_settings_that_a_server_refuses_go_another_way_or_are_named(speaker: Speaker) -> None:
    def picky(*allowed: str) -> Callable[[Asked], Reply]:
        def script(asked: Asked) -> Reply:
            unknown = set(asked.body) - {
                *allowed,
                "model",
                "prompt",
                "max_tokens",
                "temperature",
                "top_p",
                "seed",
                "stream",
            }
            return (
                Reply(status=422, body=json.dumps({"detail": f"unexpected {unknown}"}).encode()) if unknown else Reply()
            )

        return script

    with serving(picky("generation_config"), count=counting(speaker)) as server:
        list(engine(server, speaker).generate(requests(speaker), Sampling(top_k=7)))
        settings = json.loads(server.asked[-1].body["generation_config"])
        assert (settings["top_k"], settings["do_sample"], settings["max_new_tokens"]) == (7, True, 512)
    with serving(picky("stream_options"), count=counting(speaker)) as server:
        with pytest.raises(InputError, match=r"--top-k 50: the server at .* does not take it; give --top-k 0"):
            engine(server, speaker).connect(Sampling())
        engine(server, speaker).connect(FREE)


def test_the_models_name_is_the_servers(speaker: Speaker) -> None:
    with serving("ok", models=[{"id": "a"}, {"id": "b"}], count=counting(speaker)) as server:
        with pytest.raises(InputError, match="no model 'scripted'; name one of its 2 with --server-model: a, b"):
            engine(server, speaker).connect(FREE)
        talking = engine(server, speaker, served="b")
        talking.connect(FREE)
        assert (talking.name, server.asked[-1].body["model"]) == ("b", "b")
    with serving("ok", models=[{"id": "only"}], count=counting(speaker)) as server:
        talking = engine(server, speaker)
        talking.connect(FREE)
        assert talking.describe()["served"] == "only"


def test_the_context_limits_as_with_other_engines(speaker: Speaker) -> None:
    asked = [Request(id=str(n), prompt=(97,) * n, seed=0) for n in (20, 100, 110)]
    models = [{"id": "scripted", "max_model_len": 100}]
    with serving(real(lambda _: Reply(text="ab", finish="length")), models=models, count=counting(speaker)) as server:
        done = {c.id: c for c in engine(server, speaker).generate(asked, Sampling(top_k=0, max_tokens=90))}
        assert server.asked[-1].body["max_tokens"] == 80
    assert (done["20"].status, done["20"].reason) == (Status.TRUNCATED, "the context of 100 tokens is full")
    assert all("nothing can follow" in (done[name].reason or "") for name in ("100", "110"))


# What answers mean


@pytest.mark.parametrize(
    ("reply", "status", "reason", "text"),
    [
        (Reply(text="so", finish="length"), Status.TRUNCATED, "the limit of 64 tokens came before the end", "so"),
        (Reply(text=""), Status.COMPLETE, "the answer is empty", ""),
        (Reply(extra={"delta": {"refusal": "I cannot."}}), Status.COMPLETE, "the model refused to answer", "I cannot."),
        (
            Reply(text="Well", finish="content_filter"),
            Status.ERROR,
            "the server's content filter withheld the answer",
            "Well",
        ),
        (
            Reply(text="a", finish="tool_calls"),
            Status.COMPLETE,
            "the server ended with finish reason 'tool_calls'",
            "a",
        ),
        (Reply(text="all at once", whole=True), Status.COMPLETE, None, "all at once"),
    ],
    ids=["length", "empty", "refusal", "filter", "odd", "no-stream"],
)
def test_answers_are_recorded_as_what_they_are(
    speaker: Speaker, reply: Reply, status: Status, reason: str | None, text: str
) -> None:
    done, asked = run(speaker, lambda _: reply)
    assert (done["r0"].status, done["r0"].reason, done["r0"].text) == (status, reason, text)
    assert len(asked) == 1, "none of these gets better by asking again"


# Trouble: what passes is tried again, what stays is an error of its own request


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (Reply(status=500, body=b"Internal Server Error"), "500: Internal Server Error"),
        (Reply(status=503, body=b'{"error": {"message": "Loading model"}}'), "503: Loading model"),
        (Reply(text="half of it", cut=4), "the connection failed"),
        (Reply(text="half of it", finish=None), "the server's answer broke off: only a part came"),
        (Reply(body=b'{"choices": [{"text": "a'), "the server's answer is no JSON"),
        (Reply(body=b"<html>busy</html>"), "the server's answer is no JSON"),
        (Reply(body=b'["?"]'), "the server's answer is no JSON object"),
        (Reply(body=b'{"choices": []}'), "the server's answer broke off: nothing came"),
        (Reply(body=b'{"choices": [{}]}'), "the server's answer broke off: nothing came"),
        (Reply(body=b'{"object": "x"}'), "the server's answer has no list of choices"),
        (Reply(body=b'{"error": {"code": 500, "message": "CUDA"}}'), "the server reported an error: CUDA"),
        (Reply(text="a", finish="abort"), "the server gave up on the request (finish reason 'abort')"),
        (Reply(hang=1.0), "no token came for 0.3 s"),
        (Reply(hang=1.0, keep_alive=True), "no token came for 0.3 s"),
    ],
    ids=lambda value: None if isinstance(value, str) else "trouble",
)
def test_passing_trouble_is_tried_again_and_lasting_trouble_is_an_error(
    speaker: Speaker, trouble: Reply, reason: str
) -> None:
    brief = Patience(timeout=0.3, retries=2, backoff=0.01)

    def passing(asked: Asked) -> Reply:
        return trouble if asked.attempt < 2 else Reply(text="at last")

    done, asked = run(speaker, passing, patience=brief)
    assert (done["r0"].status, done["r0"].text, len(asked)) == (Status.COMPLETE, "at last", 3)
    assert len({json.dumps(entry.body, sort_keys=True) for entry in asked}) == 1, "the same seed again"

    one = requests(speaker, 3)[1].prompt

    def lasting(asked: Asked) -> Reply:
        return trouble if tuple(asked.body["prompt"]) == one else Reply(text="fine")

    done, asked = run(speaker, lasting, 3, patience=brief)
    assert [done[name].text for name in ("r0", "r2")] == ["fine", "fine"]
    assert (done["r1"].status, done["r1"].token_ids) == (Status.ERROR, ())
    assert (done["r1"].reason or "").startswith(reason)
    assert len(asked) == 5


def test_a_request_that_is_refused_is_not_repeated(speaker: Speaker) -> None:
    refusal = Reply(status=400, body=b'{"error": {"message": "prompt too long"}}')
    done, asked = run(speaker, lambda _: refusal)
    assert (done["r0"].status, done["r0"].reason, len(asked)) == (Status.ERROR, "400: prompt too long", 1)


def test_retry_after_is_obeyed_by_all_requests(speaker: Speaker) -> None:
    told: list[float] = []

    def script(asked: Asked) -> Reply:
        if not told:
            told.append(time.monotonic())
            return Reply(status=429, headers={"retry-after": "0.6"}, body=b"slow down")
        return Reply(text="ok")

    done, asked = run(speaker, script, 4, concurrency=1)
    assert all(c.status is Status.COMPLETE for c in done.values())
    assert min(entry.time for entry in asked[1:]) - told[0] >= 0.6


def test_a_busy_server_is_waited_for_while_others_get_through(speaker: Speaker) -> None:
    first = requests(speaker)[0].prompt

    def script(asked: Asked) -> Reply:
        if tuple(asked.body["prompt"]) == first and asked.attempt < 5:
            return Reply(status=429, headers={"retry-after-ms": "100"})
        return Reply(text="ok")

    done, _ = run(speaker, script, 40, concurrency=2, patience=Patience(timeout=5, retries=3, backoff=0.01))
    assert done["r0"].status is Status.COMPLETE, "more refusals than retries, but the others went on"


def test_a_wait_of_hours_stops_the_run(speaker: Speaker) -> None:
    reply = Reply(status=429, headers={"retry-after": "86400"}, body=b"come back tomorrow")
    with pytest.raises(ConnectionError, match=r"asks to wait 86400 s \(429: come back tomorrow\); what was finished"):
        run(speaker, lambda _: reply)


def test_rate_and_concurrency_are_kept(speaker: Speaker) -> None:
    with serving(real(lambda _: Reply(text="ok", hang=0.05)), count=counting(speaker)) as server:
        list(engine(server, speaker, concurrency=3).generate(requests(speaker, 9), FREE))
        assert server.peak == 3
    paced = Patience(requests_per_minute=600)
    with serving(real(lambda _: Reply(text="ok")), count=counting(speaker)) as server:
        talking = engine(server, speaker, patience=paced)
        talking.connect(FREE)
        begun = time.monotonic()
        list(talking.generate(requests(speaker, 5), FREE))
        assert time.monotonic() - begun >= 4 * 0.1


def test_connections_are_used_again(speaker: Speaker) -> None:
    with serving(real(lambda _: Reply(text="ok")), count=counting(speaker)) as server:
        talking = engine(server, speaker, concurrency=2)
        talking.connect(FREE)
        before = server.connections
        list(talking.generate(requests(speaker, 8), FREE))
        assert server.connections - before <= 2


def test_a_server_that_is_gone_stops_the_run_and_keeps_what_there_is(speaker: Speaker) -> None:
    first = requests(speaker)[0].prompt

    def script(asked: Asked) -> Reply:
        return Reply(text="ok", hang=0 if tuple(asked.body["prompt"]) == first else 20)

    with serving(real(script), count=counting(speaker)) as server:
        talking = engine(server, speaker, concurrency=1)
        coming = talking.generate(requests(speaker, 5), FREE)
        assert next(coming).text == "ok"
    with pytest.raises(ConnectionError, match=r"does not answer .* what was finished is kept"):
        list(coming)
    with pytest.raises(InputError, match="is the server up and its address right"):
        engine(server, speaker).connect(FREE)


def test_a_server_that_fails_everything_stops_the_run(speaker: Speaker) -> None:
    none = Patience(retries=0)
    with pytest.raises(ConnectionError, match="20 requests in a row failed, the last one with: 500"):
        run(speaker, lambda _: Reply(status=500), 50, patience=none)


def test_stopping_early_calls_off_what_is_under_way(speaker: Speaker) -> None:
    first = requests(speaker)[0].prompt

    def script(asked: Asked) -> Reply:
        return Reply(text="ok", hang=0 if tuple(asked.body["prompt"]) == first else 20)

    with serving(real(script), count=counting(speaker)) as server:
        coming = engine(server, speaker, concurrency=4, patience=Patience()).generate(requests(speaker, 9), FREE)
        assert next(coming).id == "r0"
        begun = time.monotonic()
        coming.close()
        assert time.monotonic() - begun < 2
        assert not [thread for thread in threading.enumerate() if thread.name == "innerloop-server"]


# The key


def test_the_key_is_sent_and_never_told(
    speaker: Speaker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret")
    key = key_from("MY_KEY")
    with caplog.at_level(logging.DEBUG):
        done, asked = run(speaker, lambda _: Reply(status=500, body=b"bad key sk-secret?"), key=key)
    assert all(entry.headers["authorization"] == "Bearer sk-secret" for entry in asked)
    assert (done["r0"].reason or "").startswith("500: bad key •••?")
    assert "sk-secret" not in caplog.text
    with pytest.raises(InputError, match="refuses access") as refused:
        run(speaker, lambda _: Reply(status=401, body=b"who is sk-secret"), key=key)
    assert "sk-secret" not in str(refused.value)
    with serving("ok", count=counting(speaker)) as server:
        assert "sk-secret" not in json.dumps(engine(server, speaker, key=key).describe())


def test_token_ids_that_are_not_the_models_or_spell_the_key_are_not_kept(speaker: Speaker) -> None:
    for ids, kept in (([72, 105], True), ([72, 10**6], False), (speaker.encode("sk-secret"), False)):
        reply = Reply(text="Hi", extra={"token_ids": ids}, usage={"completion_tokens": len(ids)})
        done, _ = run(speaker, lambda _, reply=reply: reply, key="sk-secret")
        assert (done["r0"].text, done["r0"].tokens) == ("Hi", len(ids))
        assert done["r0"].token_ids == (tuple(ids) if kept else ())


def test_one_answer_does_not_hold_up_the_others_for_longer_than_the_timeout(speaker: Speaker) -> None:
    first = requests(speaker)[0].prompt

    def script(asked: Asked) -> Reply:
        if tuple(asked.body["prompt"]) == first:
            return Reply(status=503, headers={"retry-after": "1.5"})
        return Reply(text="ok")

    brief = Patience(timeout=0.3, retries=1)
    done, asked = run(speaker, script, 4, concurrency=2, patience=brief)
    assert [done[f"r{i}"].status for i in range(4)] == [Status.ERROR, *[Status.COMPLETE] * 3]
    assert max(entry.time for entry in asked if tuple(entry.body["prompt"]) != first) - asked[0].time < 1.4


def test_a_refusal_that_is_not_the_runs_stops_only_its_own_request(speaker: Speaker) -> None:
    unlucky = {request.prompt for request in requests(speaker, 9)[::3]}

    def script(asked: Asked) -> Reply:
        return Reply(status=401, body=b"no") if tuple(asked.body["prompt"]) in unlucky else Reply(text="ok")

    done, asked = run(speaker, script, 9, concurrency=1)
    assert [done[f"r{i}"].status for i in range(9)] == [Status.ERROR, Status.COMPLETE, Status.COMPLETE] * 3
    assert len(asked) == 9
    with pytest.raises(InputError, match="refuses access"):
        run(speaker, lambda _: Reply(status=401), 9, concurrency=1)


def test_an_unknown_finish_reason_is_told_once(speaker: Speaker, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "innerloop"):
        done, _ = run(speaker, lambda _: Reply(text="4", finish="nap"), 5)
    assert all((c.status, c.text) == (Status.ERROR, "4") for c in done.values())
    assert caplog.text.count("unknown finish reason 'nap'") == 1


def test_no_key_is_sent_unless_one_is_set(speaker: Speaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INNERLOOP_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    assert key_from(None) is None
    _, asked = run(speaker, lambda _: Reply(text="ok"), key=key_from(None))
    assert "authorization" not in asked[0].headers
    with pytest.raises(InputError, match="--key-env NOPE: there is no such environment variable"):
        key_from("NOPE")


def test_a_key_in_place_of_its_variables_name_is_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    for pasted in ("sk-proj-q7Zx2Wv9Lm4Tb8Rn", "q7zx2wv9lm4tb8rn"):
        with pytest.raises(InputError, match="give the name of an environment variable") as refused:
            RolloutSettings(questions="q.jsonl", engine="server", server="http://h", key_env=pasted)
        assert pasted not in str(refused.value)
    monkeypatch.setenv("MY_KEY", "sk-secret\nX: y")
    with pytest.raises(InputError, match="the key in MY_KEY has characters that no key has") as refused:
        key_from("MY_KEY")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "given",
    [
        {"server": "http://h/sk-secret-1/v1"},
        {"server": "http://sk-secret-1@h/v1"},
        {"server": "ftp://sk-secret-1@h/v1"},
        {"server_model": "x-SK-SECRET-1"},
        {"questions": "gym:sk-secret-1"},
    ],
)
def test_a_setting_that_holds_the_key_is_refused(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INNERLOOP_API_KEY", "sk-secret-1")
    options: dict[str, Any] = {"questions": "q.jsonl", "engine": "server", "server": "http://h"} | given
    with pytest.raises(InputError, match="holds") as refused:
        RolloutSettings(**options)
    assert "secret" not in str(refused.value).lower()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("http://h:8000/v1/", "http://h:8000/v1"),
        ("http://h:8000", "http://h:8000/v1"),
        ("localhost:8000", "http://localhost:8000/v1"),
        ("https://h/openai/v4", "https://h/openai/v4"),
    ],
)
def test_addresses(written: str, meant: str) -> None:
    assert base_address(written) == meant


def test_without_the_package_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[check_installed.__module__]  # its dotted name leads to the verb of the same name
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package httpx2: pip install 'innerloop\[openai\]'"):
        check_installed()


@pytest.mark.parametrize(
    "written",
    ["ftp://h", "http://", "http://u:p@h/v1", "http://h/v1?key=3", "", "http://[::1", "http://h:99999", "http://h:x"],
)
def test_addresses_that_are_none(written: str) -> None:
    with pytest.raises(InputError, match="--server"):
        base_address(written)
