"""The command line: what goes where, how it ends, what it says."""

from __future__ import annotations

import json
import logging
import math
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from innerloop import waiting
from innerloop.cli import COMMANDS, _app
from innerloop.errors import InputError
from innerloop.schema import Mode
from innerloop.store import Run
from innerloop.verbs.demo import DemoSettings
from innerloop.verbs.probe import ProbeSettings, parse_memory
from innerloop.verbs.rollout import RolloutSettings
from innerloop.verbs.shared import jsonable, out_folder

Cli = Callable[..., Any]


@dataclass(frozen=True)
class Result:
    """Stands for a verb's result."""

    mean: float = math.nan
    mode: Mode = Mode.PLAIN
    where: Path = Path("R")


@pytest.fixture
def fake_report(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """Puts something else in the place of the verb ``report``."""

    def put(function: Callable[..., Any]) -> None:
        monkeypatch.setattr("innerloop.verbs.report.report", function)

    return put


# Help and version


def test_help_names_every_command_and_the_first_step(cli: Cli) -> None:
    ran = cli("--help")
    assert ran.status == 0
    assert [name for name in ("demo", "rollout", "probe", "report") if name not in ran.out] == []
    assert "Start with: innerloop demo" in ran.out
    assert cli().out == ran.out


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.verb)
def test_every_command_has_help_with_an_example_that_works(cli: Cli, command: Any) -> None:
    ran = cli(*command.words, "--help")
    assert ran.status == 0
    assert f"Example: innerloop {command.example}" in " ".join(ran.out.split())
    assert command.example.startswith(command.verb)
    options = [word for word in command.example.split() if word.startswith("--")]
    assert [option for option in options if option not in ran.out] == []


def test_version(cli: Cli) -> None:
    from importlib.metadata import version

    assert cli("--version").out.strip() == version("innerloop")


