"""The launch script for verl: what its words are to the shell and to Hydra, whatever folders and models are called."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from innerloop.errors import InputError
from innerloop.verbs.train.verl_launch import InFolder, Variable, script, word

NAMES = [
    "plain-name_1.x",
    "M $(touch PWNED)",
    "M `touch PWNED`",
    'M"; touch PWNED; "',
    "M'; touch PWNED; '",
    "M\\'; touch PWNED; '",
    "M\\",
    "M\\\\' x \\\\",
    "a,b",
    "a=b {c: d} [e]",
    "$HOME $PATH ${",
    "$HERE$GPUS",
    "!! # ~ * ? |&<>",
    "-rf",
    "null",
    "123",
    "é θ 中",
    "50% @x \\${y",
]
#: Names that a script can be told of only by refusing them.
_LIVE = [name for name in NAMES if "${" in name]


def hydra_text(value: str) -> str:
    """What Hydra's grammar makes of a value: its rules for quotes, written down another way."""
    if not value.startswith("'"):
        assert not set(value) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-"), value
        assert value.lower() not in ("null", "true", "false", "")
        assert not value.isdigit()
        return value
    read, i = "", 1
    while True:
        run = 0
        while value[i] == "\\":
            run, i = run + 1, i + 1
        if value[i] != "'":
            read += "\\" * run + value[i]
        elif run % 2:
            read += "\\" * (run // 2) + "'"
        else:
            assert i == len(value) - 1, "the closing quotation mark is the last letter"
            return read + "\\" * (run // 2)
        i += 1


def launched(folder: Path, text: str, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script with a stand-in for Python that writes down what it was called with."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir(exist_ok=True)
    dump = bin_folder / "python3"
    dump.write_text(f"#!{sys.executable}\nimport json, os, sys\nprint(json.dumps([sys.argv[1:], dict(os.environ)]))\n")
    dump.chmod(0o755)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "launch.sh").write_text(text)
    (folder / "launch.sh").chmod(0o755)
    own = os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}", "HOME": "/", "CDPATH": "/tmp"}
    own.pop("PYTHONPATH", None)
    return subprocess.run(
        [folder / "launch.sh", "further=1"], env=own | environment, cwd=tmp_path, capture_output=True, text=True
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_one_word_of_the_shell_and_one_text_of_hydra(name: str, tmp_path: Path) -> None:
    if name in _LIVE:
        with pytest.raises(InputError, match="rename the folder"):
            word("model", name)
        return
    overrides = {
        "model": name,
        "list": ("console", name),
        "n": 3,
        "rate": 2e-6,
        "on": True,
        "GPUS": Variable("GPUS", 8),
    }
    text = script("train", "0", "python3 -m m", overrides)
    ran = launched(tmp_path / "x", text, tmp_path, GPUS="2")
    assert ran.returncode == 0, ran.stderr
    words, _ = json.loads(ran.stdout)
    assert words[:2] == ["-m", "m"]
    assert words[-5:] == ["n=3", "rate=2e-06", "on=True", "GPUS=2", "further=1"]
    assert words[2].startswith("model=")
    assert hydra_text(words[2].partition("=")[2]) == name
    listed = words[3].removeprefix("list=[console,").removesuffix("]")
    assert hydra_text(listed) == name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "x"], "nothing was executed"


@pytest.mark.parametrize("name", NAMES)
def test_the_script_finds_its_folder_whatever_it_is_called(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "in" / name
    overrides = {"data": InFolder("train.parquet"), "path": Variable("PYTHONPATH")}
    ran = launched(folder, script("train", "0", "python3", overrides), tmp_path, PYTHONPATH=f"/elsewhere/{name}")
    assert [path.name for path in (tmp_path / "in").iterdir()] == [name], "nothing was executed"
    assert [path.name for path in folder.iterdir()] == ["launch.sh"]
    if name in _LIVE:
        assert ran.returncode == 2
        assert "move it" in ran.stderr
        assert ran.stdout == ""
        return
    assert ran.returncode == 0, ran.stderr
    words, environment = json.loads(ran.stdout)
    assert len(words) == 3
    assert hydra_text(words[0].removeprefix("data=")) == f"{folder}/train.parquet"
    assert hydra_text(words[1].removeprefix("path=")) == f"{folder}:/elsewhere/{name}" == environment["PYTHONPATH"]


@pytest.mark.parametrize("name", ["a\nb", "a\n", "a\x1b]0;x\x07"])
def test_a_folder_with_control_characters_is_refused(name: str, tmp_path: Path) -> None:
    ran = launched(tmp_path / name, script("t", "0", "python3", {"data": InFolder("x")}), tmp_path)
    assert ran.returncode != 0
    assert ran.stdout == ""


def test_hydra_itself_reads_the_words_back() -> None:
    parser: Any = pytest.importorskip(
        "hydra.core.override_parser.overrides_parser", reason="hydra-core is not installed: it comes with verl"
    )
    import shlex

    for name in (*NAMES, "", " ", "a\nb", "'", "''", "\\", "\\\\", "\\'", "\\\\'", "true", "1e5", "nan", "-1", "a:b"):
        if name in _LIVE:
            continue
        [text] = shlex.split(word("model", name))
        override = parser.OverridesParser.create().parse_override(text)
        assert not override.is_sweep_override()
        assert override.value() == name
        assert type(override.value()) is str


@pytest.mark.model
@pytest.mark.parametrize("recipe", ["grpo", "sft"])
def test_an_export_of_a_model_in_an_odd_folder_runs_nothing(
    cli: Callable[..., Any], model: Path, questions_file: Path, tmp_path: Path, recipe: str
) -> None:
    odd = tmp_path / "M $(touch PWNED)\"`touch PWNED`';touch PWNED;' {a,b}=[c]"
    shutil.copytree(model, odd)
    out = tmp_path / "OUT $(touch PWNED) 'x'"
    words = ["--group", 2, "--batch-size", 4] if recipe == "grpo" else ["--trajectories", "solutions"]
    given = ["--model", odd, "--questions", questions_file, *words, "--seed", 1, "--export", "verl", out]
    ran = cli("train", recipe, *given)
    assert ran.status == 0, ran.err
    text = (out / "launch.sh").read_text().replace("\ntorchrun ", "\npython3 ")
    ran = launched(out, text, tmp_path)
    assert ran.returncode == 0, ran.stderr
    found, _ = json.loads(ran.stdout)
    options = dict(one.split("=", 1) for one in found if "=" in one)
    path = options["actor_rollout_ref.model.path" if recipe == "grpo" else "model.path"]
    assert hydra_text(path) == str(odd)
    assert hydra_text(options["data.train_files"]) == str(out / "train.parquet")
    assert not list(tmp_path.rglob("PWNED"))
