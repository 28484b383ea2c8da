"""Several processes: the step of one, one who writes, and the configurations that ship."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import Ran

from innerloop.store import Run

Cli = Callable[..., Ran]
RECIPES = Path(__file__).resolve().parents[1] / "recipes" / "accelerate"
SHIPPED = sorted(RECIPES.glob("*.yaml"))


def launched(count: int, *words: Any, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run ``python WORDS`` in so many processes, as ``accelerate launch`` does."""
    command = [sys.executable, *map(str, words)]
    if count > 1:
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(RECIPES / "cpu-2.yaml")]
        command = [*launch, "--num_processes", str(count), "--main_process_port", "0", *map(str, words)]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).resolve().parents[1]), *filter(None, sys.path)]),
    }
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert not check or ran.returncode == 0, ran.stderr[-4000:]
    return ran


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        {"id": f"q{i}", "question": f"{i}+{i}=?", "answer": str(2 * i), "solution": "so" * (1 + i)} for i in range(6)
    ]
    path = tmp_path_factory.mktemp("questions") / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def weights(run: Path) -> torch.Tensor:
    from innerloop.models import load

    return torch.cat([weight.flatten() for weight in load(str(run), device="cpu").model.parameters()])


def metrics(run: Path) -> list[dict[str, float]]:
    return [{"step": step.step, **dict(step.metrics)} for step in Run.open(run).steps() if step.kind == "train"]


@pytest.mark.model
@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_accelerate_reads_the_configurations(file: Path) -> None:
    from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    found = load_config_from_file(str(file))
    assert isinstance(found, ClusterConfig)
    assert found.num_processes == (2 if file.stem == "cpu-2" else 8)
    arguments = ["--config_file", str(file), "-m", "innerloop", "train", "sft", "--dry-run"]
    args, *_ = _validate_launch_command(launch_command_parser().parse_args(arguments))
    assert (args.module, args.training_script) == (True, "innerloop")
    assert args.training_script_args == ["train", "sft", "--dry-run"]
    kind = {"fsdp2": "use_fsdp", "deepspeed-zero3": "use_deepspeed"}.get(file.stem, "multi_gpu")
    assert getattr(args, kind) is True
    if file.stem == "fsdp2":
        assert int(args.fsdp_version) == 2
    if file.stem == "deepspeed-zero3":
        assert int(args.zero_stage) == 3


def test_there_are_configurations_for_each_size() -> None:
    assert {file.stem for file in SHIPPED} == {"multi-gpu", "fsdp2", "deepspeed-zero3", "cpu-2"}


def sft(model: Path, questions: Path, out: Path, **changes: Any) -> list[Any]:
    options = {"batch_size": 4, "learning_rate": 1e-3, "threads": 1, "save_every": 1, "passes": 2, "max_steps": 2}
    options |= {"model": model, "questions": questions, "out": out, "device": "cpu"} | changes
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    return ["-m", "innerloop", "train", "sft", *words, "--json"]


@pytest.mark.model
def test_two_processes_make_the_sft_steps_of_one(model: Path, questions: Path, tmp_path: Path) -> None:
    watched = {"watch": questions, "watch_limit": 1, "watch_samples": 0, "watch_trajectories": "solutions"}
    # Five questions are left: ten rows in steps of four, the last of which has two.
    options = watched | {"max_steps": 3, "watch_every": 2}
    launched(1, *sft(model, questions, tmp_path / "one", **options))
    ran = launched(2, *sft(model, questions, tmp_path / "two", **options))
    one, two = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    assert [step["step"] for step in two] == [1, 2, 3], "each step is recorded once"
    for name in ("loss", "grad_norm"):
        assert [step[name] for step in two] == pytest.approx([step[name] for step in one], abs=1e-5)
    torch.testing.assert_close(weights(tmp_path / "two"), weights(tmp_path / "one"), rtol=0, atol=1e-5)
    result = json.loads(ran.stdout.splitlines()[-1])
    assert (result["steps"], len(ran.stdout.splitlines())) == (3, 1), "the first process alone speaks"
    assert [look["step"] for look in result["looks"]] == [0, 2, 3]
    assert Run.open(tmp_path / "two").manifest["stages"]["train sft"]["status"] == "complete"
    again = launched(2, *sft(model, questions, tmp_path / "two", **options))
    assert json.loads(again.stdout.splitlines()[-1])["new_steps"] == 0


