"""Run folders from somebody else: an archive keeps links, and none of them leads a command out of the folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from innerloop import atomic
from innerloop.atomic import is_file, names_in, read_file, refuse_links, remove_folder, write_file, write_with
from innerloop.errors import InputError
from innerloop.lock import locked
from innerloop.outer.checkpoints import last_whole
from innerloop.report.page import write as write_page
from innerloop.schema import Question
from innerloop.store import Run
from innerloop.testing.runs import write_run
from innerloop.verbs.train.saved import finished

QUESTION = Question(id="q", question="?", answer="1")


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A file of the user's, which nothing may change."""
    file = tmp_path / "precious.txt"
    file.write_text("PRECIOUS")
    return file


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A folder of the user's, with what looks like leavings of ours."""
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / ".00000.parquet.1.tmp").write_text("mine")
    (folder / "00000.parquet").write_text("mine, too")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "R", [QUESTION])


def start(run: Path) -> None:
    with Run.start(run, "eval", {}) as started:
        started.write("scores" if (run / "scores").exists() else "questions", Question.to_table([QUESTION]))


def test_a_lock_that_is_a_link_is_named_and_not_followed(run: Path, precious: Path) -> None:
    (run / ".lock").unlink()
    (run / ".lock").symlink_to(precious)
    with pytest.raises(InputError, match=r"R/\.lock: is a link, .*; remove it"):
        start(run)
    assert precious.read_text() == "PRECIOUS"


def test_a_lock_that_is_another_name_of_a_file_leaves_it_as_it_is(run: Path, precious: Path) -> None:
    (run / ".lock").unlink()
    (run / ".lock").hardlink_to(precious)
    with locked(run):
        assert precious.read_text() == "PRECIOUS"
    assert precious.read_text() == "PRECIOUS"


def test_a_lock_that_is_a_pipe_holds_nobody_up(run: Path) -> None:
    (run / ".lock").unlink()
    os.mkfifo(run / ".lock")
    with pytest.raises(InputError, match=r"R/\.lock: is no file but a pipe"):
        start(run)


@pytest.mark.parametrize("name", ["run.json", "report.html"])
def test_a_file_that_is_a_link_is_named_and_not_followed(run: Path, precious: Path, name: str) -> None:
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(precious)
    with pytest.raises(InputError, match=rf"R/{name}: is a link"):
        write_page(run)
    with pytest.raises(InputError, match=rf"R/{name}: is a link"):
        write_file(run / name, b"ours")
    assert precious.read_text() == "PRECIOUS"
    assert (run / name).is_symlink()


def test_a_file_that_is_another_name_is_replaced_and_the_other_stays(run: Path, precious: Path) -> None:
    (run / "report.html").hardlink_to(precious)
    write_page(run)
    assert precious.read_text() == "PRECIOUS"
    assert (run / "report.html").read_text() != "PRECIOUS"


def test_a_temporary_name_that_was_there_before_is_not_followed(run: Path, precious: Path) -> None:
    (run / f".report.html.{os.getpid()}.tmp").symlink_to(precious)
    write_page(run)
    assert precious.read_text() == "PRECIOUS"
    assert not (run / f".report.html.{os.getpid()}.tmp").is_symlink()


@pytest.mark.parametrize("stage", ["questions", "curves", "steps"])
def test_a_stage_that_is_a_link_is_named_and_not_followed(run: Path, other: Path, stage: str) -> None:
    for shard in (run / stage).glob("*"):
        shard.unlink()
    if (run / stage).exists():
        (run / stage).rmdir()
    (run / stage).symlink_to(other)
    before = {file.name: file.read_text() for file in other.iterdir()}
    for action in (lambda: start(run), lambda: Run.open(run).read(stage)):
        with pytest.raises(InputError, match=rf"R/{stage}: is a link"):
            action()
    assert {file.name: file.read_text() for file in other.iterdir()} == before


