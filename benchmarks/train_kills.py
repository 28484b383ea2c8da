"""Does a training come to the same losses when it is killed, again and again?

    python benchmarks/train_kills.py                            # 10 kills each of sft, dpo, grpo and meta
    python benchmarks/train_kills.py --recipe grpo --kills 3 --steps 30

A small model that has half learnt its questions is trained on once, undisturbed. Then the same command trains into
another folder, is killed (SIGKILL) at a random moment, and is started again, until all kills have hit and the training
is done. The moments are spread over the training: each comes so many checkpoints and a fraction of a second after the
start. Every step's loss, and the weights at the end, are compared.

The exit status is 1 where a loss differs by more than 1e-6, a step is lost or there twice, or the training was over
before all kills had hit (then raise --steps).
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from innerloop.outer.meta import checkpoint
from innerloop.store import Run
from measure import kills_verdict, log, show

FAMILY = "gym:modular_chain?size={size}&min_ops=3&max_ops=3&seed=1"
SAVE_EVERY = 3
COMMON = {"learning-rate": "1e-3", "warmup": "5", "save-every": str(SAVE_EVERY), "threads": "1"}
RECIPES = {
    "sft": {"questions": FAMILY.format(size=8000), "trajectories": "oracle?style=short", "batch-size": "32"},
    "dpo": {
        "questions": FAMILY.format(size=4000),
        "trajectories": ["oracle?style=short", "oracle?style=wrong"],
        "batch-size": "16",
    },
    "grpo": {
        "questions": FAMILY.format(size=2000),
        "batch-size": "32",
        "group": "8",
        "gradient-on": "4",
        "max-tokens": "16",
        "reward": "raml",
    },
    "meta": {
        "questions": [FAMILY.format(size=200), "gym:gcd?size=200&seed=1"],
        "algorithm": "fomaml",
        "support": "2",
    },
}


def main() -> int:
    """Each recipe whole and broken, the comparison, the table."""
    options = arguments()
    draw = random.Random(options.seed)
    recipes = [options.recipe] if options.recipe else list(RECIPES)
    rows, faults = [], []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.out or scratch)
        model = pupil(folder)
        for recipe in recipes:
            settings = RECIPES[recipe] | COMMON | {"max-steps": options.steps, "model": model}
            whole, broken = folder / recipe / "whole", folder / recipe / "broken"
            ended(train(recipe, settings, whole), whole)
            kills = disturb(recipe, settings, broken, options, draw)
            row, found = compare(whole, broken)
            if len(kills) < options.kills:
                found.append(f"over after {len(kills)} of {options.kills} kills: raise --steps")
            rows.append([recipe, str(len(kills)), " ".join(map(str, kills)), *row])
            faults += [f"{recipe}: {fault}" for fault in found]
    columns = ["recipe", "kills", "after the checkpoint of step", "steps", "largest difference of a loss", "weights"]
    show("trainings that were killed, beside undisturbed ones", columns, rows)
    return kills_verdict(faults)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", choices=list(RECIPES), help="by default all")
    parser.add_argument("--kills", type=int, default=10, help="of each recipe")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", help="keep the run folders here")
    return parser.parse_args()


def pupil(folder: Path) -> Path:
    """A model whose rollouts are right now and then, so that every recipe has something to learn from."""
    fresh, taught = folder / "fresh", folder / "taught"
    settings = RECIPES["sft"] | COMMON | {"questions": FAMILY.format(size=4001), "max-steps": 100, "model": fresh}
    for recipe, chosen, out in (
        ("init", {"shape": "tiny", "tokenizer": "characters"}, fresh),
        ("sft", settings, taught),
    ):
        ended(train(recipe, chosen, out), out)
    return taught


def innerloop(recipe: str, settings: dict[str, object]) -> list[str]:
    """The command line of ``innerloop train``."""
    words = [sys.executable, "-m", "innerloop", "train", recipe]
    for name, value in settings.items():
        words += [f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)])]
    return words


def train(recipe: str, settings: dict[str, object], out: Path) -> subprocess.Popen[bytes]:
    """Start a training, or go on with it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.with_suffix(".log").open("ab") as sink:
        command = [*innerloop(recipe, settings | {"out": out}), "--json"]
        return subprocess.Popen(command, stdout=sink, stderr=sink, env=os.environ | {"OMP_NUM_THREADS": "1"})


def ended(process: subprocess.Popen[bytes], out: Path) -> int:
    """Wait for its exit status, which has to be 0 or that of a kill."""
    status = process.wait()
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"exit status {status}:\n{out.with_suffix('.log').read_text()[-2000:]}")
    return status


def disturb(
    recipe: str, settings: dict[str, object], out: Path, options: argparse.Namespace, draw: random.Random
) -> list[int]:
    """Kill until the quota is reached, start again until the training is done; the last checkpoint at each kill."""
    kills: list[int] = []
    share = options.steps // (SAVE_EVERY * options.kills)  # of the checkpoints, for each kill
    while True:
        awaited = last_checkpoint(out) + SAVE_EVERY * draw.randint(1, max(share, 1))
        process = train(recipe, settings, out)
        due = None
        while process.poll() is None:
            time.sleep(0.02)
            if due is None and last_checkpoint(out) >= awaited:
                due = time.monotonic() + draw.uniform(0, 0.5)
            if due is not None and time.monotonic() >= due and len(kills) < options.kills:
                process.kill()
        if ended(process, out) == 0:
            return kills
        kills.append(last_checkpoint(out))
        log(f"{recipe}: kill {len(kills)} of {options.kills}, after the checkpoint of step {kills[-1]}")


def last_checkpoint(out: Path) -> int:
    """Its step; 0 without any."""
    if (own := out / "checkpoints" / "meta.safetensors").is_file():
        return int(checkpoint.load(own, tensors=False).values["step"])
    whole = out.glob("checkpoints/checkpoint-*/whole.json")
    return max((int(path.parent.name.rpartition("-")[2]) for path in whole), default=0)


def compare(whole: Path, broken: Path) -> tuple[list[str], list[str]]:
    """Steps, largest difference of a loss and whether the weights are the same; and what is wrong."""
    runs = Run.open(whole), Run.open(broken)
    one, two = ([(step.step, dict(step.metrics)["loss"]) for step in run.steps()] for run in runs)
    faults = []
    if [step for step, _ in one] != [step for step, _ in two]:
        faults.append(f"{len(two)} steps for {len(one)}, or others")
    worst = max((abs(a - b) for (_, a), (_, b) in zip(one, two, strict=False)), default=float("nan"))
    if not worst <= 1e-6:
        faults.append(f"a loss differs by {worst:.2g}")
    first, second = (load_file(run.path / "model" / "model.safetensors") for run in runs)
    same = first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    return [str(len(two)), f"{worst:.1g}", "the same bits" if same else "others"], faults


if __name__ == "__main__":
    sys.exit(main())