@pytest.mark.model
@pytest.mark.long
def test_two_processes_stop_together_and_go_on(model: Path, questions: Path, tmp_path: Path) -> None:
    options = {"max_steps": 4, "passes": 4}
    launched(2, *sft(model, questions, tmp_path / "r", **options, minutes=1e-6))
    assert len(metrics(tmp_path / "r")) == 1
    launched(2, *sft(model, questions, tmp_path / "r", **options))
    launched(1, *sft(model, questions, tmp_path / "whole", **options))
    whole = [step["loss"] for step in metrics(tmp_path / "whole")]
    assert [step["loss"] for step in metrics(tmp_path / "r")] == pytest.approx(whole, abs=1e-5)


@pytest.mark.model
@pytest.mark.long
def test_input_that_cannot_be_used_is_said_by_the_first(model: Path, questions: Path, tmp_path: Path) -> None:
    ran = launched(2, *sft(model, questions, tmp_path / "r", batch_size=3), check=False)
    assert ran.returncode != 0
    assert "--batch-size 3: 2 processes with --parts 1 do not divide it" in ran.stderr


GRPO_STEP = '''
import json, sys
from pathlib import Path
import torch
from accelerate import PartialState
state = PartialState(cpu=True)
from innerloop.models import load
from innerloop.outer import grpo as module
from innerloop.outer.grpo import Subset, SubsetGRPOTrainer, grpo_trainer
from innerloop.outer.subset import chosen_rows

folder, model, loss, world = Path(sys.argv[1]), sys.argv[2], sys.argv[3], state.num_processes
loaded = load(model, device="cpu", threads=1)
loaded.model.requires_grad_(True).train()
texts = [loaded.prompt_text(f"{i}+{i}=?") for i in range(4)]
prompts = {text: loaded.prompt(f"{i}+{i}=?") for i, text in enumerate(texts)}
end = loaded.tokenizer.eos_token_id
seen = []

class Scripted(SubsetGRPOTrainer):
    """Rollouts that follow from the question and their place in its group, instead of sampled ones."""
    def _generate(self, prompts_here, *args, **kwargs):
        ids, places = [], {}
        for text in prompts_here:
            place = places[text] = places.get(text, -1) + 1
            generator = torch.Generator().manual_seed(97 * texts.index(text) + place)
            ids.append([*torch.randint(5, 60, (2 + place,), generator=generator).tolist(), end])
        self._scripted = ids
        return super()._generate(prompts_here, *args, **kwargs)
    def _generate_single_turn(self, *args, **kwargs):
        _, *rest = super()._generate_single_turn(*args, **kwargs)
        return (self._scripted, *rest)

def noted(rewards, size, n, *, choice, seed, step, first_group=0):
    kept = chosen_rows(rewards, size, n, choice=choice, seed=seed, step=step, first_group=first_group)
    groups = len(rewards) // size
    seen.extend([step, first_group + g, [k - g * size for k in kept if k // size == g]] for g in range(groups))
    return kept

module.chosen_rows = noted
module.SubsetGRPOTrainer = Scripted

def reward(completion_ids, **_):
    return [float(sum(ids) % 7) for ids in completion_ids]

trainer = grpo_trainer(
    loaded.model, loaded.tokenizer,
    [{"prompt": text, "question_id": str(i)} for _ in range(2) for i, text in enumerate(texts)], prompts, reward,
    {"output_dir": str(folder / f"out{world}"), "per_device_train_batch_size": 16 // world, "num_generations": 4,
     "max_completion_length": 8, "use_cpu": True, "bf16": False, "activation_checkpointing": False, "seed": 3,
     "report_to": "none", "max_steps": 2, "learning_rate": 1e-3, "loss_type": loss, "shuffle_dataset": False,
     "save_strategy": "steps", "save_steps": 1, "logging_steps": 1, "remove_unused_columns": False, "optim": "sgd",
     "disable_tqdm": True, "max_grad_norm": 0.0},
    subset=Subset(n=2))
trainer.train(resume_from_checkpoint=sys.argv[4] if len(sys.argv) > 4 else None)
(folder / f"seen{world}-{state.process_index}.json").write_text(json.dumps(seen))
if state.is_main_process:
    kept = [weight.detach().flatten() for weight in trainer.accelerator.unwrap_model(trainer.model).parameters()]
    torch.save(torch.cat(kept), folder / f"weights{world}.pt")
state.destroy_process_group()
'''


