"""Made-up trainings: steps and looks with a known story, written into a run folder by the real store.

from innerloop.testing.trainings import made_up_steps, write_training
run = write_training(tmp_path / "R", made_up_steps(steps=200, looks=5))
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path

from innerloop.schema import Step
from innerloop.store import Run


def made_up_steps(
    *, steps: int, looks: int, reward: bool = True, families: Sequence[str] = (), seed: int = 0
) -> list[Step]:
    """A training by reward (or by loss alone) of one second a step and a thousand tokens.

    The story: reward rises from −0.8 towards 0.8, pass@1 on held-out questions from 0.2 to 0.5, entropy falls from 1 to
    a third, rollouts grow from 30 to 60 tokens, and at the end half of the groups have no signal.
    """
    draw = random.Random(seed)
    made = []
    for step in range(1, steps + 1):
        way = step / steps
        numbers = {
            "loss": 0.01 * draw.gauss(0, 1) if reward else 2 * math.exp(-3 * way) + 0.05 * draw.random(),
            "grad_norm": 0.5 + 0.1 * draw.random(),
            "learning_rate": 1e-4 * (1 - way) + 1e-6,
            "entropy": math.exp(-1.1 * way),
            "num_tokens": 1000.0 * step,
            "step_time": 1.0,
        }
        if reward:
            length = 30 + 30 * way
            numbers |= {
                "reward": 1.6 * way - 0.8 + 0.05 * draw.gauss(0, 1),
                "reward_std": 0.4,
                "right": 0.2 + 0.6 * way,
                "form": 0.9,
                "completions/mean_length": length,
                "completions/min_length": 0.5 * length,
                "completions/max_length": 1.5 * length,
                "completions/clipped_ratio": 0.05,
                "clip_ratio/region_mean": 0.01,
                "frac_reward_zero_std": 0.5 * way,
            }
        numbers |= {f"loss/{name}": numbers["loss"] + i for i, name in enumerate(families)}
        made.append(Step.of("train", step, float(step), numbers))
    for look in range(looks):
        at = round(look * steps / max(1, looks - 1))
        right = 0.2 + 0.3 * at / steps
        numbers = {
            "watch_pass@1": right,
            "watch_pass@1_low": right - 0.08,
            "watch_pass@1_high": right + 0.08,
            "watch_tokens": 30.0 + look,
            "watch_entropy": 1.0 / (1 + look),
        }
        numbers |= {f"watch_pass@1/{name}": right + 0.1 * i for i, name in enumerate(families)}
        made.append(Step.of("watch", at, float(at), numbers))
    return made


def write_training(path: Path, steps: Sequence[Step], *, recipe: str = "grpo") -> Path:
    """A finished training's folder at ``path`` that holds these records, without a model."""
    command = ("innerloop", "train", recipe)
    model = {"name": "tiny", "parameters": 860_000, "dtype": "float32", "fingerprint": "ab12cd34ef56ab78"}
    configuration = {"questions": "made-up.jsonl", "seed": 5}
    with Run.start(path, f"train {recipe}", configuration, command=command, model=model) as run:
        run.write("steps", Step.to_table(steps))
    return path
