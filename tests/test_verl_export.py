"""``--export verl DIR``: what is written, and what the real verl makes of it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.conftest import Ran

from innerloop.outer.subset import CHOICES
from innerloop.outer.verl import generator_for, subset_advantages

Cli = Callable[..., Ran]
INSTALL = (
    "verl is not there: pip install --no-deps verl==0.9.1 hydra-core==1.3.8 omegaconf==2.3.0 "
    "antlr4-python3-runtime==4.9.3 tensordict==0.10.0 codetiming torchdata pyvers orjson cachetools TransferQueue "
    "pylatexenc"
)

# The advantages


def test_the_chosen_ones_have_their_share_of_the_advantage() -> None:
    rewards, lengths, groups = [1.0, 0.0, -1.0, -0.5, 1.0, 1.0, 0.0, -1.0], [5, 4, 3, 2, 9, 8, 7, 6], list("abababab")
    for choice in CHOICES:
        found = subset_advantages(rewards, lengths, groups, n=2, choice=choice, scale="group", seed=3)
        for group in "ab":
            places = [i for i, name in enumerate(groups) if name == group]
            own = [rewards[i] for i in places]
            kept = CHOICES[choice](own, 2, generator_for(3, own, [lengths[i] for i in places]))
            for j, i in enumerate(places):
                whole = (own[j] - fmean(own)) / (stdev(own) + 1e-6)
                assert found[i] == pytest.approx(2 * whole if j in kept else 0.0)


def test_the_mean_over_the_draws_is_the_whole() -> None:
    rewards, groups = [1.0, 0.0, -1.0, -0.5], list("aaaa")
    whole = subset_advantages(rewards, [1] * 4, groups, n=4, choice="random", scale="none", seed=0)
    options: Any = {"n": 2, "choice": "random", "scale": "none"}
    drawn = [subset_advantages(rewards, [1] * 4, groups, **options, seed=seed) for seed in range(4000)]
    for i in range(4):
        assert fmean(found[i] for found in drawn) == pytest.approx(whole[i], abs=0.08)
    often = Counter(tuple(value != 0 for value in found) for found in drawn)
    assert len(often) == 6, "every pair is drawn"


def test_names_of_groups_and_their_order_change_nothing() -> None:
    rewards, lengths = [1.0, 0.0, 0.5, -1.0], [3, 4, 5, 6]
    options: Any = {"n": 1, "choice": "random", "scale": "group", "seed": 1}
    first = subset_advantages([*rewards, 1.0, -1.0], [*lengths, 1, 2], list("aaaabb"), **options)
    other = subset_advantages([1.0, -1.0, *rewards], [1, 2, *lengths], [7, 7, 9, 9, 9, 9], **options)
    assert other == first[4:] + first[:4]


def test_what_nobody_could_judge_is_left_out() -> None:
    found = subset_advantages(
        [1.0, math.nan, 0.0, math.nan], [1] * 4, list("aaab"), n=3, choice="random", scale="none", seed=0
    )
    assert found == [0.5, 0.0, -0.5, 0.0]


# What is written


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        {"id": f"q{i}", "question": f"{i}+{i}=?", "answer": f"{2 * i}", "solution": "so" * (1 + i)} for i in range(8)
    ]
    path = tmp_path_factory.mktemp("questions") / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def exported(cli: Cli, model: Path, questions: Path, tmp_path: Path) -> Path:
    words = ["--group", 4, "--gradient-on", 2, "--batch-size", 16, "--max-tokens", 24, "--watch", questions]
    ran = cli(
        *("train", "grpo", "--model", model, "--questions", "gym:gcd?size=8", "--learning-rate", "2e-6", "--seed", 5),
        *(*words, "--watch-limit", 2, "--export", "verl", tmp_path / "x", "--json"),
    )
    assert ran.status == 0, ran.err
    assert json.loads(ran.out)["rows"] == 8
    return tmp_path / "x"


def arguments(folder: Path, program: str) -> tuple[list[str], dict[str, str]]:
    """What the launch script starts: its words, and the variables that it sets."""
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    (bin_folder / program).write_text(
        f"#!{sys.executable}\nimport json, os, sys\nprint(json.dumps([sys.argv[1:], dict(os.environ)]))\n"
    )
    (bin_folder / program).chmod(0o755)
    ran = subprocess.run(
        [folder / "launch.sh", "trainer.total_epochs=7"],
        env=os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}", "GPUS": "2", "NODES": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    words, environment = json.loads(ran.stdout)
    return words, environment


@pytest.mark.model
def test_grpo_is_written_for_verl(exported: Path) -> None:
    rows = pq.read_table(exported / "train.parquet").to_pylist()
    assert {"data_source", "prompt", "ability", "reward_model", "extra_info"} == set(rows[0])
    assert rows[0]["prompt"][0]["role"] == "user"
    assert rows[0]["reward_model"]["style"] == "rule"
    assert pq.read_table(exported / "watch.parquet").num_rows == 2
    words, environment = arguments(exported, "python3")
    assert words[:2] == ["-m", "verl.trainer.main_ppo"]
    assert words[-1] == "trainer.total_epochs=7"
    assert environment["VERL_USE_EXTERNAL_MODULES"] == "innerloop_verl"
    assert environment["PYTHONPATH"].split(":")[0] == str(exported)
    options = dict(word.split("=", 1) for word in words[2:-1])
    assert options["data.train_batch_size"] == options["actor_rollout_ref.actor.ppo_mini_batch_size"] == "4"
    assert options["actor_rollout_ref.actor.optim.lr"] == "2e-06"
    assert options["trainer.n_gpus_per_node"] == "2"
    assert options["reward.custom_reward_function.path"] == str(exported / "innerloop_reward.py")


@pytest.mark.model
@pytest.mark.parametrize(
    ("recipe", "words", "said"),
    [
        ("grpo", ["--reward", "right-short"], "--reward right-short: needs counts of tokens"),
        ("grpo", ["--loss", "luspo"], "--loss luspo: verl has no such loss"),
        ("grpo", ["--question-weights", "2"], "--question-weights: verl asks each question once a pass"),
        ("grpo", ["--schedule", "linear"], "--schedule linear: verl has constant and cosine alone"),
        ("sft", ["--answer-weight", "2"], "verl's sft has one weight"),
    ],
)
def test_what_verl_cannot_do_is_refused(
    cli: Cli, model: Path, questions: Path, tmp_path: Path, recipe: str, words: list[str], said: str
) -> None:
    ran = cli("train", recipe, "--model", model, "--questions", questions, *words, "--export", "verl", tmp_path / "x")
    assert ran.status == 2
    assert said in ran.err
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "something").touch()
    ran = cli("train", recipe, "--model", model, "--questions", questions, "--export", "verl", tmp_path / "y")
    assert "exists and is not empty" in ran.err


@pytest.mark.model
def test_the_reward_is_that_of_training(exported: Path) -> None:
    from innerloop.verbs.train.verl_reward import VerlReward

    (row, *_) = pq.read_table(exported / "train.parquet").to_pylist()
    truth, info = row["reward_model"]["ground_truth"], row["extra_info"]
    reward = VerlReward("raml", ("<think>", "</think>"))
    texts = [f"\\boxed{{{truth}}}", "\\boxed{no}", f"The answer is {truth}", "nothing"]
    assert [reward(text, truth, info)["score"] for text in texts] == [1.0, 0.0, -0.5, -1.0]


# What the real verl makes of it


def verl(folder: Path, what: str, *words: str, cwd: Path) -> dict[str, Any]:
    """What `verl_check.py` finds, in a process of its own, since verl changes much when it is imported."""
    if find_spec("verl") is None:
        pytest.skip(INSTALL)
    script = Path(__file__).with_name("verl_check.py")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]),
        "VERL_USE_EXTERNAL_MODULES": "innerloop_verl" if what == "grpo" else "",
        "HOME": str(cwd),
    }
    command = [sys.executable, "-W", "ignore", str(script), what, str(folder), *words]
    ran = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.model
def test_verl_takes_the_grpo_export(exported: Path, tmp_path: Path) -> None:
    words, _ = arguments(exported, "python3")
    found = verl(exported, "grpo", *words[2:], cwd=tmp_path)
    assert found["estimator"] == "innerloop_subset"
    assert (found["rollouts"], found["epochs"], found["lr"], found["top_k"]) == (4, 7, 2e-6, -1)
    assert found["loss"] == ["vanilla", "token-mean", 0.2, 0.28]
    assert found["rows"] == 8
    assert found["prompt"].startswith("<")
    assert found["scores"] == [1.0, 0.0, -0.5, -1.0]
    expected = subset_advantages(
        found["rewards"], found["lengths"], found["groups"], n=2, choice="random", scale="group", seed=5
    )
    assert found["advantages"] == pytest.approx(expected, abs=1e-6)
    assert found["masked"] == 0
    whole = subset_advantages(
        found["rewards"], found["lengths"], found["groups"], n=4, choice="random", scale="group", seed=5
    )
    assert found["verls_own"] == pytest.approx(whole, abs=1e-5), "n = G is verl's own GRPO"


@pytest.mark.model
def test_verl_takes_the_sft_export(cli: Cli, model: Path, questions: Path, tmp_path: Path) -> None:
    from innerloop.models import load

    folder = tmp_path / "x"
    common = ["train", "sft", "--model", model, "--questions", questions, "--passes", "2", "--batch-size", "4"]
    assert cli(*common, "--export", "verl", folder).status == 0
    rows = pq.read_table(folder / "train.parquet").to_pylist()
    assert len(rows) == 16
    words, _ = arguments(folder, "torchrun")
    assert words[:6] == ["--nnodes", "3", "--nproc-per-node", "2", "-m", "verl.trainer.sft_trainer"]
    found = verl(folder, "sft", *words[6:], cwd=tmp_path)
    assert (found["batch"], found["lr"]) == (4, 1e-5)
    if "unavailable" in found:
        pytest.skip(f"the configuration is right, but verl's dataset needs the transformers that it pins: {found}")
    loaded = load(str(model), device="cpu")
    said = rows[0]["messages"][1]["content"]
    prompt = loaded.prompt(rows[0]["messages"][0]["content"])
    assert found["learnt"].startswith(said), "the trajectory, the suffix and the answer"
    assert loaded.decode(found["ids"]).startswith(loaded.decode(prompt) + said)