@pytest.mark.model
@pytest.mark.long  # sft's steps are compared in the second tier
@pytest.mark.parametrize("loss", ["dapo", "grpo"])
def test_two_processes_make_the_grpo_steps_of_one(model: Path, tmp_path: Path, loss: str) -> None:
    script = tmp_path / "step.py"
    script.write_text(GRPO_STEP)
    launched(1, script, tmp_path, model, loss)
    launched(2, script, tmp_path, model, loss)

    def choices(*names: str) -> list[Any]:
        return sorted(entry for name in names for entry in json.loads((tmp_path / f"seen{name}.json").read_text()))

    whole = choices("1-0")
    assert whole == choices("2-0", "2-1"), "the same rollouts are chosen"
    assert len(whole) == 8
    one, two = (torch.load(tmp_path / f"weights{count}.pt") for count in (1, 2))
    from innerloop.models import load

    start = torch.cat([weight.flatten() for weight in load(str(model), device="cpu").model.parameters()])
    assert float((one - start).abs().max()) > 1e-4
    torch.testing.assert_close(two, one, rtol=0, atol=1e-6)
    torch.testing.assert_close((two - start) / 1e-3, (one - start) / 1e-3, rtol=0, atol=1e-3)  # sums of two gradients
    if loss == "dapo":
        launched(2, script, tmp_path, model, loss, tmp_path / "out2" / "checkpoint-1")
        assert choices("2-0", "2-1") == [entry for entry in whole if entry[0] == 1], "after a restart, too"


@pytest.mark.model
@pytest.mark.long
def test_grpo_runs_in_two_processes(cli: Cli, model: Path, tmp_path: Path) -> None:
    words = ["--model", model, "--questions", "gym:gcd?size=8", "--group", 2, "--batch-size", 8, "--gradient-on", 1]
    words += ["--max-tokens", 6, "--threads", 1, "--device", "cpu", "--out", tmp_path / "r", "--json"]
    ran = launched(2, "-m", "innerloop", "train", "grpo", *words)
    result = json.loads(ran.stdout.splitlines()[-1])
    assert (result["steps"], len(metrics(tmp_path / "r"))) == (2, 2)
    assert Run.open(tmp_path / "r").manifest["stages"]["train grpo"]["notes"]["audit"]["right"] == 1
    uneven = launched(
        2, "-m", "innerloop", "train", "grpo", *words[:-3], "--out", tmp_path / "s", "--parts", 4, check=False
    )
    assert "so that a question's rollouts stay together" in uneven.stderr


@pytest.mark.model
@pytest.mark.long
def test_two_processes_make_the_dpo_steps_of_one(model: Path, questions: Path, tmp_path: Path) -> None:
    sides = [("right", 0), ("wrongly", 1)]
    rows = [{"question_id": f"q{i}", "text": text, "answer": f"{2 * i + off}"} for i in range(6) for text, off in sides]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--model", model, "--questions", questions, "--trajectories", tmp_path / "t.jsonl", "--batch-size", 4]
    words += ["--passes", 2, "--sft-weight", 0.5, "--learning-rate", 1e-4, "--threads", 1, "--device", "cpu", "--json"]
    for count in (1, 2):
        launched(count, "-m", "innerloop", "train", "dpo", *words, "--out", tmp_path / str(count))
    one, two = metrics(tmp_path / "1"), metrics(tmp_path / "2")
    assert len(one) == 3
    for name in ("loss", "grad_norm"):
        assert [step[name] for step in two] == pytest.approx([step[name] for step in one], abs=1e-5)
    # AdamW's first steps are as large as the learning rate, however small a gradient is that is round-off.
    torch.testing.assert_close(weights(tmp_path / "2"), weights(tmp_path / "1"), rtol=0, atol=5e-6)


@pytest.mark.model
@pytest.mark.long
def test_meta_runs_in_two_processes(model: Path, questions: Path, tmp_path: Path) -> None:
    words = ["--model", model, "--questions", questions, "--trajectories", "solutions", "--support", 2, "--query", 2]
    words += ["--max-steps", 2, "--save-every", 1, "--threads", 1, "--device", "cpu", "--json"]
    for count in (1, 2):
        launched(count, "-m", "innerloop", "train", "meta", *words, "--out", tmp_path / str(count))
    one, two = metrics(tmp_path / "1"), metrics(tmp_path / "2")
    assert [step["loss"] for step in two] == pytest.approx([step["loss"] for step in one], abs=1e-5)
    torch.testing.assert_close(weights(tmp_path / "2"), weights(tmp_path / "1"), rtol=0, atol=1e-5)
