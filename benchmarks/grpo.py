"""Step time of our GRPO against the number n of G rollouts that give the gradient, beside TRL's own trainer.

    python benchmarks/grpo.py                                # the small fresh model, G = 16, 64 tokens, 5 rounds
    python benchmarks/grpo.py --shape tiny --group 4 --tokens 8 --rounds 1 --steps 2
    python benchmarks/grpo.py --model smollm2 --groups 1 --tokens 128

The same model, prompts, sampling and rewards for all: every rollout has exactly ``--tokens`` tokens (an end before is
not allowed), the reward is a number made of the rollout, and all trainers begin each round with the same generator, so
that stock and n = G do the same work; that their gradients agree is checked. Trainers take turns, round by round; each
round is ``--steps`` steps behind one that is not timed. A step is generation (sampling, rewards, advantages, choosing)
and the rest (forward, backward, optimiser). What is not chosen is dropped before the forward pass. Targets: at n = G at
most 1.05 times TRL's step, at n = G/4 less by most of the rest.
"""

from __future__ import annotations

import argparse
import copy
import random
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from innerloop.models import LoadedModel, load
from innerloop.outer.grpo import Subset, grpo_trainer
from innerloop.outer.init import fresh, save
from measure import checkpointing, log, show, spread


@dataclass
class Times(TrainerCallback):  # type: ignore[misc]  # transformers' imports are lazy
    """Seconds of each step but the first of a round, and of its generation; the gradients' norms of the last
    round."""

    steps: list[float] = field(default_factory=list)
    generation: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    begun: float = 0.0
    generating: float = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """A round."""
        self.norms = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Before anything of a step."""
        self.generating, self.begun = 0.0, time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Behind the optimiser."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if state.global_step > 1:
            self.steps.append(time.perf_counter() - self.begun)
            self.generation.append(self.generating)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
        """The numbers of a step."""
        if "grad_norm" in (logs or {}):
            self.norms.append(float(logs["grad_norm"]))

    def follow(self, trainer: Any) -> None:
        """Time the generation of a trainer, too."""
        plain = trainer._generate_and_score_completions

        def timed(inputs: Any) -> Any:
            start = time.perf_counter()
            found = plain(inputs)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.generating += time.perf_counter() - start
            return found

        trainer._generate_and_score_completions = timed


def earned(*, completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
    """A reward that differs between rollouts and costs nothing."""
    return [zlib.crc32(str(list(ids)).encode()) % 1000 / 1000 for ids in completion_ids]


def prompts_of(loaded: LoadedModel, count: int) -> dict[str, list[int]]:
    """Prompts and their tokens as TRL's trainer makes them of a text (with a second begin token), for ours, too."""
    draw = random.Random(0)
    questions = [f"{draw.randrange(10, 99)}+{draw.randrange(10, 99)}*{draw.randrange(2, 9)}=?" for _ in range(count)]
    texts = [loaded.prompt_text(question) for question in questions]
    return {text: loaded.tokenizer(text)["input_ids"] for text in texts}


def trainers(loaded: LoadedModel, options: argparse.Namespace, folder: Path) -> dict[str, tuple[Any, Times]]:
    """TRL's and ours, each with a copy of the model."""
    prompts = prompts_of(loaded, options.groups * (options.steps + 1))
    rows = [{"prompt": text, "question_id": text} for text in prompts]
    on_gpu = torch.cuda.is_available()
    arguments = {
        "output_dir": str(folder / "out"),
        "per_device_train_batch_size": options.groups * options.group,
        "steps_per_generation": 1,
        "num_generations": options.group,
        "max_completion_length": options.tokens,
        "generation_kwargs": {"min_new_tokens": options.tokens},
        "max_steps": options.steps + 1,
        "learning_rate": 1e-6,
        "loss_type": options.loss,
        "beta": 0.0,
        "use_cpu": not on_gpu,
        "bf16": on_gpu,
        checkpointing(): False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "shuffle_dataset": False,
    }
    found: dict[str, tuple[Any, Times]] = {}
    for n in (None, *options.n):
        times = Times()
        model = copy.deepcopy(loaded.model).requires_grad_(True)
        if n is None:
            trainer: Any = GRPOTrainer(
                model=model,
                args=GRPOConfig(**arguments),
                train_dataset=Dataset.from_list(rows),
                processing_class=loaded.tokenizer,
                reward_funcs=earned,
                callbacks=[times],
            )
        else:
            subset = Subset(n=n)
            trainer = grpo_trainer(
                *(model, loaded.tokenizer, rows, prompts, earned, arguments), subset=subset, callbacks=[times]
            )
        quieten(trainer)
        times.follow(trainer)
        found["TRL's trainer" if n is None else f"ours, n = {n} of {options.group}"] = trainer, times
    return found


def quieten(trainer: Any) -> None:
    """The trainer's own printing would stand between our lines."""
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="small", choices=["tiny", "small"], help="of a fresh model")
    parser.add_argument("--model", help="this model instead of a fresh one")
    parser.add_argument("--group", type=int, default=16, help="rollouts of a prompt, G")
    parser.add_argument("--groups", type=int, default=2, help="prompts of a step")
    parser.add_argument("--n", type=int, nargs="+", help="by default G, G/2, G/4 and 1")
    parser.add_argument("--tokens", type=int, default=64, help="of every rollout")
    parser.add_argument("--loss", default="dapo")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a round")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    options.n = options.n or [options.group, options.group // 2, max(1, options.group // 4), 1]
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        if options.model is None:
            save(*fresh(options.shape, "characters", 0), Path(folder) / "m")
        loaded = load(options.model or str(Path(folder) / "m"), dtype="float32")
        contestants = trainers(loaded, options, Path(folder))
        for number in range(options.rounds):
            for name, (trainer, _) in contestants.items():
                log(f"round {number + 1} of {options.rounds}: {name}")
                torch.manual_seed(number)
                trainer.train()
    table(contestants, options)


def table(contestants: dict[str, tuple[Any, Times]], options: argparse.Namespace) -> None:
    """Medians and ranges over the timed steps; ratios of the medians of each round."""
    stock = contestants["TRL's trainer"][1]
    rows = []
    for name, (_, times) in contestants.items():
        rest = [step - own for step, own in zip(times.steps, times.generation, strict=True)]
        medians = (by_round(own.steps, options.steps) for own in (times, stock))
        ratios = [own / base for own, base in zip(*medians, strict=True)]
        rows.append([name, *(spread(own, 3) for own in (times.steps, times.generation, rest)), spread(ratios, 2)])
    same = next((times for name, (_, times) in contestants.items() if f"n = {options.group} " in name), None)
    if same is not None:
        apart = max(abs(a - b) / a for a, b in zip(stock.norms, same.norms, strict=True))
        log(f"norms of the gradients of TRL's trainer and of ours at n = G agree to {apart:.1e}")
        if apart > 1e-3:
            sys.exit("they do not do the same work: the numbers are not to be compared")
    size = f"{options.groups} × {options.group} rollouts of {options.tokens} tokens"
    show(
        f"a step of GRPO: {size}, {options.model or options.shape}, {options.threads} threads",
        ["trainer", "step, s", "generation, s", "rest, s", "× TRL's step"],
        rows,
    )


def by_round(values: Sequence[float], steps: int) -> list[float]:
    """The median of each round."""
    return [statistics.median(values[at : at + steps]) for at in range(0, len(values), steps)]


if __name__ == "__main__":
    main()
