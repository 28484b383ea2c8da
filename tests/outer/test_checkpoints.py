"""Which checkpoint a training goes on from: the newest that is whole, and never one that runs code."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import platformdirs
import pytest
import torch
from safetensors.torch import save_file

from innerloop.errors import InputError
from innerloop.outer import checkpoints
from innerloop.outer.checkpoints import any_there, last_whole, mark


@pytest.fixture(autouse=True)
def own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's key lives in the test's own folder."""
    monkeypatch.setattr(platformdirs, "user_data_path", lambda name: tmp_path / "data" / name)


def checkpoint(run: Path, step: int, *, whole: bool = True) -> Path:
    """A checkpoint as the trainer writes it, and marks it."""
    folder = run / "checkpoints" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    save_file({"w": torch.ones(3)}, folder / "model.safetensors")
    torch.save({"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}, folder / "optimizer.pt")
    torch.save({"last_epoch": step, "_last_lr": [0.1]}, folder / "scheduler.pt")
    torch.save({"cpu": torch.get_rng_state()}, folder / "rng_state.pth")
    torch.save({"learning_rate": 0.1}, folder / "training_args.bin")
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": [{"loss": 1.0}]}))
    if whole:
        mark(folder, 5.0 * step)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with two whole checkpoints."""
    for step in (8, 12):
        checkpoint(tmp_path / "R", step)
    return tmp_path / "R"


def latest(run: Path) -> tuple[str | None, float]:
    found, seconds = last_whole(run / "checkpoints", run)
    return (found.name if found else None), seconds


def cut(name: str, keep: int) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / name, keep)


def changed(name: str) -> Callable[[Path], None]:
    """One byte in the middle is another."""

    def change(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 0xFF
        (folder / name).write_bytes(content)

    return change


def removed(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


DAMAGE = {
    "an empty mark": cut("whole.json", 0),
    "half a mark": cut("whole.json", 20),
    "a mark of nothing": lambda folder: (folder / "whole.json").write_text("[]") and None,
    "cut weights": cut("model.safetensors", 30),
    "cut optimizer": cut("optimizer.pt", 200),
    "empty optimizer": cut("optimizer.pt", 0),
    "cut scheduler": cut("scheduler.pt", 100),
    "cut random state": cut("rng_state.pth", 100),
    "cut state": cut("trainer_state.json", 10),
    "empty state": cut("trainer_state.json", 0),
    "no weights": removed("model.safetensors"),
    "no optimizer": removed("optimizer.pt"),
    "no state": removed("trainer_state.json"),
    "other weights": changed("model.safetensors"),
    "other optimizer": changed("optimizer.pt"),
}


def test_the_newest_is_used(run: Path) -> None:
    assert latest(run) == ("checkpoint-12", 60.0)
    assert any_there(run / "checkpoints", run)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_one_is_set_aside_and_the_one_before_is_used(
    run: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    damage(run / "checkpoints" / "checkpoint-12")
    with caplog.at_level(logging.WARNING, "innerloop"):
        assert latest(run) == ("checkpoint-8", 40.0)
    (record,) = caplog.records
    said = record.getMessage()
    assert "checkpoint-12 is damaged (" in said
    assert said.endswith("kept as damaged-checkpoint-12, the training goes on from checkpoint-8")
    assert "\n" not in said
    assert sorted(entry.name for entry in (run / "checkpoints").iterdir()) == ["checkpoint-8", "damaged-checkpoint-12"]
    assert latest(run) == ("checkpoint-8", 40.0)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_where_none_is_whole_one_line_says_so_and_all_stay(run: Path, damage: Callable[[Path], None]) -> None:
    for step in (8, 12):
        damage(run / "checkpoints" / f"checkpoint-{step}")
    for _ in range(2):
        with pytest.raises(InputError, match="no checkpoint is whole") as caught:
            latest(run)
        said = str(caught.value)
        assert said.startswith(f"{run}/checkpoints: ")
        assert "checkpoint-12: " in said
        assert "checkpoint-8: " in said
        assert said.endswith(f"restore one, or remove {run}/checkpoints to train from the first step")
        assert "\n" not in said
    assert len(list((run / "checkpoints").iterdir())) == 2


def test_what_a_kill_left_is_removed(run: Path) -> None:
    checkpoint(run, 16, whole=False)
    assert latest(run) == ("checkpoint-12", 60.0)
    assert not (run / "checkpoints" / "checkpoint-16").exists()


def test_nothing_is_the_first_step(tmp_path: Path) -> None:
    assert last_whole(tmp_path / "checkpoints", tmp_path) == (None, 0.0)
    assert not any_there(tmp_path / "checkpoints", tmp_path)


def test_names_that_are_no_steps_are_left_alone(run: Path) -> None:
    (run / "checkpoints" / "checkpoint-last").mkdir()
    (run / "checkpoints" / "reference.safetensors").touch()
    assert latest(run) == ("checkpoint-12", 60.0)
    assert (run / "checkpoints" / "checkpoint-last").exists()


def test_an_older_versions_mark_is_taken(run: Path) -> None:
    (run / "checkpoints" / "checkpoint-12" / "whole.json").write_text('{"seconds": 7.5}')
    assert latest(run) == ("checkpoint-12", 7.5)
    (run / "checkpoints" / "checkpoint-12" / "optimizer.pt").unlink()
    assert latest(run) == ("checkpoint-8", 40.0)


def test_the_ends_of_large_files_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_DIGESTED_WHOLE", 1 << 10)
    monkeypatch.setattr(checkpoints, "_END", 1 << 10)
    run = tmp_path / "R"
    for step in (4, 8):
        folder = checkpoint(run, step, whole=False)
        save_file({"w": torch.zeros(10_000)}, folder / "model.safetensors")
        mark(folder, 1.0)
    assert latest(run)[0] == "checkpoint-8"
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    assert latest(run)[0] == "checkpoint-4"


# Code


class Attack:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.target),)


def re_mark(folder: Path) -> None:
    (folder / "whole.json").unlink()
    mark(folder, 1.0)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "pytorch_model.bin"])
def test_a_pickle_that_calls_something_is_not_run(run: Path, tmp_path: Path, name: str) -> None:
    folder = run / "checkpoints" / "checkpoint-12"
    torch.save({"state": Attack(tmp_path / "attacked")}, folder / name)
    re_mark(folder)
    assert latest(run)[0] == "checkpoint-8"
    (folder.parent / "damaged-checkpoint-12").rename(folder)
    (folder / name).write_bytes(pickle.dumps(Attack(tmp_path / "attacked")))
    re_mark(folder)
    assert latest(run)[0] == "checkpoint-8"
    assert not (tmp_path / "attacked").exists()


def test_the_trainers_own_arguments_are_never_read(run: Path, tmp_path: Path) -> None:
    folder = run / "checkpoints" / "checkpoint-12"
    (folder / "training_args.bin").write_bytes(pickle.dumps(Attack(tmp_path / "attacked")))
    re_mark(folder)
    assert latest(run)[0] == "checkpoint-12"
    assert not (tmp_path / "attacked").exists()


def test_tensors_that_unpack_to_more_than_they_are_are_not_loaded(run: Path) -> None:
    folder = run / "checkpoints" / "checkpoint-12"
    with zipfile.ZipFile(folder / "optimizer.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("archive/data.pkl", b"\x00" * 1_000_000)
    re_mark(folder)
    assert latest(run)[0] == "checkpoint-8"


@pytest.mark.parametrize("name", ["global_step12/mp_rank_00_model_states.pt", "pytorch_model_fsdp_0/.metadata"])
def test_what_only_unpickling_reads_is_taken_from_nobody_else(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = run / "checkpoints" / "checkpoint-12"
    (folder / name).parent.mkdir()
    (folder / name).write_bytes(pickle.dumps(Attack(tmp_path / "attacked")))
    re_mark(folder)
    assert latest(run)[0] == "checkpoint-12", "written here, by this user"
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    monkeypatch.setattr(platformdirs, "user_data_path", lambda name: tmp_path / "another" / name)
    assert latest(copy)[0] == "checkpoint-8"
    monkeypatch.undo()
    assert not (tmp_path / "attacked").exists()


def test_a_seal_holds_for_what_was_written_alone(run: Path) -> None:
    folder = run / "checkpoints" / "checkpoint-12"
    (folder / "global_step12").mkdir()
    (folder / "global_step12" / "a.pt").write_bytes(b"ours")
    re_mark(folder)
    content = json.loads((folder / "whole.json").read_text())
    (folder / "global_step12" / "a.pt").write_bytes(b"evil")
    content["files"]["global_step12/a.pt"] = checkpoints._about(folder / "global_step12" / "a.pt")
    (folder / "whole.json").write_text(json.dumps(content))
    assert latest(run)[0] == "checkpoint-8"
