"""Seconds and tokens per second of a step of supervised fine-tuning and of GRPO, with random weights and tokens.

    python benchmarks/training.py                              # the tiny shape, on whatever is there
    python benchmarks/training.py --shape 1.5b --device cuda   # as the commands train on a GPU

Weights are float32; on a GPU products are taken in bfloat16 and activations are computed again on the way back, as
`innerloop train` has it. The first step of each is not timed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from typing import Any

import torch

from grpo import Times, earned, quieten
from innerloop.models import LoadedModel
from innerloop.outer.grpo import Subset, grpo_trainer
from innerloop.outer.rows import Row
from innerloop.outer.sft import sft_trainer
from measure import Numbers, add_options, checkpointing, log, open_model, peak, random_tokens, show, spread

RECIPES = ("sft", "grpo")


def shared_arguments(options: argparse.Namespace, device: torch.device, rows: int, folder: str) -> dict[str, Any]:
    """What both trainers are told."""
    on_gpu = device.type == "cuda"
    return {
        "output_dir": folder,
        "per_device_train_batch_size": rows // options.parts,
        "gradient_accumulation_steps": options.parts,
        "max_steps": options.steps + 1,
        "learning_rate": 1e-6,
        "use_cpu": not on_gpu,
        "bf16": on_gpu,
        checkpointing(): on_gpu,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
    }


def sft(loaded: LoadedModel, options: argparse.Namespace, folder: str, times: Times) -> tuple[Any, int]:
    """A trainer on rows of random tokens, and the tokens of a step."""
    count = options.rows * (options.steps + 1)
    rows = []
    for index in range(count):
        ids = random_tokens(options.tokens, index)
        weights = (0.0,) * (options.tokens // 8) + (1.0,) * (options.tokens - options.tokens // 8)
        rows.append(Row(f"q{index}", None, ids, weights))
    arguments = shared_arguments(options, loaded.device, options.rows, folder)
    return sft_trainer(
        loaded.model, loaded.tokenizer, rows, arguments, callbacks=[times]
    ), options.rows * options.tokens


def grpo(loaded: LoadedModel, options: argparse.Namespace, folder: str, times: Times) -> tuple[Any, int]:
    """A trainer on random prompts, and the sampled tokens of a step."""
    prompts = {f"question {i}": list(random_tokens(128, i)) for i in range(options.steps + 1)}
    arguments = shared_arguments(options, loaded.device, options.group, folder) | {
        "steps_per_generation": options.parts,
        "num_generations": options.group,
        "max_completion_length": options.completion,
        "generation_kwargs": {"min_new_tokens": options.completion},
        "loss_type": "dapo",
        "beta": 0.0,
        "shuffle_dataset": False,
    }
    rows = [{"prompt": text, "question_id": text} for text in prompts]
    trainer = grpo_trainer(
        *(loaded.model, loaded.tokenizer, rows, prompts, earned, arguments),
        subset=Subset(n=options.group),
        callbacks=[times],
    )
    times.follow(trainer)
    return trainer, options.group * options.completion


def run(recipe: str, options: argparse.Namespace, numbers: Numbers) -> list[str]:
    """Trains for a few steps; a row of the table."""
    loaded = open_model(options, "float32")
    loaded.model.requires_grad_(True).train()
    times = Times()
    with tempfile.TemporaryDirectory() as folder:
        trainer, tokens = (sft if recipe == "sft" else grpo)(loaded, options, folder, times)
        quieten(trainer)
        most = peak(loaded.device, trainer.train)
    where = {"recipe": recipe, "model": loaded.name, "device": str(loaded.device), "tokens of a step": tokens}
    rates = [tokens / step for step in times.steps]
    numbers.add("step", times.steps, "s", **where)
    numbers.add("tokens per second", rates, "1/s", **where)
    numbers.add("peak with weights", most, "MiB", **where)
    if recipe == "grpo":
        numbers.add("generation of a step", times.generation, "s", **where)
    share = statistics.median(times.generation) / statistics.median(times.steps) if recipe == "grpo" else 0.0
    return [recipe, str(tokens), spread(times.steps, 2), f"{share:.0%}", spread(rates, 0), f"{most:.0f}"]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=RECIPES)
    parser.add_argument("--rows", type=int, default=8, help="rows of a step of sft")
    parser.add_argument("--tokens", type=int, default=2048, help="of a row")
    parser.add_argument("--group", type=int, default=8, help="rollouts of a step of grpo, of one question")
    parser.add_argument("--completion", type=int, default=128, help="tokens of every rollout")
    parser.add_argument("--parts", type=int, default=1, help="parts that a step's rows are worked through in")
    parser.add_argument("--steps", type=int, default=1, help="timed steps")
    add_options(parser)
    parser.set_defaults(shape="tiny", inputs="random")
    options = parser.parse_args()
    numbers = Numbers(options.json, "training")
    rows = []
    for recipe in options.recipes:
        log(f"{recipe}, {options.shape}")
        rows.append(run(recipe, options, numbers))
    show(
        f"a step of training, random {options.shape} model in float32, {options.threads} threads",
        ["recipe", "tokens of a step", "step, s", "of it generation", "tokens/s", "peak MiB"],
        rows,
        f"Median (range) of {options.steps} steps. sft: {options.rows} rows of {options.tokens} tokens. grpo: one "
        f"question, {options.group} rollouts of {options.completion} tokens, which are what is counted.",
    )


if __name__ == "__main__":
    main()