def test_a_shard_that_is_a_link_or_a_pipe_is_named(run: Path, precious: Path) -> None:
    (run / "questions" / "00009.parquet").symlink_to(precious)
    with pytest.raises(InputError, match=r"questions/00009\.parquet: is a link"):
        Run.open(run).questions()
    (run / "questions" / "00009.parquet").unlink()
    os.mkfifo(run / "questions" / "00009.parquet")
    with pytest.raises(InputError, match=r"questions/00009\.parquet: is no file but a folder, pipe or device"):
        Run.open(run).questions()


@pytest.mark.parametrize("name", ["zzz.parquet", "0abc.parquet", "9" * 200 + ".parquet", "1.2.parquet"])
def test_names_that_are_no_numbers_are_no_shards(run: Path, name: str) -> None:
    (run / "questions" / name).write_text("x")
    assert len(Run.open(run).questions()) == 1
    start(run)


def test_the_run_folder_itself_may_be_a_link(run: Path, tmp_path: Path) -> None:
    (tmp_path / "L").symlink_to(run)
    start(tmp_path / "L")
    assert write_page(tmp_path / "L").exists()


@pytest.mark.parametrize(
    "place", ["checkpoints", "checkpoints/checkpoint-8", "checkpoints/checkpoint-8/model.safetensors"]
)
def test_checkpoints_behind_links_are_named_and_left_alone(run: Path, other: Path, place: str) -> None:
    (run / place).parent.mkdir(parents=True, exist_ok=True)
    (run / place).symlink_to(other)
    with pytest.raises(InputError, match=rf"R/{place}: is a link"):
        last_whole(run / "checkpoints", run)
    assert len(list(other.iterdir())) == 2


@pytest.mark.parametrize("name", ["model", "model.unfinished", "adapter", "adapter.unfinished"])
def test_a_model_folder_that_is_a_link_is_not_emptied(run: Path, other: Path, name: str) -> None:
    (run / name).symlink_to(other)
    with pytest.raises(InputError, match=rf"R/{name}: is a link"):
        remove_folder(run / name, run)
    assert len(list(other.iterdir())) == 2


def test_a_trained_model_behind_a_link_does_not_count(run: Path, other: Path) -> None:
    (other / "config.json").write_text("{}")
    (run / "model").symlink_to(other)
    with Run.start(run, "train sft", {}) as started:
        started.note("trained", True)
        with pytest.raises(InputError, match="R/model: is a link"):
            finished(started, None)


def test_a_folder_is_emptied_without_following_what_is_in_it(run: Path, other: Path) -> None:
    (run / "adapter").mkdir()
    (run / "adapter" / "inside").symlink_to(other)
    remove_folder(run / "adapter", run)
    assert not (run / "adapter").exists()
    assert len(list(other.iterdir())) == 2


def test_what_libraries_write_goes_where_it_should(run: Path, precious: Path) -> None:
    (run / "state").hardlink_to(precious)
    write_with(run / "state", lambda temporary: temporary.write_bytes(b"new") and None, root=run)
    assert ((run / "state").read_text(), precious.read_text()) == ("new", "PRECIOUS")


def test_links_pipes_and_sizes_below_a_root(tmp_path: Path, precious: Path) -> None:
    root = tmp_path / "R"
    (root / "a").mkdir(parents=True)
    (root / "a" / "file").write_text("12345")
    assert read_file(root / "a" / "file", root=root, most=5) == b"12345"
    with pytest.raises(InputError, match="larger than 0 MiB"):
        read_file(root / "a" / "file", root=root, most=4)
    assert is_file(root / "a" / "file", root=root)
    assert not is_file(root / "a", root=root)
    assert not is_file(root / "b" / "c", root=root)
    assert names_in(root / "a", root) == ["file"]
    assert names_in(root / "none", root) == []
    refuse_links(root, root.parent)
    os.mkfifo(root / "a" / "pipe")
    with pytest.raises(InputError, match="neither file nor folder"):
        refuse_links(root / "a", root)
    with pytest.raises(InputError, match="is no file but a folder, pipe or device"):
        read_file(root / "a" / "pipe", most=5)


def test_a_path_that_leaves_its_root_is_our_own_mistake(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with (
        pytest.raises(AssertionError, match="is not below"),
        atomic.opened_folder(tmp_path / "a" / "..", tmp_path / "a"),
    ):
        pytest.fail("it was opened")
