from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from innerloop.errors import InputError
from innerloop.rollout.given import given
from innerloop.schema import Mode, Outcome, Question, Source, Status, Trajectory
from innerloop.store import Run

QUESTIONS = [
    Question(id="a", question="1 + 1?", answer="2", solution="One more than one is two."),
    Question(id="b", question="2 + 2?", answer="4"),
]


def jsonl(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_solutions_are_right_by_definition_and_the_missing_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "innerloop"):
        (trajectory,) = given("solutions", QUESTIONS)
    assert (trajectory.id, trajectory.question_id, trajectory.text) == ("a/solution", "a", QUESTIONS[0].solution)
    assert (trajectory.source, trajectory.outcome) == (Source.SOLUTION, Outcome.RIGHT)
    assert len(caplog.records) == 1
    assert "1 of 2 questions have no worked solution" in caplog.text


def test_no_solution_at_all_is_told_with_the_remedy() -> None:
    with pytest.raises(InputError, match=r"none of the 1 questions has a worked solution.*--trajectories"):
        given("solutions", QUESTIONS[1:])


ROWS: list[dict[str, Any]] = [
    {"question_id": "b", "text": "two and two", "correct": True, "answer": "4", "model": "m"},
    {"question_id": "a", "text": "guess", "correct": False, "sample": 7},
    {"question_id": "b", "text": "who knows", "id": "mine", "final": "It is 4.", "mode": "thinking"},
]


def check_rows(found: list[Trajectory]) -> None:
    assert [t.id for t in found] == ["b/file-0", "a/file-0", "mine"]
    assert [t.outcome for t in found] == [Outcome.RIGHT, Outcome.WRONG, None]
    assert [t.sample for t in found] == [0, 7, 1]
    assert [(t.answer, t.model, t.final) for t in found] == [
        ("4", "m", None),
        (None, None, None),
        (None, None, "It is 4."),
    ]
    assert [t.mode for t in found] == [Mode.PLAIN, Mode.PLAIN, Mode.THINKING]
    assert all(t.source is Source.FILE and t.token_ids is None for t in found)


def test_every_file_kind_gives_the_same_trajectories(tmp_path: Path) -> None:
    check_rows(given(jsonl(tmp_path / "t.jsonl", *ROWS), QUESTIONS))
    (tmp_path / "t.json").write_text(json.dumps(ROWS))
    check_rows(given(str(tmp_path / "t.json"), QUESTIONS))
    names = {name: None for row in ROWS for name in row}
    pq.write_table(pa.Table.from_pylist([names | row for row in ROWS]), tmp_path / "t.parquet")
    check_rows(given(str(tmp_path / "t.parquet"), QUESTIONS))
    lines = [",".join(names)] + [",".join(str(row.get(name, "")) for name in names) for row in ROWS]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    check_rows(given(str(tmp_path / "t.csv"), QUESTIONS))


GOOD = {"question_id": "a", "text": "x"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "x"}, r"line 2: no question_id;"),
        ({"question": "a", "text": "x"}, r"line 2: no question_id;.*did you mean 'question'"),
        ({"question_id": "a"}, r"line 2: no text;"),
        ({"question_id": "a", "text": "  "}, r"line 2: the text is empty"),
        ({"question_id": "a", "text": ["x"]}, r"line 2: text is a list"),
        ({"question_id": "a", "text": "x \ud800"}, r"line 2: text holds half a character"),
        ({"question_id": "a", "text": "x", "correct": "perhaps"}, r"line 2: correct is 'perhaps'; write true or false"),
        ({"question_id": "a", "text": "x", "sample": -1}, r"line 2: sample is '-1'"),
        ({"question_id": "a", "text": "x", "mode": "loud"}, r"line 2: mode is 'loud'; write plain, thinking"),
        ({"question_id": "a", "text": "x", "id": "a/file-0"}, r"line 2: the id 'a/file-0' is already that of .*line 1"),
        ({"question_id": "zz", "text": "x"}, r"line 2: there is no question 'zz' \(1 of 2 rows belong to 1 unknown"),
        (["a", "x"], r"line 2: not an object but a list"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        given(jsonl(tmp_path / "t.jsonl", GOOD, row), QUESTIONS)


def test_a_line_that_is_not_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps(GOOD) + "\n{oops\n")
    with pytest.raises(InputError, match=r"t\.jsonl, line 2: not JSON"):
        given(str(tmp_path / "t.jsonl"), QUESTIONS)


def test_a_missing_source_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    jsonl(tmp_path / "trajectories.jsonl", GOOD)
    with pytest.raises(InputError, match=r"no such file.*did you mean 'trajectories\.jsonl'"):
        given(str(tmp_path / "trajectorys.jsonl"), QUESTIONS)
    with pytest.raises(InputError, match=r"'solution': no such file or run folder.*did you mean 'solutions'"):
        given("solution", QUESTIONS)


def test_questions_beyond_the_limit_are_left_out_in_silence_but_unknown_ones_are_not(tmp_path: Path) -> None:
    rows = [GOOD, {"question_id": "b", "text": "y"}, {"question_id": "a", "text": "z"}]
    source = jsonl(tmp_path / "t.jsonl", *rows)
    assert [t.id for t in given(source, QUESTIONS[:1], known={"a", "b"})] == ["a/file-0", "a/file-1"]
    with pytest.raises(InputError, match="no question 'b'"):
        given(source, QUESTIONS[:1])
    with pytest.raises(InputError, match="none of its 3 trajectories is for one of the 1 questions"):
        given(source, [Question(id="c", question="?", answer="1")], known={"a", "b", "c"})


def test_another_runs_trajectories_without_its_controls_and_failures(tmp_path: Path) -> None:
    sampled = Trajectory(id="a/sample-0", question_id="a", text="x", source=Source.SAMPLE, token_ids=(1, 2), seed=3)
    rows = [
        sampled,
        Trajectory(id="a/sample-0/shuffled", question_id="a", text="x", source=Source.SHUFFLED),
        Trajectory(id="a/sample-1", question_id="a", text="", source=Source.SAMPLE, status=Status.ERROR, reason="no"),
        Trajectory(id="z/sample-0", question_id="z", text="x", source=Source.SAMPLE),
    ]
    with Run.start(tmp_path / "R", "rollout", {}, command=None, model=None) as run:
        run.write("trajectories", Trajectory.to_table(rows))
    assert given(str(tmp_path / "R"), QUESTIONS) == [sampled]
    with pytest.raises(InputError, match="none of its 4 trajectories"):
        given(str(tmp_path / "R"), QUESTIONS[1:])


def test_a_folder_that_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run folder"):
        given(str(tmp_path), QUESTIONS)


def test_real_files_are_read(data_dir: Path) -> None:
    questions = given_questions(data_dir)
    found = given(str(data_dir / "gsm8k_test_model_trajectories.jsonl"), questions)
    assert len(found) == 4 * len(questions)
    assert {t.outcome for t in found} == {Outcome.RIGHT, Outcome.WRONG}


def given_questions(data_dir: Path) -> list[Question]:
    lines = (data_dir / "gsm8k_test.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [Question(id=row["id"], question=row["question"], answer=row["answer"]) for row in rows]
