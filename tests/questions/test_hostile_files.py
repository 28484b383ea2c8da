"""Files of questions and trajectories that mean harm, or were only made carelessly: one line, in bounded memory."""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
import time
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from innerloop import input_files
from innerloop.errors import InputError
from innerloop.evaluate.tally import cluster
from innerloop.evaluate.verify import code
from innerloop.prompts import default
from innerloop.questions import benchmarks, gym_entry, load, rows
from innerloop.questions.livecodebench import cases
from innerloop.questions.mapping import to_row
from innerloop.rollout.given import from_file
from innerloop.schema import Question


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(path: Path, read: Any = load) -> str:
    """What the refusal of a file says, after its name."""
    with pytest.raises(InputError) as caught:
        read(path)
    said = str(caught.value)
    assert said.startswith(str(path))
    assert "\n" not in said
    return said.removeprefix(str(path))


def parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()


# Numbers and nesting


def test_an_integer_of_any_size_is_read_as_it_is_written(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", json.dumps({"question": "2**2000?", "answer": 2**2000}))
    assert load(path)[0].answer == str(2**2000)


def test_metadata_that_nests_without_end_troubles_nobody(tmp_path: Path) -> None:
    deep = "[" * 100_000
    path = write(tmp_path / "q.jsonl", json.dumps({"question": "x", "answer": "1", "metadata": deep}))
    assert "nested deeper" in refused(path)
    question = Question(id="q", question="x", answer="1", verifier="code", metadata='{"entry":' + deep)
    assert cluster(question) is None
    assert default(question) is not None
    assert code.judge(question, "print(1)", complete=True) is not None
    assert gym_entry.from_json(question.metadata or "") is None


def test_an_entry_with_marks_around_nothing_is_none() -> None:
    for inside in ('{"__tuple__": 5}', '{"__pairs__": [1]}', '{"__pairs__": [[[1], 2]]}'):
        assert gym_entry.from_json('{"entry": {"a": ' + inside + "}}") is None


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_no_number_is_no_answer_and_may_be_metadata(tmp_path: Path, constant: str) -> None:
    path = write(tmp_path / "q.jsonl", f'{{"question": "x", "answer": {constant}}}')
    assert "answer" in refused(path)
    path = write(tmp_path / "q.jsonl", f'{{"question": "x", "answer": "1", "extra": [{constant}]}}')
    assert json.loads(load(path)[0].metadata or "").keys() == {"extra"}


def test_half_characters_are_refused_wherever_they_are(tmp_path: Path) -> None:
    for extra in (
        '"extra": "\\ud800"',
        '"metadata": "{\\"a\\": \\"\\\\ud800\\"}"',
        '"\\udfff": 1',
        '"e": [{"\\ud9": 1}]',
    ):
        path = write(tmp_path / "q.jsonl", '{"question": "x", "answer": "1", ' + extra + "}")
        refused(path)


# Names that are there twice


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("q.jsonl", '{"question": "x", "answer": "1", "answer": "2"}', "line 1: .*'answer' is there twice"),
        ("q.jsonl", '{"question": "x", "answer": "1", "m": [{"k": 1, "k": 2}]}', "line 1: .*'k' is there twice"),
        ("q.json", '[{"question": "x", "answer": "1", "answer": "2"}]', "'answer' is there twice"),
        ("q.csv", "question,answer,answer\nx,1,2\n", "line 1: the column 'answer' is there twice"),
        (
            "q.jsonl",
            json.dumps({"question": "x", "answer": "1", "metadata": '{"tests": 1, "tests": 2}'}),
            "'tests' is there twice",
        ),
        (
            "q.jsonl",
            json.dumps({"question": "x", "answer": "1", "metadata": {"tests": "a"}, "tests": "b"}),
            "metadata holds another 'tests'",
        ),
    ],
)
def test_a_name_that_is_there_twice_is_refused(tmp_path: Path, name: str, content: str, said: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(InputError, match=said):
        load(path)


def test_a_column_of_parquet_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    table = pa.table([pa.array(["x"]), pa.array(["1"]), pa.array(["2"])], names=["question", "answer", "answer"])
    assert "the column 'answer' is there twice" in refused(write(tmp_path / "q.parquet", parquet(table)))


def test_fields_that_differ_in_case_alone_are_refused() -> None:
    with pytest.raises(InputError, match=r"here: the fields 'Answer' and 'answer' mean the same"):
        to_row({"question": "x", "Answer": "1", "answer": "2"}, "here")
    assert to_row({"question": "x", "answer": "1", "Tag": 1, "tag": 2}, "here")["answer"] == "1"


def test_an_index_without_a_name_is_no_column_twice(tmp_path: Path) -> None:
    assert load(write(tmp_path / "q.csv", ",question,answer,\n0,x,1,\n"))[0].answer == "1"
    assert "more cells than the header" in refused(write(tmp_path / "q.csv", ",question,answer,\n0,x,1,y\n"))


def test_a_trajectory_with_surplus_cells_loses_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "question_id,text\nq,so, it is\n")
    assert "more cells than the header" in refused(path, lambda path: from_file(path, None))


# Size


