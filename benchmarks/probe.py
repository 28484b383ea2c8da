"""How fast the probe is, against the paper's method, a KV-cache loop, lm-eval and the machine itself.

    python benchmarks/probe.py                          # SmolLM2, float32 and bfloat16, 128, 512 and 2,048 tokens
    python benchmarks/probe.py --lengths 128 --rounds 1
    python benchmarks/probe.py --shape 7b --lengths 8192 --device cuda    # a random model of 7B shape
    python benchmarks/probe.py --shape 7b --inputs random --device cuda   # the same without any data or tokenizer

Each round takes another chain of thought. The speed of shared machines drifts within seconds, so the other
methods and the matrix products are run in the pauses between the rows of one probe, spread over all of it, and the
probe's clock is stopped meanwhile. Ratios are formed per round, and their medians and ranges shown. The other methods
are timed on a random subset of the positions, one from each of as many equal parts of the trajectory, and
extrapolated to all n + 1; such figures carry a ~.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from innerloop.inner.probe import ProbeItem, probe
from innerloop.memory import cache_bytes
from innerloop.models import LoadedModel
from innerloop.schema import Curve
from measure import (
    MIB,
    Numbers,
    add_options,
    forward_operations,
    held,
    log,
    matmul_rate,
    open_model,
    peak,
    seconds,
    show,
    spread,
    trajectories,
)

JUDGE_BATCH = 8


def branch_of(loaded: LoadedModel, item: ProbeItem) -> tuple[list[int], list[int]]:
    """Tokens fed behind each prefix, and the answer's."""
    answer = loaded.answer_ids(item.answer)
    return (loaded.suffix_ids + answer)[:-1], answer


def needed_operations(loaded: LoadedModel, item: ProbeItem) -> float:
    """Floating-point operations of the tokens that have to be computed: each context token once, each branch once, and
    the output head only where the answer is predicted."""
    branch, answer = (len(tokens) for tokens in branch_of(loaded, item))
    prompt, n = len(item.prompt), len(item.trajectory)
    keys = (prompt + n) * (prompt + n + 1) / 2
    keys += sum(branch * (prompt + i) + branch * (branch + 1) / 2 for i in range(n + 1))
    return forward_operations(loaded, prompt + n + (n + 1) * branch, keys, (n + 1) * answer)


def subset(n: int, count: int, seed: int) -> list[int]:
    """Random positions, one from each of ``count`` equal parts of 0…n."""
    generator = np.random.default_rng(seed)
    edges = np.linspace(0, n + 1, min(count, n + 1) + 1).astype(int)
    return [int(generator.integers(a, b)) for a, b in itertools.pairwise(edges)]


def run_loop(loaded: LoadedModel, item: ProbeItem, position: int, *, merged: bool) -> float:
    """Seconds of one position in a loop with a KV cache, filled up to the token before when the clock starts.

    The usual loop reads token i in one forward and looks at the answer in a second one; the strongest that one would
    write by hand merges the two.
    """
    branch, answer = branch_of(loaded, item)
    cache = DynamicCache(config=loaded.model.config)
    context = [*item.prompt, *item.trajectory[:position]]
    target = torch.tensor(answer, device=loaded.device)

    def feed(tokens: list[int]) -> Tensor:
        ids = torch.tensor([tokens], device=loaded.device)
        return loaded.model(input_ids=ids, past_key_values=cache, logits_to_keep=len(answer)).logits

    def look() -> None:
        if merged:
            logits = feed(context[-1:] + branch)
        else:
            feed(context[-1:])
            logits = feed(branch)
        torch.nn.functional.cross_entropy(logits[0].float(), target)
        cache.crop(-len(branch))

    with torch.inference_mode():
        feed(context[:-1])
        return seconds(look, loaded.device)


