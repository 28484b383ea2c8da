"""Names of hub sources, and the field names and habits of public data sets."""

from __future__ import annotations

import pytest

from innerloop.errors import InputError
from innerloop.questions import hub, load
from innerloop.questions.mapping import split_hashes, to_row


@pytest.mark.parametrize("source", ["hf:", "hf:name", "hf::test", "hf:a:b:c:d", "hf:a::c"])
def test_a_source_needs_a_name_and_a_split(source):
    with pytest.raises(InputError, match="write hf:NAME:SPLIT or hf:NAME:CONFIG:SPLIT"):
        load(source)


def test_sources_are_read():
    assert hub.parse("hf:openai/gsm8k:main:test") == ("openai/gsm8k", "main", "test")
    assert hub.parse("hf:HuggingFaceH4/MATH-500:test") == ("HuggingFaceH4/MATH-500", None, "test")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"problem": "p", "answer": "4"}, {"question": "p", "answer": "4"}),
        ({"Problem": "p", "Answer": 4}, {"question": "p", "answer": 4}),
        (
            {"problem": "p", "solution": r"so \boxed{3} is \boxed{\frac{1}{2}}", "type": "Algebra"},
            {
                "question": "p",
                "answer": r"\frac{1}{2}",
                "solution": r"so \boxed{3} is \boxed{\frac{1}{2}}",
                "type": "Algebra",
            },
        ),
        (
            {"prompt": "p", "answer": r"work \boxed{7}"},
            {"question": "p", "answer": "7", "solution": r"work \boxed{7}"},
        ),
        ({"question": "p", "final_answer": ["7"]}, {"question": "p", "answer": "7"}),
        (
            {
                "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "p"}],
                "reward_model": {"style": "rule", "ground_truth": "7"},
            },
            {"question": "p", "answer": "7", "reward_model": {"style": "rule", "ground_truth": "7"}},
        ),
        (
            {"unique_id": "u", "problem": "p", "answer": "1", "level": 5},
            {"id": "u", "question": "p", "answer": "1", "level": 5},
        ),
    ],
)
def test_field_names_of_public_data_sets(row, expected):
    assert to_row(row, "here") == expected


@pytest.mark.parametrize(
    ("row", "missing"),
    [
        ({"frage": "p", "answer": "1"}, "question"),
        ({"question": "p", "solution": "no box"}, "answer"),
        ({"question": "p", "answer": ["1", "2"]}, "answer"),
        ({"prompt": [{"role": "system", "content": "s"}], "answer": "1"}, "question"),
    ],
)
def test_rows_that_cannot_be_mapped_are_named(row, missing):
    with pytest.raises(InputError, match=rf"here: no {missing} among its fields \(.*\); copy the data to a \.jsonl"):
        to_row(row, "here")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("work\n#### 18", ("work", "18")),
        ("work\n####18\n", ("work", "18")),
        ("#### 18", ("", "18")),
        ("a <<1+1=2>>2\n#### -1,234.5", ("a 2", "-1234.5")),
        ("work\n#### a, b", ("work", "a, b")),
        ("no mark", None),
        ("in a line #### 18", None),
    ],
)
def test_the_last_line_of_gsm8k(text, expected):
    assert split_hashes(text) == expected
