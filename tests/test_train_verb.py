"""``innerloop train`` from the command line, on a tiny model."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.conftest import Ran

from innerloop.models import load
from innerloop.schema import Outcome
from innerloop.store import Run

Cli = Callable[..., Ran]
pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        {"id": f"q{i}", "question": f"{i}+{i}=?", "answer": str(2 * i), "solution": f"{i}+{i}={2 * i}"}
        for i in range(12)
    ]
    path = tmp_path_factory.mktemp("questions") / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def arguments(model: Path | str, questions: Path, out: Path, **changes: object) -> list[str]:
    options = {"batch_size": 4, "passes": 4, "learning_rate": 1e-3, "threads": 1, "save_every": 1} | changes
    options |= {"model": model, "questions": questions, "out": out}
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    return ["train", "sft", *words, "--json"]


def losses(out: Path) -> list[float]:
    return [dict(step.metrics)["loss"] for step in Run.open(out).steps() if step.kind == "train"]


def test_init_makes_a_model_that_every_verb_takes(cli: Cli, tmp_path: Path) -> None:
    ran = cli("train", "init", "--out", tmp_path / "m", "--json", "--seed", 4)
    assert ran.status == 0
    assert json.loads(ran.out)["parameters"] < 1_000_000
    again = cli("train", "init", "--out", tmp_path / "m")
    assert again.status == 2
    assert "not empty" in again.err
    assert "--out is missing" in cli("train", "init").err


def test_sft_lowers_the_loss_and_leaves_a_model(cli: Cli, model: Path, questions: Path, tmp_path: Path) -> None:
    watched = {"watch": questions, "watch_limit": 2, "watch_trajectories": "solutions", "watch_every": 5}
    command = arguments(model, questions, tmp_path / "r", **watched, watch_max_tokens=8)
    ran = cli(*command)
    assert ran.status == 0, ran.err
    result = json.loads(ran.out)
    assert "2 of 12 training questions are held out" in ran.err
    assert (result["questions"], result["rows"], result["dropped"], result["steps"]) == (10, 40, 0, 10)
    assert Run.open(tmp_path / "r").done("questions").isdisjoint({"q0", "q1"})
    found = losses(tmp_path / "r")
    assert found[-1] < 0.7 * found[0]
    assert [look["step"] for look in result["looks"]] == [0, 5, 10]
    assert result["looks"][-1]["metrics"]["watch_end"] < result["looks"][0]["metrics"]["watch_end"]
    assert {"watch_gain", "watch_area", "watch_pass@1", "watch_tokens", "watch_entropy"} <= set(
        result["looks"][0]["metrics"]
    )
    trained, fresh = load(str(tmp_path / "r")), load(str(model))  # the run folder stands for its model
    assert trained.fingerprint != fresh.fingerprint
    assert trained.instruction == ""
    again = cli(*command)
    assert json.loads(again.out)["new_steps"] == 0
    assert "nothing to do" in again.err


def test_the_first_loss_is_the_weighted_loss_of_the_first_rows(
    cli: Cli, model: Path, questions: Path, tmp_path: Path
) -> None:
    from innerloop.outer.loss import weighted_loss
    from innerloop.outer.rows import Weights, collate, make_row
    from innerloop.outer.select import CHOICES
    from innerloop.outer.support import passes, support_sets
    from innerloop.verbs.trajectories import gather

    weighted = ["--trajectory-weight", "0.5", "--answer-weight", "2", "--form-weight", "0"]
    assert cli(*arguments(model, questions, tmp_path / "r"), *weighted, "--max-steps", 1).status == 0
    assert cli(*arguments(model, questions, tmp_path / "parts"), *weighted, "--max-steps", 1, "--parts", 4).status == 0
    loaded = load(str(model), dtype="float32")
    asked, given = gather(str(questions), ("solutions",), limit=None, seed=0)
    by_id = {question.id: question for question in asked}
    order = passes(support_sets(asked, given, None, CHOICES["random"](0)), 4, 0)
    weights = Weights(trajectory=0.5, answer=2, form=0)
    rows = [make_row(loaded, by_id[name], shown, weights) for name, shown in list(order)[:4]]
    batch = collate(rows, 0)
    logits = loaded.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    expected = weighted_loss(logits, batch["input_ids"], batch["weights"]).item()
    assert losses(tmp_path / "r") == [pytest.approx(expected, abs=1e-5)]
    assert losses(tmp_path / "parts") == [pytest.approx(expected, abs=1e-5)]
    whole, parts = (load(str(tmp_path / name)).model.state_dict() for name in ("r", "parts"))
    for name, weight in whole.items():
        torch.testing.assert_close(parts[name], weight, rtol=0, atol=2e-5)


def test_answers_alone_need_no_trajectory(cli: Cli, model: Path, questions: Path, tmp_path: Path) -> None:
    ran = cli(*arguments(model, questions, tmp_path / "r"), "--trajectories", "none", "--max-steps", 2)
    assert ran.status == 0, ran.err
    assert json.loads(ran.out)["rows"] == 48


def test_lora_leaves_an_adapter_and_the_merged_model(cli: Cli, model: Path, questions: Path, tmp_path: Path) -> None:
    ran = cli(*arguments(model, questions, tmp_path / "r"), "--lora", 2)
    assert ran.status == 0, ran.err
    assert losses(tmp_path / "r")[-1] < losses(tmp_path / "r")[0]
    from peft import PeftModel

    fresh, merged = load(str(model), dtype="float32"), load(str(tmp_path / "r"), dtype="float32")
    ids = torch.tensor([fresh.prompt("3+3=?")])
    before = fresh.model(input_ids=ids).logits
    adapted = PeftModel.from_pretrained(fresh.model, tmp_path / "r" / "adapter")(input_ids=ids).logits
    assert not torch.allclose(before, adapted, atol=1e-3)
    torch.testing.assert_close(merged.model(input_ids=ids).logits, adapted, atol=1e-4, rtol=0)


def test_wrong_trajectories_are_left_out(cli: Cli, model: Path, questions: Path, tmp_path: Path) -> None:
    rows = [{"question_id": f"q{i}", "text": f"{i}+{i}", "answer": str(2 * i + (i == 3))} for i in range(12)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [
        *arguments(model, questions, tmp_path / "r"),
        "--trajectories",
        str(tmp_path / "t.jsonl"),
        "--max-steps",
        "1",
    ]
    ran = cli(*command)
    assert ran.status == 2
    assert "1 of 12 questions have fewer right trajectories (q3 has 0)" in ran.err
    ran = cli(*command, "--skip-short")
    assert ran.status == 0
    assert json.loads(ran.out)["questions"] == 11
    assert Run.open(tmp_path / "r").done("questions").isdisjoint({"q3"})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"support": 5}, "--support 5: 12 of 12 questions have fewer right trajectories (q0 has 1)"),
        ({"max_length": 9}, "--max-length 9: 48 of 48 rows are longer"),
        ({"parts": 3}, "--parts 3: does not divide --batch-size 4"),
        ({"answer_weight": 0, "trajectory_weight": 0, "form_weight": 0}, "nothing to learn from"),
        ({"learning_rate": 0}, "--learning-rate 0.0: must be more than 0"),
        ({"watch_trajectories": "solutions"}, "say with --watch which questions"),
        ({"report_to": "aim"}, "--report-to aim: must be tensorboard, wandb or trackio"),
    ],
)
def test_bad_input(
    cli: Cli, model: Path, questions: Path, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    ran = cli(*arguments(model, questions, tmp_path / "r", **changes))
    assert ran.status == 2
    assert said in ran.err
    assert ran.err.strip().splitlines()[-1].startswith("innerloop: ")
    assert not (tmp_path / "r" / "run.json").exists()


@pytest.mark.parametrize("tracker", ["wandb", "trackio"])
def test_a_tracker_that_is_not_installed(
    cli: Cli, model: Path, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: str
) -> None:
    monkeypatch.setattr("innerloop.verbs.train.reporting.find_spec", lambda _: None)
    ran = cli(*arguments(model, questions, tmp_path / "r", report_to=tracker))
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert f"--report-to {tracker}: the package is not installed; pip install {tracker}" in ran.err


def test_tensorboard_has_the_steps_and_the_looks(cli: Cli, model: Path, questions: Path, tmp_path: Path) -> None:
    """Read back from the event files: the numbers of the run folder, at their steps."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    watched = {"watch": questions, "watch_limit": 2, "watch_every": 2, "watch_max_tokens": 8}
    ran = cli(*arguments(model, questions, tmp_path / "r", max_steps=5, report_to="tensorboard", **watched))
    assert ran.status == 0, ran.err
    (folder,) = {file.parent for file in (tmp_path / "r").rglob("events.out.tfevents.*")}
    events = EventAccumulator(str(folder))
    events.Reload()
    steps = Run.open(tmp_path / "r").steps()
    for kind, name, tag in (
        ("train", "loss", "train/loss"),
        ("train", "grad_norm", "train/grad_norm"),
        ("watch", "watch_tokens", "train/watch_tokens"),
        ("watch", "watch_pass@1", "train/watch_pass@1"),
    ):
        told = [(event.step, event.value) for event in events.Scalars(tag)]
        own = [(step.step, dict(step.metrics)[name]) for step in steps if step.kind == kind]
        assert [step for step, _ in told] == [step for step, _ in own]
        assert [value for _, value in told] == pytest.approx([value for _, value in own], rel=1e-5)
    assert [step.step for step in steps if step.kind == "watch"] == [0, 2, 4, 5]


