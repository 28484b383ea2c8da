"""JSON of others: what is read, and what is refused before it can do harm."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop import plain_json
from innerloop.speaker import MANNER_FILE, brought

TEXTS = st.text(st.characters(codec="utf-8"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
)


@given(JSON, st.booleans())
def test_what_json_writes_is_read(value: object, ascii_only: bool) -> None:
    assert plain_json.loads(json.dumps(value, ensure_ascii=ascii_only)) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "a": 1}', "the key 'a' is there twice"),
        ('[{"x": {"b": 1, "c": 2, "b": 3}}]', "the key 'b' is there twice"),
        ("[" * 101 + "]" * 101, "nested deeper than 100 levels"),
        ('{"a":' * 101 + "1" + "}" * 101, "nested deeper than 100 levels"),
        ("[" * 200_000, "nested deeper than 100 levels"),
        ('"\\ud800"', "half a character"),
        ('{"\\uDFFF": 1}', "half a character"),
        ("1" * 5000, "4300 digits"),
        ("{", "Expecting property name"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        plain_json.loads(text)
    assert "\n" not in str(caught.value).split(":")[0]
    assert plain_json.mapping(text) == {}


def test_what_is_only_just_taken() -> None:
    assert plain_json.loads("[" * 100 + "]" * 100) is not None
    assert plain_json.loads('"\\ud83d\\ude00 [[[[' + "[" * 1000 + '"') == "😀 [[[[" + "[" * 1000
    assert math.isnan(plain_json.loads("NaN"))
    assert plain_json.loads("1e999") == math.inf
    assert plain_json.loads('"\t\0"') == "\t\0"
    assert plain_json.loads(str(2**2000)) == 2**2000
    assert plain_json.loads('"\\ud800"', halves=True) == "\ud800"


def test_values_are_counted_before_they_take_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_json, "_MOST_VALUES", 1000)
    with pytest.raises(ValueError, match="more than 1,000 values"):
        plain_json.loads("[" + "[]," * 1000 + "[]]")
    text = json.dumps([",[{" * 1000, '"\\' * 1000])
    assert plain_json.loads(text) == [",[{" * 1000, '"\\' * 1000], "commas inside texts are no values"


@pytest.mark.parametrize("shape", ['"\\', '\\"', '"', '"a\\\\', "[,", '","'])
def test_counting_takes_linear_time(monkeypatch: pytest.MonkeyPatch, shape: str) -> None:
    monkeypatch.setattr(plain_json, "_MOST_VALUES", 0)
    began = time.process_time()
    with pytest.raises(ValueError, match=r"."):
        plain_json.loads("[," + shape * 200_000)
    assert time.process_time() - began < 2


def test_a_mapping_is_an_object_or_empty() -> None:
    assert plain_json.mapping('{"a": [1]}') == {"a": [1]}
    assert [plain_json.mapping(text) for text in (None, "", "[1]", "null", "nonsense")] == [{}] * 5


@pytest.mark.parametrize(
    "content", ["[" * 200_000, '{"instruction": "a", "instruction": "b"}', '{"instruction": "\\ud800"}']
)
def test_a_models_own_manner_is_read_within_bounds(tmp_path: Path, content: str) -> None:
    (tmp_path / MANNER_FILE).write_text(content)
    assert brought(tmp_path, "instruction") is None
    (tmp_path / MANNER_FILE).write_text('{"instruction": "Think."}')
    assert brought(tmp_path, "instruction") == "Think."
    (tmp_path / MANNER_FILE).unlink()
    os.mkfifo(tmp_path / MANNER_FILE)
    assert brought(tmp_path, "instruction") is None
