"""Question files: every format gives the same questions, every fault one line with its place and the remedy."""

from __future__ import annotations

import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.errors import InputError
from innerloop.questions import load
from innerloop.questions.rows import build, scalar_text

ROWS = [
    {"id": "a", "question": "1 + 1?", "answer": "2", "solution": "One and one, two.", "level": "easy"},
    {"id": "b", "question": "Größe, in „m“?", "answer": "½", "verifier": "text", "candidates": ["⅓", "¼"]},
]


def write(path, rows) -> str:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows, schema=_schema(rows)), path)
    else:
        names = list(dict.fromkeys(name for row in rows for name in row))
        cells = [[_cell(row.get(name)) for name in names] for row in rows]
        path.write_text("\n".join(",".join(line) for line in [names, *cells]), encoding="utf-8")
    return str(path)


def _schema(rows):
    merged = {}
    for row in rows:
        merged |= row
    return pa.schema([(name, pa.infer_type([value])) for name, value in merged.items()])


def _cell(value) -> str:
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value)
    return '"' + text.replace('"', '""') + '"'


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet", ".JSONL"])
def test_every_format_gives_the_same_questions(tmp_path, suffix):
    path = tmp_path / ("q" + suffix.lower())
    write(path, ROWS)
    path = path.rename(tmp_path / ("q" + suffix))
    first, second = load(path)
    assert (first.id, first.question, first.answer, first.solution) == ("a", "1 + 1?", "2", "One and one, two.")
    assert (first.level, first.verifier, first.candidates, first.metadata) == ("easy", None, (), None)
    assert (second.question, second.answer, second.verifier) == ("Größe, in „m“?", "½", "text")
    assert second.candidates == ("⅓", "¼")


GOOD = '{"question": "x", "answer": "1"}\n'


def line(tmp_path, text, name="q.jsonl"):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_ids_are_made_from_the_file_and_the_row(tmp_path):
    path = line(
        tmp_path, '{"question": "x", "answer": "1"}\n\n{"question": "y", "answer": "2", "id": null}\n', "set.jsonl"
    )
    assert [q.id for q in load(path)] == ["set-0", "set-1"]


def test_line_ends_byte_order_mark_and_nul(tmp_path):
    path = line(
        tmp_path, b'\xef\xbb\xbf{"question": "a\x00b", "answer": "1"}\r\n\r\n{"question": "c\td", "answer": "2"}\r\n'
    )
    assert [q.question for q in load(path)] == ["a\0b", "c\td"]
    path = line(tmp_path, b'\xef\xbb\xbfquestion,answer\r\n"two\r\nlines","1,5"\r\nx,2\r\n', "q.csv")
    assert [(q.question, q.answer) for q in load(path)] == [("two\r\nlines", "1,5"), ("x", "2")]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (18, "18"),
        (18.0, "18"),
        (-0.5, "-0.5"),
        ("18.0", "18.0"),
        (1e22, "1e+22"),
        (True, None),
        ([1], None),
        (math.inf, None),
    ],
)
def test_numbers_become_text(value, text):
    assert scalar_text(value) == text
    assert scalar_text(math.inf) is None


def test_number_columns_of_tables_are_read(tmp_path):
    rows = [
        {"id": 7, "question": "x", "answer": 18.0, "level": 5},
        {"id": 8, "question": "y", "answer": 0.5, "level": 1},
    ]
    assert [(q.id, q.answer, q.level) for q in load(write(tmp_path / "q.parquet", rows))] == [
        ("7", "18", "5"),
        ("8", "0.5", "1"),
    ]


def test_nan_in_a_table_is_nothing(tmp_path):
    row = build({"question": "x", "answer": "1", "level": math.nan, "points": math.nan}, "here", "q-0")
    assert (row.level, row.metadata) == (None, None)


def test_other_columns_are_kept_as_json(tmp_path):
    path = line(tmp_path, '{"question": "x", "answer": "1", "year": 2024, "tags": ["a"]}\n')
    assert json.loads(load(path)[0].metadata) == {"year": 2024, "tags": ["a"]}