def run_judge(loaded: LoadedModel, item: ProbeItem, chosen: Sequence[int]) -> float:
    """Seconds of lm-eval's log-likelihoods of the same contexts and answers, in one batch."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    from lm_eval.models.huggingface import HFLM

    judge = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=8, max_length=32768)
    answer = loaded.answer_ids(item.answer)
    requests = [(("", ""), [*item.prompt, *item.trajectory[:i], *loaded.suffix_ids], answer) for i in chosen]
    return seconds(lambda: judge._loglikelihood_tokens(requests, disable_tqdm=True), loaded.device)


@dataclass
class Pauses:
    """What runs between the rows of a probe: the other methods on chosen positions, and matrix products."""

    loaded: LoadedModel
    item: ProbeItem
    chosen: Sequence[int]
    baselines: Sequence[str]
    paper: float = 0.0  # seconds on the chosen positions
    loop: float = 0.0
    merged: float = 0.0
    judge: float = 0.0
    taken: float = 0.0  # seconds of all pauses
    losses: dict[int, float] = field(default_factory=dict)
    rates: list[float] = field(default_factory=list)
    _done: int = 0
    _next: int = 0

    def __call__(self, positions: int) -> None:
        """Called by the probe after each row; does a share of the work that keeps up with the probe's progress."""
        start = time.perf_counter()
        model, own = self.loaded.model, self.loaded.model.config._attn_implementation
        model.set_attn_implementation("sdpa")
        self._done += positions
        self.rates.append(matmul_rate(self.loaded.dtype, self.loaded.device, repeats=1))
        due = round(len(self.chosen) * self._done / (len(self.item.trajectory) + 1))
        while self._next < due:
            self._position(self._next)
            self._next += 1
        model.set_attn_implementation(own)
        self.taken += time.perf_counter() - start

    def _position(self, index: int) -> None:
        position = self.chosen[index]
        plain: list[Curve] = []
        self.paper += seconds(
            lambda: plain.extend(probe(self.loaded, [self.item], every=(position,), method="plain")),
            self.loaded.device,
        )
        self.losses[position] = plain[0].loss[0]
        if "loop" in self.baselines:
            self.loop += run_loop(self.loaded, self.item, position, merged=False)
            self.merged += run_loop(self.loaded, self.item, position, merged=True)
        if "lm-eval" in self.baselines and (index + 1) % JUDGE_BATCH == 0:
            self.judge += run_judge(self.loaded, self.item, self.chosen[index + 1 - JUDGE_BATCH : index + 1])


def run_round(
    loaded: LoadedModel, item: ProbeItem, chosen: Sequence[int], baselines: Sequence[str], exact: dict[str, Curve]
) -> dict[str, float]:
    """One chain. ``exact`` keeps the float32 curves, which lower precisions are compared with."""
    n = len(item.trajectory)
    pauses = Pauses(loaded, item, chosen, baselines)
    curves: list[Curve] = []
    taken = seconds(lambda: curves.extend(probe(loaded, [item], compare=False, on_progress=pauses)), loaded.device)
    ours = taken - pauses.taken
    [curve] = curves
    operations = needed_operations(loaded, item)
    all_positions = (n + 1) / len(chosen) / ours
    figures = {
        "seconds": ours,
        "rate": operations / ours / 1e9,
        "fraction": operations / ours / statistics.median(pauses.rates),
        "products": statistics.median(pauses.rates) / 1e9,
        "paper": pauses.paper * all_positions,
        "error": max(abs(loss - curve.loss[i]) for i, loss in pauses.losses.items()),
    }
    if "loop" in baselines:
        figures["loop"] = pauses.loop * all_positions
        figures["merged"] = pauses.merged * all_positions
    if "lm-eval" in baselines:
        figures["judge"] = pauses.judge * all_positions
    key = f"{item.trajectory_id} {n}"
    if loaded.dtype == torch.float32:
        exact[key] = curve
    elif key in exact:
        figures["float32"] = float(np.abs(np.subtract(curve.loss, exact[key].loss)).mean())
    log(f"  {item.trajectory_id}: {ours:.1f} s, {figures['fraction']:.2f} of the matrix-product rate")
    return figures


