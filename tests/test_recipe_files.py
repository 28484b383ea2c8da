"""``--recipe FILE``: settings from a file, and every file that ships."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Ran

Cli = Callable[..., Ran]
RECIPES = Path(__file__).resolve().parents[1] / "recipes"
FILES = sorted(RECIPES.glob("*/*.toml"))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The settings that ``probe`` was called with."""
    found: list[Any] = []

    def probe(settings: Any, command: Any) -> None:
        found.append(settings)

    monkeypatch.setattr("innerloop.verbs.probe.probe", probe)
    monkeypatch.setattr("innerloop.verbs.show.show", lambda result: None)
    return found


def test_the_command_line_wins_over_the_file(cli: Cli, tmp_path: Path, seen: list[Any]) -> None:
    file = tmp_path / "r.toml"
    file.write_text(
        '[probe]\nquestions = "q.jsonl"\nlimit = 3\nevery = "all"\ncontrols = ["shuffled", "filler"]\n'
        "trust_remote_code = true\n[rollout]\nsamples = 4\n"
    )
    assert cli("probe", "--recipe", file, "--limit", "5").status == 0
    (settings,) = seen
    assert (settings.questions, settings.limit, settings.every) == ("q.jsonl", 5, "all")
    assert settings.controls == ("shuffled", "filler")
    assert settings.trust_remote_code is True
    assert settings.seed == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[probe]\nlimt = 3\n", "[probe]: unknown key 'limt'; did you mean 'limit'?"),
        ("[probe]\nxyzzy = 3\n", "[probe]: unknown key 'xyzzy'; --help lists the options"),
        ("[probe]\nlimit = 'many'\n", 'unable to convert "many" into int'),
        ("[probe]\nlimit = 0\n", "--limit 0: must be 1 or more"),
        ("[train.sft]\nlora = 3\n", "has no table [probe], it has [train.sft]; take the file of this command"),
        ("limit = 3\n", "has no table [probe], it has no table at all"),
        ("[probe\n", "not TOML"),
        ("[probe]\nlimit = " + "[" * 5000, "not TOML"),
        ("[probe]\nlimit = " + "9" * 5000, "not TOML"),
        ("a" + ".a" * 5000 + " = 1\n", "has no table [probe]"),
        ('[probe]\nthink-end = "a"\nthink_end = "b"\n', "'think-end' and 'think_end' are one option"),
        ("[probe]\nlimit = 1\n#" + "x" * (2 << 20), "larger than 1 MiB"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_makes_no_sense_is_one_line(cli: Cli, tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "r.toml"
    if text is not None:
        file.write_text(text)
    ran = cli("probe", "--recipe", file)
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.err
    assert "--limit" in ran.err or str(file) in ran.err
    assert ran.err.count("\n") == 1


def test_a_pipe_is_no_recipe(cli: Cli, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "r.toml")
    ran = cli("probe", "--recipe", tmp_path / "r.toml")
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert "r.toml: is no file but a device or pipe" in ran.err


def test_a_recipe_may_begin_with_a_byte_order_mark(cli: Cli, tmp_path: Path, seen: list[Any]) -> None:
    (tmp_path / "r.toml").write_bytes(b"\xef\xbb\xbf[probe]\nlimit = 3\n")
    assert cli("probe", "--recipe", tmp_path / "r.toml").status == 0
    assert seen[0].limit == 3


# The files that ship


def tables(file: Path) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for verb, options in tomllib.loads(file.read_text(encoding="utf-8")).items():
        found += [(verb, recipe) for recipe in options] if verb == "train" else [(verb,)]
    return found


SHIPPED = [(file, command) for file in FILES for command in tables(file)]
IDS = [f"{file.stem}: {' '.join(command)}" for file, command in SHIPPED]


def test_the_papers_settings_ship() -> None:
    names = {file.stem for file in FILES if file.parent.name == "paper"}
    assert {f"sft-k{k}" for k in (1, 2, 4, 8, 16, 32)} | {f"grpo-n{n}" for n in (1, 2, 4, 8, 16)} <= names
    assert {"rollout-qwen72b", "rollout-r1-14b", "evaluation"} <= names


def test_the_papers_lengths_and_forms_are_in_them() -> None:
    found = {
        file.stem: tomllib.loads(file.read_text(encoding="utf-8")) for file in FILES if file.parent.name == "paper"
    }
    assert found["rollout-qwen72b"]["rollout"]["max-tokens"] == 8192
    assert found["rollout-r1-14b"]["rollout"]["max-tokens"] == 36784
    sft = [entry["train"]["sft"] for name, entry in found.items() if name.startswith("sft-k")]
    assert {(own["max-length"], own["parts"], own["at-most"], own["per-pass"]) for own in sft} == {
        (18432, 32, True, "right")
    }
    grpo = [entry["train"]["grpo"] for name, entry in found.items() if name.startswith("grpo-n")]
    assert {(own["prompt"], own["form"], own["max-tokens"]) for own in grpo} == {
        ("raml-grpo", "think-conclusion", 16384)
    }
    scored = found["evaluation"]["eval"]
    assert {"livemathbench-hard", "livemathbench-hard-cn", "gpqa-diamond", "livecodebench"} <= set(scored["questions"])
    assert scored["system"] == "raml-evaluation"


@pytest.mark.parametrize(("file", "command"), SHIPPED, ids=IDS)
def test_every_file_is_read_by_its_command(
    cli: Cli, file: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Any] = []

    def verb(settings: Any, command: Any) -> None:
        found.append(settings)

    monkeypatch.setattr(import_module(f"innerloop.verbs.{'.'.join(command)}"), command[-1], verb)
    monkeypatch.setattr("innerloop.verbs.show.show", lambda result: None)
    questions = ["--questions", "q.jsonl"] if command in (("rollout",), ("train", "grpo")) else []
    ran = cli(*command, "--recipe", file, *questions)
    assert ran.status == 0, ran.err
    options: Any = tomllib.loads(file.read_text(encoding="utf-8"))
    for word in command:
        options = options[word]
    for key, value in options.items():
        name = {"n": "samples"}.get(key, key.replace("-", "_"))
        given = getattr(found[0], name)
        assert given in ((tuple(value),) if isinstance(value, list) else (value, (value,)))


@pytest.mark.model
@pytest.mark.parametrize(
    ("file", "command"),
    [pair for pair in SHIPPED if pair[1][0] == "train" and pair[1] != ("train", "init")],
    ids=[name for name in IDS if "train" in name and "train init" not in name],
)
def test_every_training_is_planned(
    cli: Cli, model: Path, file: Path, command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = [{"id": f"q{i}", "question": f"{i}+{i}=?", "answer": str(2 * i)} for i in range(16)]
    given = [{"question_id": f"q{i}", "text": f"{j}", "answer": str(2 * i)} for i in range(16) for j in range(32)]
    for name, rows in (("q", questions), ("t", given)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    data = {
        "sft": ["--questions", tmp_path / "q.jsonl", "--trajectories", tmp_path / "t.jsonl"],
        "grpo": ["--questions", "gym:gcd?size=1100"],
    }[command[1]]
    if file.parent.name == "tiny":
        data = ["--limit", "64"]
    ran = cli(*command, "--recipe", file, "--model", model, *data, "--dry-run", "--json")
    assert ran.status == 0, ran.err
    plan = json.loads(ran.out)
    options = tomllib.loads(file.read_text(encoding="utf-8"))["train"][command[1]]
    rows = plan["rows"] * options.get("group", 1)
    assert plan["rows"] == {"sft": 512, "grpo": 2 * 1024}[command[1]] or data == ["--limit", "64"], "whole steps"
    last = 0 if command[1] == "grpo" else options["batch-size"] - 1  # sft takes the rows that do not fill a step, too
    assert plan["steps"] == (rows + last) // options["batch-size"]
    assert plan["commands"][1].startswith("accelerate launch --config_file recipes/accelerate/multi-gpu.yaml -m innerl")
    assert "--dry-run" not in plan["commands"][0]
    assert list(Path().iterdir()) == [], "nothing is written"
