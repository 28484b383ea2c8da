"""A run folder keeps what was finished and says what is wrong with it."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import re
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innerloop import store
from innerloop.errors import InputError
from innerloop.schema import Curve, Question, Source, Trajectory
from innerloop.store import STAGES, Run, write_file


def question(number: int, text: str = "How many?") -> Question:
    return Question(id=f"q-{number}", question=text, answer=str(number), candidates=("1", "2"))


def curve(number: int, positions: int = 3) -> Curve:
    return Curve(
        question_id=f"q-{number}",
        trajectory_id=f"q-{number}/solution",
        position=tuple(range(positions)),
        token_id=(None, *range(1, positions)),
        token=(None, *("x" * (positions - 1))),
        loss=tuple(float(i) for i in range(positions)),
        answer_tokens=1,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of four questions in two shards."""
    with Run.start(tmp_path / "R", "probe", {"seed": 0, "every": [1, 2]}) as run:
        run.write("questions", Question.to_table([question(0), question(1)]))
        run.write("questions", Question.to_table([question(2), question(3)]))
    return tmp_path / "R"


def flip_a_byte(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


# What comes back


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    trajectory = Trajectory(
        id="q-0/sample-0", question_id="q-0", text="so", source=Source.SAMPLE, token_ids=(1, 2), tokens=2, logprob=-1.5
    )
    with Run.start(tmp_path / "R", "probe", {}) as run:
        run.write("questions", Question.to_table([question(0)]))
        run.write("trajectories", Trajectory.to_table([trajectory]))
        run.write("curves", Curve.to_table([curve(0), curve(1)]))
    run = Run.open(tmp_path / "R")
    assert run.questions() == [question(0)]
    assert run.trajectories() == [trajectory]
    assert run.curves() == [curve(0), curve(1)]
    assert run.done("curves") == {"q-0/solution", "q-1/solution"}
    assert run.done("curves", "question_id") == {"q-0", "q-1"}


@pytest.mark.parametrize("stage", STAGES)
def test_an_empty_stage_is_an_empty_table_with_the_right_columns(tmp_path: Path, stage: str) -> None:
    with Run.start(tmp_path / "R", "probe", {}) as run:
        table = run.read(stage)
    assert table.num_rows == 0
    assert ("loss" if stage == "curves" else "id") in table.column_names


@settings(max_examples=30, deadline=None)
@given(shards=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True), max_size=5))
@pytest.mark.slow
def test_units_written_again_count_once_and_the_later_one_counts(
    tmp_path_factory: pytest.TempPathFactory, shards: list[list[int]]
) -> None:
    folder = tmp_path_factory.mktemp("runs") / "R"
    expected: dict[str, Question] = {}
    with Run.start(folder, "probe", {}) as run:
        for index, numbers in enumerate(shards):
            records = [question(number, text=f"shard {index}") for number in numbers]
            run.write("questions", Question.to_table(records))
            expected |= {record.id: record for record in records}
        assert {record.id: record for record in run.questions()} == expected
        assert len(run.questions()) == len(expected) == run.read("questions").num_rows


def test_a_curve_written_twice_is_not_doubled(tmp_path: Path) -> None:
    with Run.start(tmp_path / "R", "probe", {}) as run:
        run.write("curves", Curve.to_table([curve(0), curve(1)]))
        run.write("curves", Curve.to_table([curve(1), curve(2)]))
        assert run.curves() == [curve(0), curve(1), curve(2)]


def test_a_shard_of_another_version_is_read_as_far_as_it_is_known(tmp_path: Path) -> None:
    with Run.start(tmp_path / "R", "probe", {}) as run:
        shard = run.write("questions", Question.to_table([question(0)]))
        table = pa.table({"id": ["q-9"], "question": ["?"], "answer": ["9"], "colour": ["red"]})
        pa.parquet.write_table(table, shard.with_name("00001.parquet"))
        assert run.questions()[1] == Question(id="q-9", question="?", answer="9")


# Many shards