@pytest.mark.parametrize(
    ("metadata", "extra", "expected"),
    [
        ('{"a": 1}', {}, {"a": 1}),
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ('{"a": 1}', {"b": 2}, {"a": 1, "b": 2}),
        ([1], {"b": 2}, {"metadata": [1], "b": 2}),
    ],
)
def test_a_metadata_column_is_kept(metadata, extra, expected):
    question = build({"question": "x", "answer": "1", "metadata": metadata, **extra}, "here", "q-0")
    assert json.loads(question.metadata) == expected


def test_answers_lose_their_white_space_but_code_does_not(tmp_path):
    assert build({"question": "x", "answer": " 18\n"}, "here", "q").answer == "18"
    assert (
        build({"question": "x", "answer": "    return 1\n", "verifier": "code"}, "here", "q").answer == "    return 1\n"
    )


def test_limit_takes_the_first_and_reads_no_further(tmp_path):
    path = line(tmp_path, '{"question": "x", "answer": "1"}\nnot json\n')
    assert len(load(path, limit=1)) == 1
    with pytest.raises(InputError):
        load(path, limit=2)


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_below_one_is_an_error(tmp_path, limit):
    path = line(tmp_path, '{"question": "x", "answer": "1"}\n')
    with pytest.raises(InputError, match=f"limit is {limit}: give a number of questions from 1 up"):
        load(path, limit=limit)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "q.jsonl",
            GOOD + "{oops}\n",
            r"q\.jsonl, line 2: not JSON \(.* column 2\); write one JSON object per",
        ),
        ("q.jsonl", GOOD + '{"question": "x"\n', r"line 2: not JSON"),
        ("q.jsonl", GOOD + "[1, 2]\n", r"line 2: not an object but a list; write a row as an object"),
        ("q.jsonl", GOOD + "5\n", r"line 2: not an object but a int"),
        ("q.jsonl", "[\n" + GOOD + "]\n", r"line 1: not JSON"),
        (
            "q.jsonl",
            "[" + GOOD.strip() + "]\n",
            r"line 1: a JSON list; .*, or name the file \.json",
        ),
        ("q.jsonl", '{"answer": "1"}\n', r"line 1: no question; every row needs a question and an answer"),
        ("q.jsonl", '{"problem": "x", "answer": "1"}\n', r"line 1: no question \(rename its field 'problem'\?\)"),
        ("q.jsonl", '{"question": "x", "anwser": "1"}\n', r"line 1: no answer \(rename its field 'anwser'\?\)"),
        ("q.jsonl", '{"question": "x", "answer": null}\n', r"line 1: no answer"),
        (
            "q.jsonl",
            '{"question": "x", "answer": "  "}\n',
            r"line 1: the answer is empty; fill it in or",
        ),
        ("q.jsonl", '{"question": "", "answer": "1"}\n', r"line 1: the question is empty"),
        ("q.jsonl", '{"question": "x", "answer": ["1"]}\n', r"line 1: answer is a list .*; write it as text"),
        ("q.jsonl", '{"question": "x", "answer": true}\n', r"line 1: answer is a bool"),
        ("q.jsonl", '{"question": {"a": 1}, "answer": "1"}\n', r"line 1: question is a dict"),
        ("q.jsonl", '{"question": "\\ud800", "answer": "1"}\n', r"line 1: question holds half a character"),
        ("q.jsonl", '{"question": "x", "answer": "1", "candidates": "2"}\n', r"line 1: candidates must be a list"),
        (
            "q.jsonl",
            '{"question": "x", "answer": "1", "candidates": ["2", ""]}\n',
            r"line 1: candidates must be a list",
        ),
        ("q.jsonl", '{"question": "x", "answer": "1", "candidates": "a, b"}\n', r"line 1: candidates is no list"),
        ("q.jsonl", '{"question": "x", "answer": "1", "metadata": "a", "b": 1}\n', r"line 1: metadata is not JSON"),
        (
            "q.jsonl",
            '{"id": "k", "question": "x", "answer": "1"}\n\n{"id": "k", "question": "y", "answer": "2"}\n',
            r"line 3: the id 'k' is already that of .*q\.jsonl, line 1; give each row its own id",
        ),
        ("q.jsonl", "[" * 100_000, r"line 1: JSON that cannot be read"),
        ("q.jsonl", '{"question": "x", "answer": ' + "1" * 5000 + "}", r"line 1: JSON that cannot be read"),
        ("q.jsonl", GOOD.encode() + "é".encode("latin-1"), r"line 2: not UTF-8 text; save the file as UTF-8"),
        ("q.jsonl", GOOD.encode("utf-16"), r"line 1: not UTF-8 text"),
        ("q.jsonl", "\n\n", r"q\.jsonl: holds no questions"),
        ("q.jsonl", "", r"q\.jsonl: holds no questions"),
        ("q.json", "", r"q\.json: holds no questions"),
        ("q.json", "[]", r"q\.json: holds no questions"),
        ("q.json", '{"question": "x", "answer": "1"}', r"q\.json: not a list but a dict; write a list of objects"),
        ("q.json", '[\n{"question": "x",\n "answer" "1"}]', r"q\.json, line 3: not JSON"),
        ("q.json", '[{"question": "x", "answer": "1"}, 5]', r"q\.json, row 2: not an object but a int"),
        ("q.csv", "question,answer\n", r"q\.csv: holds no questions"),
        ("q.csv", "question,reply\nx,1\n", r"q\.csv, line 2: no answer"),
        ("q.csv", "question,answer\nx,\n", r"q\.csv, line 2: the answer is empty"),
        (
            "q.csv",
            "question,answer\nx,1,2\n",
            r"q\.csv, line 2: more cells than the header has columns; quote the cells",
        ),
        ("q.csv", b"question,answer\nx,1\ny,\xe9\n", r"q\.csv, line 3: not UTF-8 text"),
        ("q.csv", 'question,answer\nx,"' + "a" * 200_000 + '"\n', r"q\.csv, line 2: not CSV \(field larger"),
        ("q.parquet", "no parquet", r"q\.parquet: not a whole Parquet file"),
        ("q.txt", GOOD, r"q\.txt: cannot read '\.txt' files; use \.jsonl, \.json, \.csv, \.parquet"),
    ],
)
def test_faults_are_told_in_one_line(tmp_path, name, content, message):
    path = line(tmp_path, content, name)
    with pytest.raises(InputError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_a_missing_file_names_the_nearest(tmp_path):
    line(tmp_path, GOOD, "gsm8k_test.jsonl")
    with pytest.raises(InputError, match=r"gsm8k_tset\.jsonl: no such file; did you mean 'gsm8k_test\.jsonl'\?"):
        load(tmp_path / "gsm8k_tset.jsonl")
    with pytest.raises(InputError, match=r"no such file; check the path"):
        load(tmp_path / "other.csv")
    with pytest.raises(InputError, match=r"no such file \(there is no folder .*nowhere\)"):
        load(tmp_path / "nowhere" / "q.csv")


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "q.jsonl").mkdir()
    with pytest.raises(InputError, match="is a folder; name a file in it"):
        load(tmp_path / "q.jsonl")


@given(
    st.lists(
        st.fixed_dictionaries(
            {"question": st.text(min_size=1).filter(str.strip), "answer": st.text(min_size=1).filter(str.strip)},
            optional={"solution": st.text(), "level": st.integers(0, 9) | st.none(), "extra": st.integers()},
        ),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_written_is_read(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("any") / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    questions = load(path)
    assert [q.question for q in questions] == [row["question"] for row in rows]
    assert [q.answer for q in questions] == [row["answer"].strip() for row in rows]
    assert len({q.id for q in questions}) == len(rows)


def test_real_files(data_dir):
    questions = load(data_dir / "gsm8k_test.jsonl", limit=3)
    assert [q.id for q in questions] == ["gsm8k-test-0", "gsm8k-test-1", "gsm8k-test-2"]
    assert questions[0].answer == "18"
    assert questions[0].solution.endswith("every day at the farmer’s market.")
