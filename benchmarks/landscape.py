"""What a grid point of a landscape costs beside a bare forward, against the paper's procedure.

    python benchmarks/landscape.py                    # SmolLM2, float32, 32 GSM8K questions
    python benchmarks/landscape.py --rounds 1 --questions 8
    python benchmarks/landscape.py --shape 7b --inputs random --dtype bfloat16 --device cuda --side 0 --rounds 1

A grid point is a loss of each question at one setting of the weights. The bare forward scores the same questions at θ,
once as one batch padded to the longest question and once in the groups of like length that the landscape uses. The
paper's procedure keeps both directions whole, adds them to the weights, runs the batch and subtracts them again.
The speed of shared machines drifts within seconds, so the methods take turns group by group; ratios are formed per
round, and their medians and ranges shown. Peak memory on a CPU is measured in a process of its own per method. A GPU is
filled as the command fills it: with many points in one forward, over which the drawing of directions is spread. As in
the command itself, torch's threads wait passively (OMP_WAIT_POLICY), for all methods; set the variable to measure
otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from innerloop.inner.landscape.directions import RandomDirections
from innerloop.inner.landscape.grid import grid_losses, tokens_per_forward
from innerloop.inner.landscape.scoring import Row, groups, losses, row_of
from innerloop.inner.landscape.weights import landscape_weights
from innerloop.models import LoadedModel, fingerprint
from measure import (
    DATA,
    MIB,
    Numbers,
    add_options,
    forward_operations,
    held,
    log,
    matmul_rate,
    open_model,
    peak,
    random_tokens,
    seconds,
    show,
    spread,
)

GROUP_TOKENS = 1024  # as `innerloop landscape` takes them
METHODS = ("bare", "ours", "paper")
NAMES = {
    "bare": "bare forward, one padded batch",
    "groups": "bare forward, groups of like length",
    "ours": "landscape",
    "paper": "paper: stored, add and subtract",
}


class Paper:
    """RaML alg. 4 as its code has it: stored directions, scaled per tensor, added and subtracted in place."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.weights = [weight.parameter.data for weight in landscape_weights(loaded.model).values()]
        generator = torch.Generator(loaded.device).manual_seed(0)
        self.directions = [[self._draw(weight, generator) for weight in self.weights] for _ in range(2)]

    @staticmethod
    def _draw(weight: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(weight.shape, generator=generator, device=weight.device).to(weight)
        return noise * (weight.float().norm() / noise.float().norm()).to(weight)

    def at(self, point: Sequence[float], work: Callable[[], object]) -> None:
        """Runs ``work`` at θ + Σ αᵢ δᵢ, and undoes the sum."""
        self._add(point, 1.0)
        work()
        self._add(point, -1.0)

    def _add(self, point: Sequence[float], sign: float) -> None:
        for coordinate, direction in zip(point, self.directions, strict=True):
            for weight, delta in zip(self.weights, direction, strict=True):
                weight.add_(delta, alpha=sign * coordinate)


def questions(loaded: LoadedModel, count: int, inputs: str) -> list[Row]:
    """The first real questions, or random ones of 64 to 191 tokens."""
    if inputs == "random":
        return [row_of(loaded, f"q{i}", random_tokens(64 + 37 * i % 128, i), "72") for i in range(count)]
    file = DATA / "gsm8k_test.jsonl"
    if not file.exists():
        sys.exit(f"no real questions at {file}: set INNERLOOP_DATA to the folder that holds them")
    entries = [json.loads(line) for line in file.read_text().splitlines()[:count]]
    return [row_of(loaded, entry["id"], loaded.prompt(entry["question"]), entry["answer"]) for entry in entries]


def padded(rows: Sequence[Row]) -> int:
    """Tokens of a batch, padding included."""
    return len(rows) * max(len(row.tokens) for row in rows)


@torch.no_grad()
def run_round(loaded: LoadedModel, rows: Sequence[Row], directions: RandomDirections, paper: Paper) -> dict[str, float]:
    """Seconds per grid point of each method, which take turns."""
    found: dict[str, float] = defaultdict(float)
    batch, paired = [], []
    for group in groups(rows, GROUP_TOKENS):
        ours, bare = run_group(loaded, [rows[i] for i in group], directions, budget(loaded, rows))
        found["ours"] += ours
        found["groups"] += bare
        batch.append(seconds(lambda: losses(loaded, rows), loaded.device))
        paired.append(seconds(lambda: paper.at((0.1, -0.05), lambda: losses(loaded, rows)), loaded.device))
    found["bare"], found["paper"] = statistics.median(batch), statistics.median(paired)
    return dict(found)


def budget(loaded: LoadedModel, rows: Sequence[Row]) -> int:
    """Tokens of a forward: on a CPU those of the bare batch, for a fair comparison; a GPU is filled."""
    return padded(rows) if loaded.device.type == "cpu" else max(padded(rows), tokens_per_forward(loaded))


def run_group(
    loaded: LoadedModel, rows: Sequence[Row], directions: RandomDirections, tokens: int
) -> tuple[float, float]:
    """Seconds per grid point of one group, in a landscape and bare, as many points at once as a forward's tokens."""
    points = [(0.1 * i, -0.05 * i) for i in range(max(1, tokens // padded(rows)))]
    ours = seconds(lambda: grid_losses(loaded, rows, directions, points, tokens=tokens), loaded.device)
    bare = seconds(lambda: losses(loaded, rows, len(points)), loaded.device)
    return ours / len(points), bare / len(points)


@torch.no_grad()
def peak_of(loaded: LoadedModel, rows: Sequence[Row], method: str) -> float:
    """Peak memory of a method in MiB beside the weights; on a CPU in a fresh process."""
    losses(loaded, rows[:1])  # weights are read in when they are first touched
    directions = RandomDirections(landscape_weights(loaded.model), seed=0) if method == "ours" else None
    before = held(loaded.device)

    def work() -> None:
        if method == "bare":
            losses(loaded, rows)
        elif method == "paper":
            Paper(loaded).at((0.1, -0.05), lambda: losses(loaded, rows))
        else:
            assert directions is not None
            for group in groups(rows, GROUP_TOKENS):
                own = [rows[i] for i in group]
                points = [(0.1, -0.05)] * max(1, padded(rows) // padded(own))
                grid_losses(loaded, own, directions, points, tokens=padded(rows))

    return peak(loaded.device, work) - before


@torch.no_grad()
def drift(loaded: LoadedModel, rows: Sequence[Row], side: int) -> tuple[float, float]:
    """How far the paper's procedure is from θ after a grid: ‖Δθ‖/‖θ‖, and mean |ΔL_q| in nats. Puts θ back."""
    paper = Paper(loaded)
    own = [weight.clone() for weight in paper.weights]
    before = losses(loaded, rows)
    ticks = torch.linspace(-1, 1, side).tolist()
    for alpha in ticks:
        for beta in ticks:
            paper.at((alpha, beta), lambda: None)
    moved = sum(float((a.double() - b.double()).square().sum()) for a, b in zip(paper.weights, own, strict=True))
    size = sum(float(b.double().square().sum()) for b in own)
    after = losses(loaded, rows)
    for weight, data in zip(paper.weights, own, strict=True):
        weight.copy_(data)
    return (moved / size) ** 0.5, float((after - before).abs().mean())


def layer_bytes(loaded: LoadedModel) -> float:
    """Weights of one layer that a landscape moves, in bytes (the mean over layers)."""
    weights = landscape_weights(loaded.model).values()
    total = sum(weight.parameter.numel() * weight.parameter.element_size() for weight in weights)
    return total / loaded.model.config.num_hidden_layers


def peaks(loaded: LoadedModel, rows: Sequence[Row]) -> dict[str, float]:
    """Peak memory of each method beside the weights."""
    if loaded.device.type == "cuda":
        return {method: peak_of(loaded, rows, method) for method in METHODS}
    found = {}
    for method in METHODS:
        command = [sys.executable, __file__, *sys.argv[1:], "--peak", method]
        found[method] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--questions", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", type=int, default=10, help="grid points per axis after which drift is read off; or 0")
    parser.add_argument("--no-memory", action="store_true", help="leave peak memory out")
    add_options(parser)
    parser.set_defaults(device="cpu")
    parser.add_argument("--peak", choices=METHODS, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure and print the tables."""
    options = arguments()
    if "OMP_WAIT_POLICY" not in os.environ:  # it is read when torch is loaded, so begin anew
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"OMP_WAIT_POLICY": "passive"})
    loaded = open_model(options, options.dtype)
    rows = questions(loaded, options.questions, options.inputs)
    if options.peak:
        print(peak_of(loaded, rows, options.peak))
        return
    memory = {} if options.no_memory else peaks(loaded, rows)
    same = table(options, loaded, rows, memory)
    if options.side:
        drifts(options, loaded, rows, same)


def table(options: argparse.Namespace, loaded: LoadedModel, rows: Sequence[Row], memory: dict[str, float]) -> str:
    """What a grid point costs; whether the weights came back."""
    before = fingerprint(loaded.model)
    figures = measured(options, loaded, rows)
    layer = layer_bytes(loaded) / MIB
    products = matmul_rate(loaded.dtype, loaded.device)
    tokens = sum(len(row.tokens) for row in rows)
    keys = sum(len(row.tokens) * (len(row.tokens) + 1) / 2 for row in rows)
    rate = forward_operations(loaded, tokens, keys, sum(len(row.answer) for row in rows)) / products
    note(options, loaded, figures, memory, products, rate)
    show(
        f"{loaded.name}, {options.dtype}, {loaded.device}, {options.threads} threads, {len(rows)} questions, "
        f"{padded(rows)} padded tokens",
        [
            *("per grid point", "seconds", "× bare batch", "× bare groups", "of matmul"),
            *("MiB beside weights", "beyond bare, in layers"),
        ],
        [
            [
                title,
                spread(figures[name], 3),
                spread(figures[f"{name} of bare"], 3),
                spread(figures[f"{name} of groups"], 3),
                spread([rate / value for value in figures[name]], 2),
                f"{memory[name]:.0f}" if name in memory else "–",
                f"{(memory[name] - memory['bare']) / layer:.1f}" if name in memory else "–",
            ]
            for name, title in NAMES.items()
        ],
        f"Median (range) of {options.rounds} rounds. A layer's moved weights: {layer:.1f} MiB. 'of matmul': share of "
        "the rate of large square products, on the tokens without padding. Memory: peak beside the weights, "
        "activations included; beyond the bare batch in layers' weights.",
    )
    return "none, bit for bit" if fingerprint(loaded.model) == before else "CHANGED"


def measured(options: argparse.Namespace, loaded: LoadedModel, rows: Sequence[Row]) -> dict[str, list[float]]:
    """Seconds per grid point of each method and their ratios, round by round."""
    directions, paper = RandomDirections(landscape_weights(loaded.model), seed=0), Paper(loaded)
    own = [weight.clone() for weight in paper.weights]
    figures: dict[str, list[float]] = defaultdict(list)
    for round_ in range(options.rounds):
        found = run_round(loaded, rows, directions, paper)
        for weight, data in zip(paper.weights, own, strict=True):
            weight.copy_(data)  # or the next round would run at weights that have drifted
        for name, value in found.items():
            figures[name].append(value)
            figures[f"{name} of bare"].append(value / found["bare"])
            figures[f"{name} of groups"].append(value / found["groups"])
        log(f"round {round_ + 1}: " + ", ".join(f"{name} {value:.3f} s" for name, value in found.items()))
    return figures


def note(
    options: argparse.Namespace,
    loaded: LoadedModel,
    figures: dict[str, list[float]],
    memory: dict[str, float],
    products: float,
    rate: float,
) -> None:
    """Every number of every method; ``rate``: seconds that a grid point would take at the matrix-product rate."""
    numbers = Numbers(options.json, "landscape")
    for name, title in NAMES.items():
        where = {"model": loaded.name, "dtype": options.dtype, "device": str(loaded.device), "method": title}
        numbers.add("grid point", figures[name], "s", **where)
        numbers.add("matrix-product rate", products / 1e9, "GFLOP/s", **where)
        numbers.add("share of matrix-product rate", [rate / value for value in figures[name]], "1", **where)
        numbers.add("× bare batch", figures[f"{name} of bare"], "1", **where)
        if name in memory:
            numbers.add("peak beside weights", memory[name], "MiB", **where)


def drifts(options: argparse.Namespace, loaded: LoadedModel, rows: Sequence[Row], same: str) -> None:
    """How far the paper's procedure and ours leave the weights from where they were, in this dtype and in bfloat16."""
    found = []
    for dtype in dict.fromkeys((options.dtype, "bfloat16")):
        if dtype != options.dtype:
            loaded = open_model(options, dtype)
            before = fingerprint(loaded.model)
            directions = RandomDirections(landscape_weights(loaded.model), seed=0)
            grid_losses(loaded, rows[:1], directions, [(0.3, -0.7)])
            same = "none, bit for bit" if fingerprint(loaded.model) == before else "CHANGED"
        weights, nats = drift(loaded, rows[:8], options.side)
        found.append([dtype, f"{weights:.1e}", f"{nats:.1e}", same])
    show(
        f"drift after {options.side} × {options.side} points",
        ["weights", "paper, ‖Δθ‖/‖θ‖", "paper, mean |ΔL_q| (nats)", "landscape"],
        found,
    )


if __name__ == "__main__":
    main()