def peak_beside(loaded: LoadedModel, item: ProbeItem) -> float:
    """Peak memory of a probe in MiB, beside the weights and the trajectory's keys and values."""
    kept = (len(item.prompt) + len(item.trajectory)) * cache_bytes(loaded.model.config, loaded.dtype.itemsize) / MIB
    before = held(loaded.device)
    return peak(loaded.device, lambda: list(probe(loaded, [item], compare=False))) - before - kept


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 512, 2048], help="tokens of a trajectory")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=3, help="chains per length")
    parser.add_argument("--positions", type=int, default=16, help="positions on which the slow methods are timed")
    parser.add_argument("--baselines", nargs="*", default=["loop", "lm-eval"], choices=["loop", "lm-eval"])
    add_options(parser)
    return parser.parse_args()


#: What goes into ``--json``: unit and name of each figure.
FIGURES = {
    "seconds": ("s", "probe"),
    "rate": ("GFLOP/s", "rate on needed operations"),
    "fraction": ("1", "share of matrix-product rate"),
    "products": ("GFLOP/s", "matrix-product rate"),
    "paper": ("1", "plain method / probe, extrapolated"),
    "loop": ("1", "KV-cache loop / probe, extrapolated"),
    "merged": ("1", "merged KV-cache loop / probe, extrapolated"),
    "judge": ("1", "lm-eval / probe, extrapolated"),
    "peak": ("MiB", "peak beside weights and prefix cache"),
    "error": ("nats", "largest difference from plain, same dtype"),
    "float32": ("nats", "mean difference from float32"),
}


def main() -> None:
    """Measure and print one table per dtype."""
    options = arguments()
    numbers = Numbers(options.json, "probe")
    exact: dict[str, Curve] = {}
    for dtype in options.dtypes:
        loaded = open_model(options, dtype)
        rows = []
        for n in options.lengths:
            log(f"{loaded.name}, {dtype}, {n} tokens")
            figures: dict[str, list[float]] = defaultdict(list)
            items = list(trajectories(loaded, n, options.rounds, options.inputs))
            figures["peak"].append(peak_beside(loaded, items[0]))  # warms up, too
            for round_, item in enumerate(items):
                chosen = subset(n, options.positions, round_)
                for name, value in run_round(loaded, item, chosen, options.baselines, exact).items():
                    figures[name].append(value)
            for name, values in figures.items():
                unit, title = FIGURES[name]
                numbers.add(title, values, unit, model=loaded.name, dtype=dtype, device=str(loaded.device), tokens=n)
            rows.append(_row(n, figures))
        weights = sum(w.numel() * w.element_size() for w in loaded.model.parameters()) / MIB
        show(
            f"{loaded.name}, {dtype}, {loaded.device}, {options.threads} threads, weights {weights:.0f} MiB",
            [
                "n",
                "seconds",
                "× paper",
                "× KV loop",
                "× merged loop",
                "× lm-eval",
                "GFLOP/s",
                "of matmul",
                "MiB beside",
                "error",
                "off float32",
            ],
            rows,
            f"n: tokens of the trajectory, losses at all n + 1 positions. Median (range) of {options.rounds} chains. "
            f"~: timed on {options.positions} random positions, extrapolated. 'of matmul': share of the rate of "
            "large square products, on the tokens that must be computed. 'MiB beside': peak memory beside weights and "
            "prefix cache. 'error': largest difference from the plain method in the same dtype, 'off float32': mean "
            "difference from the float32 losses, both in nats per answer token.",
        )


def _row(n: int, figures: dict[str, list[float]]) -> list[str]:
    def ratio(name: str) -> str:
        return "~" + spread(figures[name]) if figures[name] else "–"

    return [
        str(n),
        spread(figures["seconds"]),
        ratio("paper"),
        ratio("loop"),
        ratio("merged"),
        ratio("judge"),
        spread(figures["rate"], 0),
        spread(figures["fraction"], 2),
        spread(figures["peak"], 0),
        f"{max(figures['error']):.1e}",
        f"{max(figures['float32']):.2f}" if figures["float32"] else "–",
    ]


if __name__ == "__main__":
    main()
