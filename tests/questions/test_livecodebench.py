"""LiveCodeBench's rows, packed tests and files; packed tests that are something else are refused, and nothing runs."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.errors import InputError
from innerloop.prompts import PROMPTS
from innerloop.questions import load
from innerloop.questions.livecodebench import cases, unpack
from innerloop.testing.livecodebench import pack, row


def write(tmp_path: Path, *rows: dict[str, Any]) -> str:
    path = tmp_path / "test4.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"livecodebench@{path}"


def test_a_program_and_a_function(tmp_path: Path) -> None:
    program = row("abc1", [("1 2\n", "3\n")], [("5 6\n", "11\n")])
    function = row(
        "lc2", [("[1]\n2", "3")], [("[4]\n5", "9")], function="addTo", starter="class Solution:\n    def addTo"
    )
    first, second = load(write(tmp_path, program, function))
    assert (first.id, first.answer, first.verifier, first.domain, first.level) == (
        "lcb-abc1",
        "",
        "code",
        "code",
        "easy",
    )
    assert first.prompt_template == PROMPTS["program"].template
    assert second.prompt_template == PROMPTS["function"].template
    assert "```python\nclass Solution:\n    def addTo\n```" in second.question
    found = [(kind, case.input, case.output) for kind, case in cases(json.loads(first.metadata or ""), "q")]
    assert found == [("stdin", "1 2\n", "3\n"), ("stdin", "5 6\n", "11\n")]
    assert json.loads(second.metadata or "")["func_name"] == "addTo"


def test_private_tests_may_be_plain(tmp_path: Path) -> None:
    plain = row("a", [], []) | {"private_test_cases": json.dumps([{"input": "", "output": "1", "testtype": "stdin"}])}
    assert load(write(tmp_path, plain))[0].id == "lcb-a"


def test_the_files_of_the_hub_are_read_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(name: str, file: str, *, repo_type: str) -> str:
        asked.append((name, file, repo_type))
        path = tmp_path / file
        path.write_text(json.dumps(row(file, [("1", "2")], [])) + "\n")
        return str(path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    repository = "livecodebench/code_generation_lite"
    assert [q.id for q in load("livecodebench", limit=1)] == ["lcb-test4.jsonl"]
    assert asked == [(repository, "test4.jsonl", "dataset")], "no more is downloaded than is needed"
    assert [q.id for q in load("livecodebench")] == ["lcb-test4.jsonl", "lcb-test5.jsonl"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("LocalEntryNotFoundError", "the hub cannot be reached"),
        ("RemoteEntryNotFoundError", "no such file on the hub, or it is gated"),
    ],
)
def test_what_the_hub_does_not_give(monkeypatch: pytest.MonkeyPatch, error: str, message: str) -> None:
    from huggingface_hub import errors

    kind = getattr(errors, error)

    def download(*_: Any, **__: Any) -> str:
        raise kind.__new__(kind, "no")  # their constructors want a response of some HTTP library

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    with pytest.raises(InputError, match=f"hf:livecodebench/code_generation_lite:test4.jsonl: {message}"):
        load("livecodebench")


class Bomb:
    """Says that it was run, if it is."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("ran").write_text, ("it ran",))


def packed(pickled: bytes) -> str:
    return base64.b64encode(zlib.compress(pickled)).decode()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (packed(pickle.dumps(Bomb())), "does more than to say one text"),
        (packed(b"cos\nsystem\n(S'touch ran'\ntR."), r"does more than to say one text \(GLOBAL\)"),
        (packed(pickle.dumps(["[]", Bomb()])), "does more than to say one text"),
        (packed(pickle.dumps({"a": "[]"})), "does more than to say one text"),
        (packed(pickle.dumps(b"[]", protocol=4)), r"does more than to say one text \(SHORT_BINBYTES\)"),
        (packed(pickle.dumps(7)), r"does more than to say one text \(BININT1\)"),
        (packed(b"\x80\x04."), "says no text"),
        (packed(pickle.dumps("[]")[:-3]), "cannot be read"),
        (packed(b""), "cannot be read"),
        (packed(b"\xff\xfe"), "cannot be read"),
        (base64.b64encode(zlib.compress(b"0" * 10000)[:-20]).decode(), "are cut off"),
        (base64.b64encode(b"no zlib").decode(), "neither a JSON list nor compressed tests"),
        ("€€€", "neither a JSON list nor compressed tests"),
        (packed(pickle.dumps("no json")), "private_test_cases is no JSON"),
        (packed(pickle.dumps('{"a": 1}')), "is no list of tests"),
        (packed(pickle.dumps("[" * 100_000)), "private_test_cases is no JSON"),
        ("[1]", "holds something else than tests"),
        ('[{"input": 1, "output": "", "testtype": "stdin"}]', "holds something else than tests"),
        ('[{"input": "", "output": "", "testtype": "shell"}]', "holds something else than tests"),
        ('[{"input": "", "output": "", "testtype": "functional"}]', "several kinds of tests"),
        ("[" * 100_000, "private_test_cases is no JSON"),
    ],
    ids=lambda value: value[:20],
)
def test_hostile_tests_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        load(write(tmp_path, row("a", [("1", "2")], []) | {"private_test_cases": text}))
    assert "test4.jsonl, line 1" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert not Path("ran").exists()


def test_a_bomb_is_not_unpacked() -> None:
    import tracemalloc

    bomb = base64.b64encode(zlib.compress(b"0" * (64 << 20))).decode()  # 64 MiB in 64 KiB
    tracemalloc.start()
    with pytest.raises(InputError, match="the compressed tests are more than 1 MiB; nothing in it was run"):
        unpack(bomb, "x", largest=1 << 20)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


@given(st.text(max_size=300), st.sampled_from(range(1, pickle.HIGHEST_PROTOCOL + 1)))
def test_unpacking_is_what_unpickling_would_give(text: str, protocol: int) -> None:
    assert unpack(packed(pickle.dumps(text, protocol=protocol)), "x") == text


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=4))
def test_packed_and_plain_tests_are_the_same(tests: list[tuple[str, str]]) -> None:
    listed = json.dumps([{"input": a, "output": b, "testtype": "stdin"} for a, b in tests])
    both = [list(cases({"private_test_cases": text}, "x")) for text in (listed, pack(listed))]
    assert both[0] == both[1]
    assert [(case.input, case.output) for _, case in both[0]] == tests


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question_content": "x", "public_test_cases": None}, "no text in the field public_test_cases"),
        ({"metadata": "{"}, "metadata is no JSON"),
        ({"metadata": '{"func_name": "f"}'}, "tests of kind stdin with metadata.func_name"),
        ({"metadata": '{"func_name": "f); import os"}'}, "metadata.func_name is no name of a function"),
        ({"public_test_cases": "[]", "private_test_cases": "[]"}, "no tests; a question needs tests of one kind"),
    ],
)
def test_rows_that_cannot_be_used(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"line 1: {message}"):
        load(write(tmp_path, row("a", [("1", "2")], []) | change))