def test_a_line_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (input_files, rows):
        monkeypatch.setattr(module, "LONGEST", 1000, raising=False)
    monkeypatch.setattr("innerloop.questions.files.LONGEST", 1000)
    line = json.dumps({"question": "x" * 2000, "answer": "1"})
    assert "line 2: longer than" in refused(write(tmp_path / "q.jsonl", "\n" + line))
    assert "larger than" in refused(write(tmp_path / "q.json", f"[{line}]"))
    assert "line 2: longer than" in refused(write(tmp_path / "q.csv", "question,answer\n" + "x" * 2000))
    many = 'question,answer\n"' + "x\n" * 600 + '",1\n'
    assert "a row of more than" in refused(write(tmp_path / "q.csv", many))


def test_parquet_of_gigabytes_is_not_unpacked_for_one_row(tmp_path: Path) -> None:
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 3000, pa.int32()), pa.array(["z" * (4 << 20)]))
    path = write(tmp_path / "q.parquet", parquet(pa.table({"question": text, "answer": ["1"] * 3000})))
    assert path.stat().st_size < 2000
    began = time.process_time()
    assert len(load(path, limit=1)[0].question) == 4 << 20
    assert time.process_time() - began < 5


def test_parquet_that_is_not_text_names_the_file(tmp_path: Path) -> None:
    raw = pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())
    path = write(tmp_path / "q.parquet", parquet(pa.table({"question": raw, "answer": ["1"]})))
    assert "a text that is not UTF-8" in refused(path)


def test_rows_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MOST", 2)
    line = '{"question": "x", "answer": "1"}\n'
    assert "more than 2 questions; take fewer with --limit" in refused(write(tmp_path / "q.jsonl", line * 3))
    assert len(load(tmp_path / "q.jsonl", limit=2)) == 2


# What is no file of text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x1f\x8b\x08\x00", "compressed by gzip"),
        (b"PK\x03\x04rest", "a zip archive"),
        (b"\x28\xb5\x2f\xfdxx", "compressed by zstd"),
        (b"BZh9", "compressed by bzip2"),
        (b"\xfd7zXZ\x00", "compressed by xz"),
        (b"PAR1", "name it .parquet"),
        ('{"question": "x"}'.encode("utf-16"), "UTF-16"),
        ('{"question": "x"}'.encode("utf-32"), "UTF-16 or UTF-32"),
    ],
)
@pytest.mark.parametrize("name", ["q.jsonl", "q.json", "q.csv"])
def test_what_is_packed_or_wide_is_called_by_its_name(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    assert said in refused(write(tmp_path / name, content))


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_a_pipe_or_a_device_holds_nobody_up(tmp_path: Path, suffix: str) -> None:
    pipe = tmp_path / f"pipe{suffix}"
    os.mkfifo(pipe)
    assert "a device or pipe" in refused(pipe)
    zero = tmp_path / f"zero{suffix}"
    zero.symlink_to("/dev/zero")
    assert "a device or pipe" in refused(zero)
    loop = tmp_path / f"loop{suffix}"
    loop.symlink_to(loop)
    assert "no such file" in refused(loop)


@pytest.mark.parametrize("name", ["x" * 5000 + ".jsonl", "~nobody-of-this-name/q.jsonl", "a\0b.jsonl"])
def test_a_name_that_cannot_be_one(name: str) -> None:
    with pytest.raises(InputError, match="no such file"):
        load(name)


# Benchmarks


@pytest.mark.parametrize(
    ("benchmark", "row"),
    [
        ("gpqa-diamond", {"Correct Answer": "1", "Question": "?"}),
        ("humaneval", {"canonical_solution": "pass"}),
        ("mbpp", {"test_list": 5}),
        ("cruxeval", {"output": "1", "code": "c"}),
        ("livecodebench", {"question_content": 1}),
    ],
)
def test_a_benchmark_without_its_fields_is_one_line(tmp_path: Path, benchmark: str, row: dict[str, Any]) -> None:
    path = write(tmp_path / "b.jsonl", json.dumps(row))
    with pytest.raises(InputError, match=r"b\.jsonl, line 1: ") as caught:
        benchmarks.load(f"{benchmark}@{path}")
    assert "\n" not in str(caught.value)


def packed(pickled: bytes) -> dict[str, str]:
    return {"private_test_cases": base64.b64encode(zlib.compress(pickled)).decode()}


def test_packed_tests_that_only_take_time_are_refused_at_once() -> None:
    began = time.process_time()
    with pytest.raises(InputError, match="more than 16 operations"):
        list(cases(packed(b"\x80\x04" + b"\x94" * (64 << 20) + b"."), "q"))
    assert time.process_time() - began < 5


@pytest.mark.parametrize("text", ["[" * 200_000, "[" + "[]," * 60 + "[]" * 0 + "{" * 200, '[{"a": 1, "a": 2}]'])
def test_packed_tests_are_json_within_bounds(text: str) -> None:
    with pytest.raises(InputError, match="private_test_cases"):
        list(cases(packed(pickle.dumps(text)), "q"))


def test_tests_that_are_no_text() -> None:
    with pytest.raises(InputError, match="public_test_cases is no text"):
        list(cases({"public_test_cases": 5}, "q"))
