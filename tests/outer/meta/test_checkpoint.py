"""A meta-training's checkpoint: the state before the last one is there when the last one is not."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from innerloop.errors import InputError
from innerloop.outer import reference
from innerloop.outer.meta.checkpoint import MetaState, latest, load, save

VALUES: dict[str, Any] = {
    "settings": {"head": []},
    "step": 4,
    "spent": {"tokens": 1, "flops": 2.0},
    "families": ["a"],
    "combination": {},
    "tasks": {},
}


def state(step: int) -> MetaState:
    return MetaState({"weights/w": torch.full((3,), float(step))}, VALUES | {"step": step})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "R" / "checkpoints" / "meta.safetensors"
    (tmp_path / "R").mkdir()
    save(state(4), path)
    save(state(8), path)
    return path


def test_the_last_state_is_used(file: Path) -> None:
    found = latest(file)
    assert found is not None
    assert found.values["step"] == 8
    assert found.tensors["weights/w"].tolist() == [8.0] * 3
    assert latest(file.with_name("other.safetensors")) is None


@pytest.mark.parametrize("keep", [0, 5, 100])
def test_a_damaged_state_is_named_and_the_one_before_is_used(
    file: Path, keep: int, caplog: pytest.LogCaptureFixture
) -> None:
    os.truncate(file, keep)
    with caplog.at_level(logging.WARNING, "innerloop"):
        found = latest(file)
    assert found is not None
    assert found.values["step"] == 4
    assert str(file) in caplog.text
    assert "goes on from" in caplog.text


def test_without_the_last_state_the_one_before_is_used(file: Path) -> None:
    file.unlink()
    found = latest(file)
    assert found is not None
    assert found.values["step"] == 4


def test_where_none_can_be_read_one_line_says_so(file: Path) -> None:
    for entry in file.parent.iterdir():
        os.truncate(entry, 3)
    with pytest.raises(InputError, match=r"meta\.safetensors: no checkpoint of a meta-training .*; remove it"):
        latest(file)


@pytest.mark.parametrize(
    "values",
    [
        "[]",
        "{",
        json.dumps(VALUES | {"step": "4"}),
        json.dumps(VALUES | {"step": -1}),
        json.dumps(VALUES | {"settings": []}),
        json.dumps(VALUES | {"seconds": "long"}),
        json.dumps({name: value for name, value in VALUES.items() if name != "tasks"}),
        '{"step": 1, "step": 2}',
        "[" * 100_000,
    ],
)
def test_values_of_another_kind_are_no_checkpoint(tmp_path: Path, values: str) -> None:
    save_file({"weights/w": torch.ones(1)}, tmp_path / "m.safetensors", metadata={"innerloop-meta": values})
    with pytest.raises(InputError, match="no checkpoint of a meta-training") as caught:
        load(tmp_path / "m.safetensors")
    assert "\n" not in str(caught.value)


def test_a_state_replaces_a_file_and_follows_no_link(file: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("PRECIOUS")
    file.unlink()
    file.hardlink_to(precious)
    save(state(12), file)
    assert precious.read_text() == "PRECIOUS"
    file.unlink()
    file.symlink_to(precious)
    for use in (lambda: save(state(16), file), lambda: latest(file)):
        with pytest.raises(InputError, match="is a link"):
            use()
    assert precious.read_text() == "PRECIOUS"


# What dpo's reference read


def test_what_the_reference_read_is_of_these_pairs_or_read_again(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "reference.safetensors"
    reference.keep(path, "pairs", [1.0, 2.0], [3.0, 4.0])
    assert reference.kept(path, "pairs", 2) == ([1.0, 2.0], [3.0, 4.0])
    assert reference.kept(path, "others", 2) is None
    assert reference.kept(path, "pairs", 3) is None
    reference.keep(path, "pairs", [float("nan"), 2.0], [3.0, 4.0])
    assert reference.kept(path, "pairs", 2) is None
    os.truncate(path, 20)
    assert reference.kept(path, "pairs", 2) is None
    path.unlink()
    os.mkfifo(path)
    assert reference.kept(path, "pairs", 2) is None