@settings(max_examples=30, deadline=None)
@given(shards=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True), max_size=20))
@pytest.mark.slow
def test_small_shards_become_one_and_nothing_else_changes(
    tmp_path_factory: pytest.TempPathFactory, shards: list[list[int]]
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    with (
        Run.start(folder / "merged", "probe", {}) as merged,
        Run.start(folder / "plain", "probe", {}) as plain,
        pytest.MonkeyPatch.context() as patch,
    ):
        for index, numbers in enumerate(shards):
            table = Question.to_table([question(number, text=f"shard {index}") for number in numbers])
            patch.setattr(store, "_MOST_SMALL", 1000)
            plain.write("questions", table)
            patch.setattr(store, "_MOST_SMALL", 4)
            merged.write("questions", table)
            assert len(list((folder / "merged/questions").glob("*"))) < 4
        assert merged.questions() == plain.questions()
        assert merged.read("questions") == plain.read("questions")


@pytest.mark.slow
def test_a_run_of_many_hours_leaves_few_shards(tmp_path: Path) -> None:
    with Run.start(tmp_path / "R", "probe", {}) as run:
        for number in range(200):
            run.write("questions", Question.to_table([question(number)]))
        names = sorted(path.name for path in (tmp_path / "R/questions").iterdir())
        assert len(names) < 64
        assert names[-1] == "00199.parquet"
        assert [record.id for record in run.questions()] == [f"q-{number}" for number in range(200)]


def test_large_shards_are_not_written_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_MOST_SMALL", 4)
    with Run.start(tmp_path / "R", "probe", {}) as run:
        first = run.write("questions", Question.to_table([question(0)]))
        before = first.stat().st_mtime_ns
        monkeypatch.setattr(store, "_SMALL", first.stat().st_size)
        for number in range(1, 9):
            run.write("questions", Question.to_table([question(number)]))
        assert first.stat().st_mtime_ns == before
        assert len(run.questions()) == 9


@pytest.mark.parametrize("removed", [0, 1, 2])
def test_a_kill_in_the_middle_of_merging_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed: int
) -> None:
    monkeypatch.setattr(store, "_MOST_SMALL", 4)
    real, calls = store.remove_file, []

    def remove(path: Path, root: Path) -> None:
        calls.append(path)
        if len(calls) > removed:
            raise KeyboardInterrupt
        real(path, root)

    with pytest.raises(KeyboardInterrupt), Run.start(tmp_path / "R", "probe", {}) as run:  # noqa: PT012  # the whole block is what fails
        for number in range(3):
            run.write("questions", Question.to_table([question(number), question(9, text=f"at {number}")]))
        with monkeypatch.context() as patch:
            patch.setattr(store, "remove_file", remove)
            run.write("questions", Question.to_table([question(3)]))
    assert len(list((tmp_path / "R/questions").glob("*.parquet"))) == 4 - removed
    with Run.start(tmp_path / "R", "probe", {}) as run:
        run.write("questions", Question.to_table([question(4)]))
        found = {record.id: record.question for record in run.questions()}
    assert found == {f"q-{number}": "How many?" for number in range(5)} | {"q-9": "at 2"}


@pytest.mark.parametrize("damage", ["corrupt", "newer"])
def test_shards_that_are_not_fully_understood_are_not_merged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(store, "_MOST_SMALL", 4)
    with Run.start(tmp_path / "R", "probe", {}) as run:
        shards = [run.write("questions", Question.to_table([question(number)])) for number in range(2)]
        if damage == "corrupt":
            flip_a_byte(shards[1], at=40)
        else:
            table = pa.table({"id": ["q-1"], "question": ["?"], "answer": ["9"], "colour": ["red"]})
            pa.parquet.write_table(table, shards[1])
        content = shards[1].read_bytes()
        for number in range(2, 6):
            run.write("questions", Question.to_table([question(number)]))
        assert [record.id for record in run.questions()] == [f"q-{n}" for n in range(6) if n != 1 or damage == "newer"]
        assert content in [path.read_bytes() for path in (tmp_path / "R/questions").iterdir()]


def test_a_reader_is_not_troubled_by_shards_that_go_meanwhile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.open(folder)
    stale = [*run._shards("questions"), folder / "questions" / "00009.parquet"]
    answers = [stale, run._shards("questions")]
    monkeypatch.setattr(Run, "_shards", lambda self, stage: answers.pop(0))
    assert len(run.questions()) == 4