def test_the_module_is_the_command() -> None:
    ran = subprocess.run([sys.executable, "-m", "innerloop", "prob"], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert "did you mean probe?" in ran.stderr


# How a command ends


def test_a_result_is_one_json_object_on_standard_output(cli: Cli, fake_report: Any) -> None:
    def report(settings: Any, command: Any) -> Result:
        logging.getLogger("innerloop").warning("a warning")
        return Result()

    fake_report(report)
    ran = cli("report", "R", "--json")
    assert ran.status == 0
    assert json.loads(ran.out) == {"mean": None, "mode": "plain", "where": "R"}
    assert ran.err == "innerloop: warning: a warning\n"


def test_input_that_cannot_be_used_is_one_line_and_2(cli: Cli, fake_report: Any) -> None:
    def report(settings: Any, command: Any) -> None:
        raise InputError("q.jsonl, line 3:\n no \x1b[31manswer; add one")

    fake_report(report)
    ran = cli("report", "R")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == "innerloop: q.jsonl, line 3: no \\x1b[31manswer; add one\n"


def test_a_failure_is_one_line_and_1_and_debug_shows_where(cli: Cli, fake_report: Any) -> None:
    def report(settings: Any, command: Any) -> None:
        raise ZeroDivisionError("division by zero")

    fake_report(report)
    ran = cli("report", "R")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err == "innerloop: ZeroDivisionError: division by zero (--debug shows where)\n"
    ran = cli("report", "R", "--debug")
    assert ran.status == 1
    assert "Traceback (most recent call last)" in ran.err
    assert ran.err.endswith("innerloop: ZeroDivisionError: division by zero\n")


def test_an_interrupt_says_how_to_go_on(cli: Cli, fake_report: Any) -> None:
    def report(settings: Any, command: Any) -> None:
        raise KeyboardInterrupt

    fake_report(report)
    ran = cli("report", "my run")
    assert ran.status == 130
    assert ran.err == "innerloop: interrupted, what was finished is kept; go on with: innerloop report 'my run'\n"


def test_the_command_is_recorded_as_it_was_typed(cli: Cli, fake_report: Any) -> None:
    seen = []
    fake_report(lambda settings, command: seen.append((settings.run, command)) or Result())
    cli("report", "R", "--json")
    assert seen == [(Path("R"), ["innerloop", "report", "R", "--json"])]


def test_logging_is_left_as_it_was(cli: Cli) -> None:
    logger = logging.getLogger("innerloop")
    before = (logger.level, logger.propagate, list(logger.handlers))
    cli("report", "no such folder")
    assert (logger.level, logger.propagate, list(logger.handlers)) == before


# Arguments that make no sense


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["prob"],
            "unknown command 'prob': did you mean probe? "
            "There are demo, rollout, probe, update, landscape, eval, select, train, report",
        ),
        (
            ["train", "sfx"],
            "unknown recipe 'sfx': did you mean sft? There are init, sft, dpo, grpo, meta; see innerloop train --help",
        ),
        (["frobnicate"], "unknown command 'frobnicate': There are demo"),
        (["--hlep"], "unknown command '--hlep': did you mean --help?"),
        (["probe", "--contols", "shuffled"], "Unknown option: --contols. Did you mean --controls?"),
        (["probe", "--no-json"], "Unknown option: --no-json."),
        (["probe", "--every", "often"], "Invalid value for --every"),
        (["probe", "--controls", "shufled"], 'Invalid value "shufled" for --controls. Choose from: "other-question"'),
        (["probe", "--questions"], "--questions needs a value"),
        (["rollout"], "--questions is missing"),
        (["report"], "--run is missing"),
        (["probe", "--limit", "2", "3"], "unexpected argument '3'; see innerloop probe --help"),
        (["probe", "--limit", "0"], "--limit 0: must be 1 or more"),
        (["probe", "--threads", "0"], "--threads 0: must be 1 or more"),
        (["probe", "--every", "0"], "--every 0: must be 1 or more"),
        (["probe", "--memory", "much"], "--memory much: write a size such as 2GiB"),
        (["probe"], "--questions is missing: only a RUN folder among --trajectories brings its own"),
        (["rollout", "--questions", "q", "--batch-size", "0"], "--batch-size 0: must be 1 or more"),
        (["rollout", "--questions", "q", "--temperature", "-1"], "temperature is -1"),
        (["demo", "--limit", "0"], "--limit 0: must be 1 or more"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_arguments_that_make_no_sense(cli: Cli, arguments: list[str], message: str) -> None:
    ran = cli(*arguments)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith(f"innerloop: {message}")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize(
    ("command", "option", "values"),
    [
        ("rollout --questions q", "--mode", ("thinking", "no-thinking")),
        ("probe", "--trajectories", ("a", "b")),
        ("probe", "--controls", ("shuffled", "filler")),
        ("update", "--trajectories", ("a", "b")),
        ("landscape", "--trajectories", ("a", "b")),
        ("landscape", "--plane", ("path", "path-line")),
        ("eval", "--trajectories", ("a", "b")),
        ("select --support 2", "--trajectories", ("a", "b")),
        ("train sft --questions q", "--trajectories", ("a", "b")),
        ("train dpo --model m", "--trajectories", ("a", "b")),
        ("train sft --questions q --trajectories t", "--watch", ("a", "b")),
    ],
)
def test_several_values_follow_one_option_or_repeat_it(
    command: str, option: str, values: tuple[str, ...], repeated: bool
) -> None:
    given = [word for value in values for word in (option, value)] if repeated else [option, *values]
    arguments = [*command.split(), *given]
    app = _app(arguments, waiting.look())
    _, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
    [settings] = bound.args or bound.kwargs.values()
    assert getattr(settings, option.removeprefix("--").replace("-", "_")) == values


# Settings


@pytest.mark.parametrize(
    ("written", "size"),
    [(None, None), ("2GiB", 2**31), ("1.5 gb", 3 * 2**29), ("500MiB", 500 * 2**20), (4096, 4096), ("7", 7)],
)
def test_memory_sizes(written: int | str | None, size: int | None) -> None:
    assert parse_memory(written) == size


def test_the_default_folder_follows_from_what_affects_results() -> None:
    def folder(**changes: Any) -> str:
        return out_folder("probe", ProbeSettings(questions="q", **changes)).as_posix()

    assert re.fullmatch(r"runs/probe-[0-9a-f]{8}", folder())
    assert folder(threads=2, json=True, debug=True, memory="1GiB", device="cpu") == folder()
    different = [folder(), folder(limit=3), folder(seed=1), folder(every=2), folder(dtype="float64"), folder(suffix="")]
    assert len(set(different)) == len(different)
    assert folder(out=Path("R")) == "R"


def test_settings_check_themselves_in_python_too() -> None:
    with pytest.raises(InputError, match="samples is 0"):
        RolloutSettings(questions="q", samples=0)
    with pytest.raises(InputError, match=r"--mode: nothing given"):
        RolloutSettings(questions="q", mode=())
    with pytest.raises(InputError, match=r"--trajectories: nothing given"):
        ProbeSettings(trajectories=())
    with pytest.raises(InputError, match=r"--controls shufled: did you mean shuffled\? it must be one of other-quest"):
        ProbeSettings(controls=("shuffled", "shufled"))
    with pytest.raises(InputError, match=r"--every sentences: did you mean sentence\?"):
        ProbeSettings(every="sentences")
    with pytest.raises(InputError, match=r"--dtype fp8: it must be one of auto, float32"):
        RolloutSettings(questions="q", dtype="fp8")
    with pytest.raises(InputError, match=r"--every 0"):
        DemoSettings(every=0)


def test_undefined_numbers_become_null() -> None:
    value = {"a": [math.nan, math.inf, 1.5], "b": {"c": Path("x"), 3: Mode.THINKING}, "d": (None, True, 2)}
    assert jsonable(value) == {
        "a": [None, None, 1.5],
        "b": {"c": "x", "3": "thinking"},
        "d": [None, True, 2],
    }


# The whole way with a model


@pytest.mark.model
def test_sample_probe_and_report_from_the_command_line(
    cli: Cli, tmp_path: Path, tiny_model: Path, questions_file: Path
) -> None:
    run = tmp_path / "R"
    common = ["--model", tiny_model, "--threads", "1", "--out", run]
    ran = cli(
        *("rollout", "--questions", questions_file, "--limit", "3", "--samples", "2", "--max-tokens", "12", "--json"),
        *("--mode", "plain", "--mode", "thinking", *common),
    )
    assert ran.status == 0, ran.err
    sampled = json.loads(ran.out)
    assert (sampled["questions"], sampled["trajectories"], sampled["new_trajectories"]) == (3, 12, 12)
    assert [row["mode"] for row in sampled["modes"]] == ["plain", "thinking"]
    assert all(row["right"] + row["wrong"] + row["undecided"] == 6 for row in sampled["modes"])

    ran = cli("probe", "--trajectories", run, "--controls", "shuffled", "--every", "4", "--json", *common)
    assert ran.status == 0, ran.err
    probed = json.loads(ran.out)
    assert probed["questions"] == 3, "the run brings its questions along"
    assert probed["trajectories"] + len(probed["skipped"]) == 24
    assert {group["source"] for group in probed["groups"]} == {"sample", "shuffled"}

    held = Run.open(run)
    assert {trajectory.mode for trajectory in held.trajectories()} == {Mode.PLAIN, Mode.THINKING}
    assert len(held.curves()) == probed["trajectories"]
    assert all(curve.position[-1] % 4 == 0 or curve.position[-1] == max(curve.position) for curve in held.curves())

    ran = cli("report", run, "--json")
    assert ran.status == 0, ran.err
    assert json.loads(ran.out)["page"] == str(run / "report.html")
    assert (run / "report.html").stat().st_size > 100_000
    assert "report.html" in cli("report", run).out


@pytest.mark.model
def test_rival_answers_are_measured_beside_the_reference(
    cli: Cli, tmp_path: Path, tiny_model: Path, questions_file: Path
) -> None:
    file = tmp_path / "t.jsonl"
    rows = [
        {"question_id": "q-3", "text": "It is seven.", "answer": "7"},
        {"question_id": "q-3", "text": "It is six.", "answer": "6"},
        {"question_id": "q-3", "text": "We count them one by one, and then we rest."},
        {"question_id": "q-5", "text": "Behind the limit."},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = cli(
        *("probe", "--model", tiny_model, "--threads", "1", "--questions", questions_file, "--limit", "4"),
        *("--trajectories", file, "--candidates", "answers", "--every", "sentence", "--out", tmp_path / "R", "--json"),
    )
    assert ran.status == 0, ran.err
    run = Run.open(tmp_path / "R")
    assert [(t.id, t.outcome, t.answer) for t in run.trajectories()] == [
        ("q-3/file-0", "wrong", "7"),
        ("q-3/file-1", "right", "6"),
        ("q-3/file-2", "undecided", None),
    ]
    for curve in run.curves():
        assert curve.candidates == ("6", "7")
        assert [losses[0] for losses in curve.candidate_losses] == pytest.approx(curve.loss, abs=1e-5)


@pytest.mark.model
def test_the_demo_is_the_three_verbs_in_one_folder(cli: Cli, tmp_path: Path, tiny_model: Path) -> None:
    arguments = ["demo", "--model", tiny_model, "--limit", "2", "--max-tokens", "8", "--every", "64", "--threads", "1"]
    ran = cli(*arguments, "--out", tmp_path / "D")
    assert ran.status == 0, ran.err
    assert "Worked solutions" in ran.out
    assert str(tmp_path / "D" / "report.html") in ran.out, "in one piece, to be copied"
    run = Run.open(tmp_path / "D")
    assert list(run.manifest["stages"]) == ["rollout", "probe"]
    sources = sorted(trajectory.source for trajectory in run.trajectories())
    assert sources == sorted(["solution", "other-question", "shuffled", "sample"] * 2)
    again = cli(*arguments, "--out", tmp_path / "D", "--json")
    assert again.status == 0
    result = json.loads(again.out)
    assert (result["rollout"]["new_trajectories"], result["probe"]["new_curves"]) == (0, 0)