def test_the_page_follows_the_training(
    cli: Cli, model: Path, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from innerloop.report import page
    from innerloop.report.data import collect
    from innerloop.verbs.train import live

    pages: list[tuple[int, str]] = []
    plain = page.write

    def write(run: Path, *rest: object, **more: object) -> Path:
        made = plain(run, *rest, **more)  # type: ignore[arg-type]  # passed on
        shown = collect(run).sections["training"]["runs"][0]["train"]["step"]
        pages.append((len(shown), made.read_text(encoding="utf-8")))
        return made

    monkeypatch.setattr(page, "write", write)
    monkeypatch.setattr(live, "EVERY", 0.0)
    monkeypatch.setattr(live, "_SHARE", 0)
    ran = cli(*arguments(model, questions, tmp_path / "r", max_steps=4))
    assert ran.status == 0, ran.err
    assert [count for count, _ in pages] == [1, 2, 3, 4, 4]
    *during, last = [text for _, text in pages]
    assert all('http-equiv="refresh"' in text and "still running" in text for text in during)
    assert 'http-equiv="refresh"' not in last
    assert "still running" not in last
    assert json.loads(ran.out)["page"] == str(tmp_path / "r" / "report.html")
    assert cli(*arguments(model, questions, tmp_path / "r", max_steps=4)).status == 0
    assert len(pages) == 5, "nothing to do, nothing to write"


def test_a_page_that_cannot_be_written_does_not_stop_a_training(
    cli: Cli, model: Path, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from innerloop.errors import InputError
    from innerloop.report import page

    def write(*_: object, **__: object) -> Path:
        raise InputError("report.html: no space left")

    monkeypatch.setattr(page, "write", write)
    ran = cli(*arguments(model, questions, tmp_path / "r", max_steps=2))
    assert ran.status == 0, ran.err
    assert "the page is not kept up to date: report.html: no space left" in ran.err


def test_a_model_that_is_not_there(cli: Cli, questions: Path, tmp_path: Path) -> None:
    ran = cli(*arguments("nowhere/at/all", questions, tmp_path / "r"))
    assert ran.status == 2
    assert "no such file or folder" in ran.err


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_checkpoint(
    cli: Cli, model: Path, questions: Path, tmp_path: Path
) -> None:
    ran = cli(*arguments(model, questions, tmp_path / "r", learning_rate=1e30, clip=0))
    assert ran.status == 1
    assert "the gradient of step" in ran.err or "the loss of step" in ran.err
    assert "on the questions q" in ran.err
    assert list((tmp_path / "r" / "checkpoints").glob("checkpoint-*/whole.json"))
    assert not (tmp_path / "r" / "model").exists()


def test_killed_and_started_again_it_comes_to_the_same_losses(
    cli: Cli, model: Path, questions: Path, tmp_path: Path
) -> None:
    assert cli(*arguments(model, questions, tmp_path / "whole")).status == 0
    command = [sys.executable, "-m", "innerloop", *arguments(model, questions, tmp_path / "r")]
    for reached in (3, 7):  # kill it in mid-work, twice
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not (tmp_path / "r" / "checkpoints" / f"checkpoint-{reached}").exists():
            assert process.poll() is None, "it ended before the kill"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    assert losses(tmp_path / "r") == pytest.approx(losses(tmp_path / "whole"), abs=1e-6)
    one, other = (load(str(tmp_path / name)).fingerprint for name in ("r", "whole"))
    assert one == other


def test_a_time_limit_ends_the_training(cli: Cli, model: Path, questions: Path, tmp_path: Path) -> None:
    ran = cli(*arguments(model, questions, tmp_path / "r"), "--minutes", "0.000001")
    assert ran.status == 0
    assert json.loads(ran.out)["steps"] == 1
    again = cli(*arguments(model, questions, tmp_path / "r"), "--minutes", "0.000001")
    assert json.loads(again.out)["new_steps"] == 0, "that time is over"


def test_a_time_limit_is_lifted_by_more_minutes_or_none(cli: Cli, model: Path, questions: Path, tmp_path: Path) -> None:
    assert cli(*arguments(model, questions, tmp_path / "whole")).status == 0
    command = arguments(model, questions, tmp_path / "r")
    assert cli(*command, "--minutes", "0.000001").status == 0
    assert json.loads(cli(*command, "--minutes", "0.000002").out)["new_steps"] == 1
    assert json.loads(cli(*command).out)["new_steps"] == len(losses(tmp_path / "whole")) - 2
    assert losses(tmp_path / "r") == pytest.approx(losses(tmp_path / "whole"), abs=1e-6)
    one, other = (load(str(tmp_path / name)).fingerprint for name in ("r", "whole"))
    assert one == other
    assert json.loads(cli(*command, "--minutes", "1").out)["new_steps"] == 0, "there are no more steps"


@pytest.mark.parametrize("name", ["whole.json", "model.safetensors", "optimizer.pt", "trainer_state.json"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    cli: Cli, model: Path, questions: Path, tmp_path: Path, name: str
) -> None:
    assert cli(*arguments(model, questions, tmp_path / "whole", max_steps=4)).status == 0
    command = arguments(model, questions, tmp_path / "r", max_steps=4, save_every=1)
    for minutes in ("0.000001", "0.000002"):  # a step each
        assert cli(*command, "--minutes", minutes).status == 0
    checkpoints = tmp_path / "r" / "checkpoints"
    for step in (1, 2):
        assert (checkpoints / f"checkpoint-{step}" / name).is_file()
    os.truncate(checkpoints / "checkpoint-2" / name, 0)
    ran = cli(*command)
    assert ran.status == 0, ran.err
    assert "checkpoint-2 is damaged (" in ran.err
    assert "the training goes on from checkpoint-1" in ran.err
    assert losses(tmp_path / "r") == pytest.approx(losses(tmp_path / "whole"), abs=1e-6)


def test_where_all_checkpoints_are_damaged_one_line_says_so(
    cli: Cli, model: Path, questions: Path, tmp_path: Path
) -> None:
    command = arguments(model, questions, tmp_path / "r", max_steps=4)
    assert cli(*command, "--minutes", "0.000001").status == 0
    os.truncate(tmp_path / "r" / "checkpoints" / "checkpoint-1" / "whole.json", 0)
    ran = cli(*command)
    assert ran.status == 2
    assert "no checkpoint is whole (checkpoint-1: whole.json cannot be read" in ran.err
    assert "Traceback" not in ran.err


def test_a_training_without_its_checkpoints_does_not_go_on(
    cli: Cli, model: Path, questions: Path, tmp_path: Path
) -> None:
    command = arguments(model, questions, tmp_path / "r")
    assert cli(*command, "--minutes", "0.000001").status == 0
    before = load(str(tmp_path / "r")).fingerprint
    for checkpoint in (tmp_path / "r" / "checkpoints").glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    (tmp_path / "r" / "checkpoints" / "reference.safetensors").touch()  # as dpo has beside them
    ran = cli(*command)
    assert ran.status == 2
    assert "its checkpoints are gone" in ran.err
    assert load(str(tmp_path / "r")).fingerprint == before


def test_the_trained_model_is_sampled_and_scored(cli: Cli, model: Path, questions: Path, tmp_path: Path) -> None:
    assert cli(*arguments(model, questions, tmp_path / "r", passes=100, save_every=1000)).status == 0
    ran = cli("eval", "--model", tmp_path / "r", "--questions", questions, "--n", 2, "--max-tokens", 24,
              "--temperature", "0.01", "--top-k", 0, "--out", tmp_path / "e", "--threads", 1)  # fmt: skip
    assert ran.status == 0, ran.err
    verdicts = [trajectory.outcome for trajectory in Run.open(tmp_path / "e").trajectories()]
    assert verdicts.count(Outcome.RIGHT) > 12  # it has learnt its twelve questions by heart


@pytest.fixture(scope="module")
def pupil(model: Path, questions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has half learnt its twelve questions."""
    from innerloop.cli import main

    out = tmp_path_factory.mktemp("pupil") / "r"
    assert main(arguments(model, questions, out, passes=18, save_every=1000)) == 0
    return out


def grpo(model: Path, questions: Path, out: Path, **changes: object) -> list[str]:
    options = {"batch_size": 16, "group": 4, "gradient_on": 2, "max_tokens": 24, "parts": 2} | changes
    words = arguments(model, questions, out, **options)
    return ["train", "grpo", *words[2:]]


def test_grpo_learns_from_its_own_rollouts(cli: Cli, pupil: Path, questions: Path, tmp_path: Path) -> None:
    ran = cli(*grpo(pupil, questions, tmp_path / "r", limit=2, passes=72, learning_rate=3e-4, save_every=1000))
    assert ran.status == 0, ran.err
    result = json.loads(ran.out)
    assert (result["recipe"], result["rows"], result["steps"]) == ("grpo", 144, 36)
    steps = [dict(step.metrics) for step in Run.open(tmp_path / "r").steps()]
    assert {"reward", "entropy", "completions/mean_length", "right", "form"} <= set(steps[0])
    assert sum(step["reward"] for step in steps[-12:]) > sum(step["reward"] for step in steps[:12])
    noted = Run.open(tmp_path / "r").manifest["stages"]["train grpo"]["notes"]["audit"]
    assert noted == {"right": 1.0, "wrong": 0.0, "unfinished": -1.0, "truncated": -1.0, "empty": -1.0}


def test_grpo_started_again_goes_on_to_the_same_losses(cli: Cli, pupil: Path, questions: Path, tmp_path: Path) -> None:
    whole = grpo(pupil, questions, tmp_path / "whole", passes=2)
    assert cli(*whole).status == 0
    assert cli(*grpo(pupil, questions, tmp_path / "r", passes=2, minutes=1e-6)).status == 0  # one step
    assert cli(*grpo(pupil, questions, tmp_path / "r", passes=2)).status == 0
    assert len(losses(tmp_path / "whole")) == 6
    assert losses(tmp_path / "r") == pytest.approx(losses(tmp_path / "whole"), abs=1e-6)


def test_a_reward_that_never_differs_ends_the_training(cli: Cli, model: Path, questions: Path, tmp_path: Path) -> None:
    ran = cli(*grpo(model, questions, tmp_path / "r", passes=40, max_tokens=2, batch_size=4, parts=1))
    assert ran.status == 1
    assert "in 20 steps all rollouts of each question earned the same (-1 on average)" in ran.err


def test_a_question_that_cannot_be_judged_fails_the_audit(cli: Cli, model: Path, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"question": "1+1", "answer": "2", "verifier": "nonesuch"}\n' * 2)
    ran = cli(*grpo(model, tmp_path / "q.jsonl", tmp_path / "r"))
    assert ran.status == 2
    assert "nonesuch" in ran.err or "could not be judged" in ran.err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch_size": 6}, "--batch-size 6: must be a multiple of --group 4 times --parts 2"),
        ({"gradient_on": 5}, "--gradient-on 5: must lie between 1 and --group 4"),
        ({"group": 1}, "--group 1: must be 2 or more"),
    ],
)
def test_groups_that_do_not_fit(
    cli: Cli, model: Path, questions: Path, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    ran = cli(*grpo(model, questions, tmp_path / "r", **changes))
    assert ran.status == 2
    assert said in ran.err


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("families")
    for name, sign, step in (("plus", "+", 1), ("minus", "-", -1)):
        rows = [
            {"id": f"{name}{i}", "question": f"{i}{sign}1=?", "answer": str(i + step), "solution": f"{i} and 1"}
            for i in range(8)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [folder / "plus.jsonl", folder / "minus.jsonl"]


def meta(model: Path, families: list[Path], out: Path, **changes: object) -> list[str]:
    options = {"max_steps": 6, "inner_rate": 0.1, "learning_rate": 1e-3, "tasks": 2, "support": 2, "query": 2}
    options |= {"model": model, "out": out, "threads": 1, "save_every": 2, "trajectories": "solutions"} | changes
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    return ["train", "meta", "--questions", *map(str, families), *words, "--json"]


@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "reptile", "anil", "meta-sgd", "joint"])
def test_every_meta_learning_algorithm_lowers_the_loss_after_adaptation(
    cli: Cli, model: Path, families: list[Path], tmp_path: Path, algorithm: str
) -> None:
    ran = cli(*meta(model, families, tmp_path / "r", algorithm=algorithm, max_steps=20))
    assert ran.status == 0, ran.err
    result = json.loads(ran.out)
    assert (result["recipe"], result["questions"], result["steps"]) == ("meta", 16, 20)
    steps = [dict(step.metrics) for step in Run.open(tmp_path / "r").steps()]
    assert {"loss/plus", "loss/minus", "flops", "num_tokens"} <= set(steps[0])
    assert sum(step["loss"] for step in steps[-4:]) < sum(step["loss"] for step in steps[:4])
    assert load(str(tmp_path / "r")).fingerprint != load(str(model)).fingerprint


def test_families_are_watched_together_and_apart(cli: Cli, model: Path, families: list[Path], tmp_path: Path) -> None:
    held_out = []
    for name, sign in (("plus", "+"), ("times", "*")):
        rows = [{"id": f"q{i}", "question": f"9{sign}{i}=?", "answer": str(i), "solution": f"so {i}"} for i in range(4)]
        held_out.append(tmp_path / f"{name}.jsonl")
        held_out[-1].write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = meta(model, families, tmp_path / "r", max_steps=2)
    watched = ["--watch", *map(str, held_out), "--watch-trajectories", "solutions", "--watch-max-tokens", "8"]
    ran = cli(*command, *watched)
    assert ran.status == 0, ran.err
    looks = json.loads(ran.out)["looks"]
    assert [look["step"] for look in looks] == [0, 2]
    for look in looks:
        found = look["metrics"]
        for name in ("watch_pass@1", "watch_gain", "watch_tokens"):
            assert found[name] == pytest.approx((found[f"{name}/plus"] + found[f"{name}/times"]) / 2)
        for name in ("watch_pass@1", "watch_gain"):
            assert found[f"{name}_low"] <= found[name] <= found[f"{name}_high"]
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert "watch_gain/times" in page
    twice = cli(*meta(model, families, tmp_path / "s"), "--watch", str(held_out[0]), str(held_out[0]))
    assert twice.status == 2
    assert "--watch: two sources are called plus" in twice.err
    assert not (tmp_path / "s").exists()


def test_meta_learning_goes_on_to_the_same_losses(cli: Cli, model: Path, families: list[Path], tmp_path: Path) -> None:
    changes = {"algorithm": "fomaml", "combine": "robust"}
    assert cli(*meta(model, families, tmp_path / "whole", **changes), "--adaptive").status == 0
    command = [sys.executable, "-m", "innerloop", *meta(model, families, tmp_path / "r", **changes), "--adaptive"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / "r" / "checkpoints" / "meta.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert cli(*meta(model, families, tmp_path / "r", **changes), "--adaptive").status == 0
    assert losses(tmp_path / "r") == pytest.approx(losses(tmp_path / "whole"), abs=1e-6)


def test_a_budget_ends_meta_training(cli: Cli, model: Path, families: list[Path], tmp_path: Path) -> None:
    ran = cli(*meta(model, families, tmp_path / "r", budget_tokens=1000, max_steps=500))
    assert ran.status == 0, ran.err
    assert 0 < json.loads(ran.out)["tokens"] <= 1000
    assert Run.open(tmp_path / "r").manifest["stages"]["train meta"]["notes"]["stopped"] == "budget"
    ran = cli(*meta(model, families, tmp_path / "s", budget_tokens=10))
    assert ran.status == 2
    assert "--budget-tokens 10: the first step alone takes" in ran.err


def test_meta_learning_with_lora_saves_the_adapter(cli: Cli, model: Path, families: list[Path], tmp_path: Path) -> None:
    ran = cli(*meta(model, families, tmp_path / "r", lora=2, algorithm="maml"))
    assert ran.status == 0, ran.err
    assert (tmp_path / "r" / "adapter" / "adapter_model.safetensors").is_file()
    assert load(str(tmp_path / "r")).fingerprint != load(str(model)).fingerprint