def test_a_full_disk_while_merging_keeps_all_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_MOST_SMALL", 3)

    def full(path: Path, content: object, **where: Path) -> Path:
        if path.suffix == ".parquet" and path.exists():
            raise InputError("full")
        return write_file(path, content, **where)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "write_file", full)
    with Run.start(tmp_path / "R", "probe", {}) as run:
        for number in range(6):
            run.write("questions", Question.to_table([question(number)]))
        assert len(list((tmp_path / "R/questions").glob("*.parquet"))) == 6
        assert len(run.questions()) == 6


def test_a_stage_that_is_replaced_holds_the_new_rows_alone(folder: Path) -> None:
    with Run.start(folder, "probe", {"seed": 0, "every": [1, 2]}) as run:
        run.replace("questions", Question.to_table([question(3), question(7)]))
        assert [record.id for record in run.questions()] == ["q-3", "q-7"]
        assert len(list((folder / "questions").iterdir())) == 1


def test_shards_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    with Run.start(tmp_path / "R", "probe", {}) as run:
        first = run.write("questions", Question.to_table([question(0, text="old")]))
        first.rename(first.with_name("99999.parquet"))
        run.write("questions", Question.to_table([question(0, text="new")]))
        assert (tmp_path / "R/questions/100000.parquet").exists()
        assert [record.question for record in run.questions()] == ["new"]


# The manifest


def test_the_manifest_says_what_was_run(tmp_path: Path) -> None:
    with Run.start(tmp_path / "R", "probe", {"seed": 7}, command=["innerloop", "probe"], model={"name": "m"}):
        during = Run.open(tmp_path / "R").manifest["stages"]["probe"]
    after = Run.open(tmp_path / "R").manifest["stages"]["probe"]
    assert (during["status"], during["finished"]) == ("running", None)
    assert after["status"] == "complete"
    assert after["command"] == ["innerloop", "probe"]
    assert (after["seed"], after["configuration"], after["model"]) == (7, {"seed": 7}, {"name": "m"})
    assert "innerloop" in after["versions"]
    assert "python" in after["versions"]
    assert after["started"] <= after["finished"]


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "interrupted"), (RuntimeError, "failed")])
def test_the_manifest_says_how_a_run_ended(tmp_path: Path, error: type[BaseException], status: str) -> None:
    def work() -> None:
        with Run.start(tmp_path / "R", "probe", {}) as run:
            run.write("questions", Question.to_table([question(0)]))
            raise error

    with pytest.raises(error):
        work()
    assert Run.open(tmp_path / "R").manifest["stages"]["probe"]["status"] == status
    with Run.start(tmp_path / "R", "probe", {}):
        pass
    assert Run.open(tmp_path / "R").manifest["stages"]["probe"]["status"] == "complete"


@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError])
def test_a_first_start_that_wrote_nothing_leaves_no_trace(
    tmp_path: Path, folder: Path, error: type[BaseException]
) -> None:
    with pytest.raises(error), Run.start(tmp_path / "new", "probe", {"model": "smolm2"}):
        raise error
    assert not (tmp_path / "new").exists()
    with pytest.raises(error), Run.start(folder, "rollout", {"model": "smolm2"}):
        raise error
    assert list(Run.open(folder).manifest["stages"]) == ["probe"]
    assert len(Run.open(folder).questions()) == 4
    with pytest.raises(error), Run.start(folder, "probe", {"seed": 0, "every": [1, 2]}):
        raise error
    assert len(Run.open(folder).questions()) == 4, "a later start is never undone"


def test_findings_are_kept_over_restarts(tmp_path: Path) -> None:
    with Run.start(tmp_path / "R", "probe", {}) as run:
        assert run.noted("x") is None
        run.note("x", {"a": 1})
    with Run.start(tmp_path / "R", "probe", {}) as run:
        assert run.noted("x") == {"a": 1}


