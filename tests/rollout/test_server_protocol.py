"""What the events of a server mean, and what they may not do; no network."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innerloop.rollout.engine import Completion, Request
from innerloop.rollout.server_finish import Finish, meaning, reason_of
from innerloop.rollout.server_limits import Limits
from innerloop.rollout.server_protocol import Answer, RequestRefused, ServerFault
from innerloop.rollout.server_redact import Redactor
from innerloop.schema import Mode, Source, Status, Trajectory

KEY = "sk-SECRET-0123456789"
REQUEST = Request(id="r", prompt=(1,), seed=7)
THINK = ("<think>", "</think>")
STOP = {"choices": [{"delta": {}, "finish_reason": "stop"}]}


def answer(*events: Any, tokens: int = 20, key: str | None = KEY) -> Answer:
    """Events that were fed; what is no text or bytes goes as JSON."""
    said = Answer(Redactor(key), Limits.of(tokens=tokens, prompt=5, timeout=5.0))
    for event in events:
        said.feed(event if isinstance(event, str | bytes) else json.dumps(event))
    return said.checked()


def completed(*events: Any, **options: Any) -> Completion:
    return answer(*events, **options).completion(REQUEST, limit=20, context=None, think=THINK)


def told(text: Any, finish: Any = "stop", **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish, **more}]}


def kept(completion: Completion) -> None:
    """The completion can be written to a run folder."""
    fields = {"token_ids": completion.token_ids, "tokens": completion.tokens, "reason": completion.reason}
    Trajectory.to_table(
        [Trajectory(id="a", question_id="q", source=Source.SAMPLE, mode=Mode.PLAIN, text=completion.text, **fields)]
    )


# What is no answer


@pytest.mark.parametrize(
    "event",
    [
        "",
        "null",
        "[]",
        '"text"',
        "17",
        "nan",
        '{"choices": NaN}',
        '{"choices": [{"text": "a", "x": -Infinity}]}',
        "[" * 200_000,
        '{"a":' * 200_000,
        '{"error": ' + "[" * 900 + "]" * 900 + "}",
        '{"choices": [{"text": ' + "[" * 900 + "]" * 900 + "}]}",
        '{"n": ' + "9" * 5000 + "}",
        b"\xff\xfe\x00",
        b"\x00" * 100,
        b"\xed\xa0\xbd",
        '{"choices": {"0": {"text": "a"}}}',
        '{"choices": "stop"}',
        '{"choices": null}',
        '{"choices": [null]}',
        '{"choices": [[1]]}',
        '{"choices": [{"delta": "text"}]}',
        '{"choices": [{"delta": [1]}]}',
        '{"choices": [{"delta": {"content": 7}}]}',
        '{"choices": [{"delta": {"content": true}}]}',
        '{"choices": [{"delta": {"content": {"text": "a"}}}]}',
        '{"choices": [{"delta": {"content": [7]}}]}',
        '{"choices": [{"delta": {"content": [{"type": "image_url", "image_url": {}}]}}]}',
        '{"choices": [{"delta": {"content": [{"type": "text", "text": 7}]}}]}',
        '{"choices": [{"delta": {"content": [{"type": ["text"], "text": "a"}]}}]}',
        '{"choices": [{"delta": {"reasoning": 7}}]}',
        '{"choices": [], "error": {"message": ["a"], "code": 500}}',
        '{"error": true}',
    ],
)
def test_what_is_no_answer_is_a_fault(event: str | bytes) -> None:
    with pytest.raises(ServerFault) as fault:
        answer(event)
    assert len(str(fault.value)) < 300
    assert str(fault.value).isprintable()


@pytest.mark.parametrize("count", [-7, True, False, 3 * 10**9, 2 * 10**9, 10**30, int("9" * 4000)])
def test_counts_out_of_range_are_a_fault(count: int) -> None:
    for name in ("completion_tokens", "prompt_tokens"):
        if name == "prompt_tokens" and count == 2 * 10**9:
            continue  # a long prompt, but a number
        with pytest.raises(ServerFault, match=f"{name} is no such number"):
            answer(told("4") | {"usage": {name: count}})


@pytest.mark.parametrize("count", [None, "12", 12.0, [12], {}])
def test_what_is_no_count_is_unknown(count: Any) -> None:
    done = completed(told("4") | {"usage": {"completion_tokens": count, "prompt_tokens": count}})
    assert (done.text, done.tokens) == ("4", None)


@pytest.mark.parametrize("ids", [[10**30], [-4], [True], [1.0], ["1"], [None], [[1]], [2**31]])
def test_token_ids_out_of_range_are_a_fault(ids: list[Any]) -> None:
    with pytest.raises(ServerFault, match="token_ids are no such numbers"):
        answer(told("4", token_ids=ids))


def test_what_is_as_large_as_may_be_is_kept() -> None:
    done = completed(told("4", token_ids=[2**31 - 1, 0]), {"choices": [], "usage": {"completion_tokens": 2}})
    assert done.token_ids == (2**31 - 1, 0)
    kept(done)


# Halves of characters


def test_a_character_in_two_halves_is_one() -> None:
    first, second = (
        '{"choices": [{"text": "a \\ud83d"}]}',
        '{"choices": [{"text": "\\ude00", "finish_reason": "stop"}]}',
    )
    done = completed(first, second)
    assert done.text == "a 😀"
    kept(done)


@pytest.mark.parametrize("field", ["content", "reasoning_content", "refusal"])
@pytest.mark.parametrize("half", ["\\ud83d", "\\ude00", "\\ude00\\ud83d", "\\ud83d\\ud83d\\ude00"])
def test_half_a_character_is_a_fault(field: str, half: str) -> None:
    event = f'{{"choices": [{{"delta": {{"{field}": "4 {half}"}}, "finish_reason": "stop"}}]}}'
    with pytest.raises(ServerFault, match="half a character"):
        answer(event)


def test_halves_elsewhere_do_no_harm() -> None:
    half = "\ud83d"
    for event in (told("4", half), told("4") | {half: half}, told("4", **{half: half})):
        kept(completed(event))
    with pytest.raises(RequestRefused) as refused:
        answer({"error": {"message": f"bad {half}", "code": 400}})
    str(refused.value).encode()


# Choices, usage and finish reasons in unusual places


def test_the_choice_with_index_0_is_the_answer() -> None:
    other = {"index": 1, "delta": {"content": "other"}, "finish_reason": "length"}
    mine = {"index": 0, "delta": {"content": "mine"}, "finish_reason": "stop"}
    assert completed({"choices": [other, mine]}).text == "mine"
    assert completed({"choices": [other]}, {"choices": [mine]}).text == "mine"
    assert completed({"choices": [{"text": "no index", "finish_reason": "stop"}, {}, {}]}).text == "no index"
    assert completed(told("odd index", index="0")).text == "odd index"
    with pytest.raises(ServerFault, match="broke off: nothing came"):
        answer({"choices": [other]})


def test_the_last_of_several_counts_is_taken_and_the_last_of_a_key_twice() -> None:
    usage = [{"choices": [], "usage": {"completion_tokens": n}} for n in (1, 2, 3)]
    assert completed(*usage, told("4")).tokens == 3
    assert completed('{"choices": 7, "choices": [{"text": "a", "finish_reason": "stop"}]}').text == "a"


def test_null_in_place_of_anything_is_nothing() -> None:
    nothing = {"delta": None, "message": None, "text": None, "token_ids": None, "finish_reason": None, "index": None}
    event = {"choices": [nothing], "usage": None, "error": None}
    assert completed(event, told(None, "stop")).reason == "the answer is empty"


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop", Finish.ENDED),
        ("STOP", Finish.ENDED),
        ("COMPLETE", Finish.ENDED),
        ("end_turn", Finish.ENDED),
        ("length", Finish.CUT),
        ("LENGTH", Finish.CUT),
        ("model_length", Finish.CUT),
        ("MAX_TOKENS", Finish.CUT),
        ("max-tokens", Finish.CUT),
        ("FINISH_REASON_MAX_TOKENS", Finish.CUT),
        ("model_context_window_exceeded", Finish.CUT),
        ("SAFETY", Finish.WITHHELD),
        ("refusal", Finish.REFUSED),
        ("tool_calls", Finish.TOOL),
        ("abort", Finish.BROKEN),
        ("OTHER", Finish.UNKNOWN),
        ("stopped?", Finish.UNKNOWN),
    ],
)
def test_finish_reasons_of_many_providers(reason: str, expected: Finish) -> None:
    assert meaning(reason) is expected
    statuses = {Finish.CUT: Status.TRUNCATED, Finish.WITHHELD: Status.ERROR, Finish.UNKNOWN: Status.ERROR}
    if expected is not Finish.BROKEN:
        assert completed(told("The answer is 4", reason)).status is statuses.get(expected, Status.COMPLETE)


def test_an_unknown_finish_reason_is_said_and_never_complete() -> None:
    said = answer(told("The answer is 4", "nap\x1b[31m"))
    done = said.completion(REQUEST, limit=20, context=None, think=THINK)
    assert said.unknown_finish == "'nap\\\\x1b[31m'"
    assert (done.status, done.text) == (Status.ERROR, "The answer is 4")
    assert (done.reason or "").startswith("unknown finish reason 'nap")


@pytest.mark.parametrize("nothing", [None, "", "null", 0, 7, ["stop"], {"reason": "stop"}])
def test_what_is_no_finish_reason_does_not_end_an_answer(nothing: Any) -> None:
    assert reason_of(nothing) is None
    with pytest.raises(ServerFault, match="only a part came, and no finish reason"):
        answer(told("4", nothing))


def test_of_two_finish_reasons_the_one_that_tells_of_trouble_stays() -> None:
    for reasons in (("stop", "length"), ("length", "stop"), ("stop", "stop", "length", "stop")):
        assert completed(*(told("4", reason) for reason in reasons)).status is Status.TRUNCATED


# Content


def test_content_as_a_list_of_parts() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "six times seven"}]}
    parts = [thinking, {"type": "text", "text": "It is "}, {"type": "reference", "reference_ids": [1]}, "42."]
    for events in ([told(parts)], [*(told([part], None) for part in parts), STOP]):
        assert completed(*events).text == "<think>\nsix times seven\n</think>\n\nIt is 42."
    assert completed(told([{"type": "reasoning", "text": "hm"}, {"type": "output_text", "text": "4"}])).text == (
        "<think>\nhm\n</think>\n\n4"
    )
    assert completed(told([{"type": "refusal", "refusal": "No."}])).reason == "the model refused to answer"
    assert completed(told([])).reason == "the answer is empty"


@pytest.mark.parametrize("empty", ["", None, []])
def test_an_empty_field_does_not_hide_another(empty: Any) -> None:
    delta = {"content": "\\boxed{42}", "reasoning_content": empty, "reasoning": "six times seven"}
    event = {"choices": [{"index": 0, "message": delta, "finish_reason": "stop"}]}
    assert completed(event).text == "<think>\nsix times seven\n</think>\n\n\\boxed{42}"
    assert completed({"choices": [{"content": empty, "text": "4", "finish_reason": "stop"}]}).text == "4"


# Bounds


def test_more_text_than_the_tokens_hold_is_stopped() -> None:
    limits = Limits.of(tokens=20, prompt=5, timeout=5.0)
    with pytest.raises(ServerFault, match="more text than was asked for") as fault:
        answer(*[told("x" * 1000, None)] * (limits.text // 1000 + 1))
    assert fault.value.lasting
    for field in ("reasoning_content", "refusal"):
        with pytest.raises(ServerFault, match="more text than was asked for"):
            answer({"choices": [{"delta": {field: "x" * (limits.text + 1)}}]})
    with pytest.raises(ServerFault, match="more text than was asked for"):
        answer(*[told("x", None)] * (limits.pieces + 1))
    with pytest.raises(ServerFault, match="more token ids than were asked for"):
        answer(told("x", token_ids=[1] * (limits.tokens + 1)))


def test_an_answer_of_the_longest_tokens_fits() -> None:
    for tokens in (1, 20, 512, 32_768):
        limits = Limits.of(tokens=tokens, prompt=1000, timeout=600.0)
        assert limits.text >= 128 * tokens
        assert limits.pieces >= 8 * tokens, "letter by letter"
        assert limits.event >= 6 * 20 * tokens, "as escapes, 20 letters a token"
        assert limits.event >= 8 * 1000, "with the prompt's token ids"
        assert limits.wire >= 1000 * tokens, "with a kilobyte around every token"
        assert limits.seconds >= 600 + 6 * tokens


# Anything at all


WHOLE = {
    "choices": [
        {
            "index": 0,
            "delta": {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "so"}]},
                    {"type": "text", "text": "4"},
                ],
                "reasoning_content": "six",
                "refusal": None,
            },
            "token_ids": [1, 2],
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    "error": None,
}
TEXTS = st.sampled_from(
    ["stop", "length", "text", "", KEY, KEY[:7], KEY[7:], "\ud83d", "\ude00", "<think>", "</think>", "\x00"]
)
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.sampled_from([2**31, -(2**63), 10**30]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXTS | st.sampled_from(["type", "text"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a nested value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for name, item in inside for place in places(item, (*path, name)))]


def replaced(value: Any, path: tuple[Any, ...], odd: Any) -> Any:
    if not path:
        return odd
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], odd)
    return copy


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(places(WHOLE)), ODD), min_size=1, max_size=4))
def test_whatever_takes_any_place_in_an_event_is_an_answer_or_an_error(changes: list[tuple[Any, Any]]) -> None:
    events = [replaced(WHOLE, place, odd) for place, odd in changes]
    try:
        done = completed(*(json.dumps(event) for event in events))
    except (ServerFault, RequestRefused) as error:
        said = str(error)
    else:
        kept(done)
        said = f"{done.text} {done.reason}"
        assert done.tokens is None or 0 <= done.tokens < 10_000
    said.encode()
    assert KEY.lower() not in said.lower()


# The key


@pytest.mark.parametrize("cut", range(1, len(KEY)))
def test_a_key_over_two_events_is_taken_out_and_the_token_ids_with_it(cut: int) -> None:
    done = completed(told(f"It is {KEY[:cut]}", None, token_ids=[1, 2]), told(f"{KEY[cut:]}!", token_ids=[3]))
    assert (done.text, done.token_ids) == ("It is •••!", ())


def test_the_key_is_taken_out_of_every_part_of_an_answer() -> None:
    fields = {"content": f"a {KEY}", "reasoning_content": f"b {KEY.upper()}"}
    done = completed({"choices": [{"delta": fields, "finish_reason": f"odd {KEY}"}]})
    assert done.text == "<think>\nb •••\n</think>\n\na •••"
    assert KEY not in (done.reason or "")
    assert completed({"choices": [{"delta": {"refusal": KEY}, "finish_reason": "stop"}]}).text == "•••"


@pytest.mark.parametrize(
    "text",
    [
        "sk-ab<think>c-123 so</think> 4",
        "sk-ab<think>c-123",
        "</think>sk-ab<|channel|>final<|message|>c-123",
    ],
)
def test_the_key_is_not_put_together_where_thinking_is_taken_apart(text: str) -> None:
    done = completed(told(text), key="sk-abc-123")
    assert (done.status, done.text) == (Status.ERROR, "")
    assert completed(told(text), key=None).text == text


@pytest.mark.parametrize(
    "event",
    [
        f"Authorization: {KEY}",
        f"{'x' * 190} {KEY}",
        json.dumps([KEY]),
        json.dumps({"headers": {"authorization": f"Bearer {KEY}"}}),
        json.dumps({"error": KEY}),
        json.dumps({"error": {"message": f"bad key {KEY}", "code": 400}}),
        json.dumps({"error": {"message": f"bad key {KEY}", "code": 500}}),
        json.dumps({"error": {"message": {"key": KEY}}}),
        json.dumps({"error": KEY}).replace("k", "\\u006b"),
        json.dumps({"choices": [KEY]}),
        json.dumps({"choices": [{"delta": KEY}]}),
        json.dumps({"choices": [{"delta": {"content": [{"type": KEY}]}}]}),
        json.dumps({"choices": [{"text": "a", "finish_reason": "error"}], "usage": {KEY: 1}}),
    ],
)
def test_no_error_quotes_the_key(event: str) -> None:
    with pytest.raises((ServerFault, RequestRefused)) as said:
        answer(event)
    assert "SECRET" not in str(said.value)
    assert said.value.__cause__ is None