def test_two_verbs_share_a_folder(folder: Path) -> None:
    with Run.start(folder, "rollout", {"seed": 3}):
        pass
    stages = Run.open(folder).manifest["stages"]
    assert (stages["probe"]["seed"], stages["rollout"]["seed"]) == (0, 3)


def test_another_configuration_is_refused_and_the_differences_are_listed(folder: Path) -> None:
    with (
        pytest.raises(InputError, match=r"seed: 0 → 1; every: \[1, 2\] → \"all\"; new: \(absent\) → true\); .*--out"),
        Run.start(folder, "probe", {"seed": 1, "every": "all", "new": True}),
    ):
        pytest.fail("the run started")
    assert Run.open(folder).manifest["stages"]["probe"]["configuration"]["seed"] == 0


def test_free_fields_may_differ_and_tuples_equal_lists(folder: Path) -> None:
    with Run.start(folder, "probe", {"seed": 0, "every": (1, 2), "threads": 4}, free={"threads"}) as run:
        assert len(run.questions()) == 4


def test_how_much_is_done_may_change_and_changes_are_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def start(**configuration: object) -> dict[str, object]:
        with (
            caplog.at_level(logging.INFO, "innerloop"),
            Run.start(tmp_path / "R", "rollout", configuration, extent={"samples", "limit"}) as run,
        ):
            run.write("questions", Question.to_table([question(0)]))
        return Run.open(tmp_path / "R").manifest["stages"]["rollout"]

    assert start(samples=8, limit=None, seed=0)["changes"] == []
    entry = start(samples=16, limit=None, seed=0)
    assert entry["configuration"] == {"samples": 16, "limit": None, "seed": 0}
    assert "goes on with samples 8 → 16" in caplog.text
    start(samples=16, limit=None, seed=0)
    changes = start(samples=4, limit=3, seed=0)["changes"]
    assert [(c["field"], c["from"], c["to"]) for c in changes] == [  # type: ignore[attr-defined]
        ("samples", 8, 16),
        ("samples", 16, 4),
        ("limit", None, 3),
    ]
    with pytest.raises(InputError, match=r"another configuration \(seed: 0 → 1\)"):
        start(samples=4, limit=3, seed=1)


def test_another_model_under_the_same_name_is_refused(tmp_path: Path) -> None:
    with Run.start(tmp_path / "R", "probe", {}, model={"name": "m", "fingerprint": "aa", "device": "cpu"}):
        pass
    with Run.start(tmp_path / "R", "probe", {}) as run:
        run.record_model({"name": "m", "fingerprint": "aa", "device": "cuda"})
        with pytest.raises(InputError, match=r"another model, fingerprint: aa → bb; .*--out"):
            run.record_model({"name": "m", "fingerprint": "bb"})


# Folders that are no runs


def test_opening_what_is_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none: not a run folder \(does not exist\)"):
        Run.open(tmp_path / "none")
    with pytest.raises(InputError, match=r"not a run folder \(has no run.json\)"):
        Run.open(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"run.json: cannot be read"),
        ("[]", r"not a run's manifest"),
        ('{"format": 99, "stages": {}}', r"format 99, but .* reads format 1"),
    ],
)
def test_a_manifest_that_cannot_be_used(folder: Path, content: str, message: str) -> None:
    (folder / "run.json").write_text(content)
    with pytest.raises(InputError, match=message):
        Run.open(folder)
    with pytest.raises(InputError, match=message), Run.start(folder, "probe", {}):
        pytest.fail("the run started")


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match=r"holds thesis.tex but no run.json"), Run.start(tmp_path, "probe", {}):
        pytest.fail("the run started")


# Trouble with the disk


@pytest.mark.parametrize(
    ("call", "code", "message"),
    [
        ("write", errno.ENOSPC, r"No space left on device; free some space"),
        ("fsync", errno.EDQUOT, r"quota exceeded; free some space"),
        ("write", errno.EFBIG, r"File too large; free some space"),
        ("open", errno.EROFS, r"Read-only file system; choose a folder that can be written with --out"),
        ("open", errno.EACCES, r"Permission denied; choose a folder"),
    ],
)
def test_a_failed_write_is_one_line_and_leaves_nothing_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, message: str
) -> None:
    before = sorted(folder.rglob("*"))

    def fail(*args: object, **kwargs: object) -> int:
        raise OSError(code, os.strerror(code))

    with Run.start(folder, "probe", {"seed": 0, "every": [1, 2]}) as run:
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            with pytest.raises(InputError, match=message) as caught:
                run.write("questions", Question.to_table([question(4)]))
        assert "\n" not in str(caught.value)
        assert sorted(folder.rglob("*")) == before
        assert len(run.questions()) == 4
        run.write("questions", Question.to_table([question(4)]))  # and after some space was freed
        assert len(run.questions()) == 5


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, content: real(handle, bytes(content)[:3]))
    assert write_file(tmp_path / "x", b"0123456789").read_bytes() == b"0123456789"


def test_a_run_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write, Not a directory"), Run.start(tmp_path / "file/R", "probe", {}):
        pytest.fail("the run started")


def test_leftovers_of_a_killed_process_are_cleaned_at_the_next_start(folder: Path) -> None:
    leftover = folder / "questions" / ".00002.parquet.99999.tmp"
    leftover.write_bytes(b"half a sha")
    assert len(Run.open(folder).questions()) == 4
    with Run.start(folder, "probe", {"seed": 0, "every": [1, 2]}):
        assert not leftover.exists()


# Corrupt shards


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "not parquet", "column missing"])
def test_a_corrupt_shard_is_named_and_the_rest_is_used(
    folder: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    shard = folder / "questions" / "00000.parquet"
    if damage == "truncated":
        shard.write_bytes(shard.read_bytes()[:-20])
    elif damage == "empty":
        shard.write_bytes(b"")
    elif damage == "flipped":
        flip_a_byte(shard, at=40)
    elif damage == "not parquet":
        shard.write_text("hello")
    else:
        pa.parquet.write_table(pa.table({"id": ["q-0"]}), shard)
    run = Run.open(folder)
    with caplog.at_level(logging.WARNING, "innerloop"):
        assert run.done("questions") == {"q-2", "q-3"}
        assert [record.id for record in run.questions()] == ["q-2", "q-3"]
    assert len(caplog.records) == 1, "named once, not at every reading"
    assert re.search(r"questions/00000\.parquet is corrupt and left out \(.+\)", caplog.text)


def test_a_corrupt_shard_is_set_aside_when_its_units_are_redone(folder: Path) -> None:
    flip_a_byte(folder / "questions" / "00001.parquet", at=40)
    with Run.start(folder, "probe", {"seed": 0, "every": [1, 2]}) as run:
        missing = {f"q-{i}" for i in range(4)} - run.done("questions")
        assert missing == {"q-2", "q-3"}
        run.write("questions", Question.to_table([question(2), question(3)]))
        assert {record.id for record in run.questions()} == {f"q-{i}" for i in range(4)}
    names = sorted(path.name for path in (folder / "questions").iterdir())
    assert names == ["00000.parquet", "00001.parquet.corrupt", "00002.parquet"]


# One writer at a time


def test_a_second_writer_is_refused_by_folder_and_pid(folder: Path) -> None:
    configuration = {"seed": 0, "every": [1, 2]}
    with Run.start(folder, "probe", configuration):
        message = rf"{re.escape(str(folder))}: in use by another innerloop process \(pid {os.getpid()}\)"
        with pytest.raises(InputError, match=message), Run.start(folder, "probe", configuration):
            pytest.fail("the run started")
        assert len(Run.open(folder).questions()) == 4, "readers are never locked out"
    with Run.start(folder, "probe", configuration):
        pass


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_worker_does_not_keep_the_lock(folder: Path) -> None:
    configuration = {"seed": 0, "every": [1, 2]}
    context = multiprocessing.get_context("fork")
    alive, done = context.Event(), context.Event()

    def work() -> None:
        alive.set()
        done.wait()

    with Run.start(folder, "probe", configuration):
        worker = context.Process(target=work)
        worker.start()
        assert alive.wait(30)
    try:
        with Run.start(folder, "probe", configuration):
            pass
    finally:
        done.set()
        worker.join()
