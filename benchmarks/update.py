"""What the inner loop's weights cost: seconds per position against one full forward of the same tokens, and memory.

    python benchmarks/update.py                        # SmolLM2, float32, gauges attention and mlp
    python benchmarks/update.py --lengths 64 --rounds 1
    python benchmarks/update.py --shape 7b --inputs random --dtype bfloat16 --lengths 2048 8192 --device cuda

Each round takes another chain of thought. Updates at ``--positions`` places spread over it, full forwards of
(q, t≤ᵢ, s, a) at the same places, and a probe of the same positions run in turn; ratios are formed per round, their
medians and ranges shown. The gradient's alignment, where asked for, is a row of its own.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial

import torch

from innerloop.inner.alignment import align
from innerloop.inner.probe import ProbeItem, probe
from innerloop.inner.update import GaugeName, TrajectoryUpdate, update
from innerloop.models import LoadedModel
from measure import (
    Numbers,
    add_options,
    forward_operations,
    log,
    matmul_rate,
    open_model,
    peak,
    seconds,
    show,
    spread,
    trajectories,
)

GAUGES: tuple[GaugeName, ...] = ("attention", "mlp")


def places(length: int, count: int) -> list[int]:
    """Ends of equal parts of a trajectory."""
    return sorted({length * part // count for part in range(1, count + 1)})


def forwards(loaded: LoadedModel, item: ProbeItem, where: list[int]) -> Callable[[], None]:
    """One full forward of (q, t≤ᵢ, s, a) for each place, what a user would run to see the answer once."""
    branch = (loaded.suffix_ids + loaded.answer_ids(item.answer))[:-1]
    keep = len(loaded.answer_ids(item.answer))

    @torch.inference_mode()
    def run() -> None:
        for i in where:
            ids = torch.tensor([[*item.prompt, *item.trajectory[:i], *branch]], device=loaded.device)
            loaded.model(input_ids=ids, use_cache=False, logits_to_keep=keep)

    return run


def needed_operations(loaded: LoadedModel, item: ProbeItem, where: list[int]) -> float:
    """Floating-point operations of an update's forwards: the context once, the branches against it, and the reduced
    run of each position twice, as it is and patched. Solving for the patch is not counted."""
    answer = loaded.answer_ids(item.answer)
    branch, prompt, count = len(loaded.suffix_ids) + len(answer) - 1, len(item.prompt), len(where)
    context, short = prompt + len(item.trajectory), prompt + branch
    tokens = context + count * branch + 2 * count * short
    keys = context * (context + 1) / 2 + sum(branch * (prompt + i + (branch + 1) / 2) for i in where)
    return forward_operations(loaded, tokens, keys + count * short * (short + 1), 3 * count * len(answer))


def run_round(loaded: LoadedModel, item: ProbeItem, where: list[int], figures: dict[str, list[float]]) -> None:
    """One chain: each kind of work once."""
    plain = seconds(forwards(loaded, item, where), loaded.device)
    figures["forward"].append(plain / len(where))
    for gauge in GAUGES:
        taken, made = timed_update(loaded, item, where, gauge)
        figures[gauge].append(taken / plain)
        figures[f"{gauge} seconds"].append(taken)
        figures[f"{gauge} rate"].append(needed_operations(loaded, item, where) / taken)
        figures[f"{gauge} residual"].append(float(made.residual.max()))
        if gauge == "attention":
            figures["alignment"].append(seconds(partial(align, loaded, made), loaded.device) / plain)


def timed_update(
    loaded: LoadedModel, item: ProbeItem, where: list[int], gauge: GaugeName
) -> tuple[float, TrajectoryUpdate]:
    """Seconds of an update, and the update."""
    made: list[TrajectoryUpdate] = []
    taken = seconds(lambda: made.extend(update(loaded, [item], positions=[where], gauge=gauge)), loaded.device)
    return taken, made[0]


def _all(make: Callable[..., Iterator[object]], *arguments: object, **options: object) -> None:
    """Run a generator to its end and keep nothing."""
    for _ in make(*arguments, **options):
        pass


def note(
    numbers: Numbers,
    figures: dict[str, list[float]],
    gauge: str,
    most: float,
    products: float,
    where: dict[str, object],
) -> None:
    """Every number of one gauge and length."""
    numbers.add("update", figures[f"{gauge} seconds"], "s", **where)
    numbers.add("plain forward of one position", figures["forward"], "s", **where)
    numbers.add("update / plain forwards", figures[gauge], "1", **where)
    numbers.add("matrix-product rate", products / 1e9, "GFLOP/s", **where)
    numbers.add("share of matrix-product rate", [r / products for r in figures[f"{gauge} rate"]], "1", **where)
    numbers.add("largest residual", max(figures[f"{gauge} residual"]), "nats", **where)
    numbers.add("peak with weights", most, "MiB", **where)
    if gauge == "attention":
        numbers.add("alignment / plain forwards", figures["alignment"], "1", **where)


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--rounds", type=int, default=3, help="chains per length")
    parser.add_argument("--positions", type=int, default=8)
    add_options(parser)
    options = parser.parse_args()
    loaded = open_model(options, options.dtype)
    numbers = Numbers(options.json, "update")
    products = matmul_rate(loaded.dtype, loaded.device)
    rows = []
    for length in options.lengths:
        log(f"{loaded.name}, {options.dtype}, {length} tokens")
        figures: dict[str, list[float]] = defaultdict(list)
        items = list(trajectories(loaded, length, options.rounds, options.inputs))
        where = places(length, options.positions)
        probed = peak(loaded.device, partial(_all, probe, loaded, items[:1], compare=False))
        updated = {
            g: peak(loaded.device, partial(_all, update, loaded, items[:1], positions=[where], gauge=g)) for g in GAUGES
        }
        for item in items:
            run_round(loaded, item, where, figures)
        for gauge in GAUGES:
            note(numbers, figures, gauge, updated[gauge], products, {
                "model": loaded.name, "dtype": options.dtype, "device": str(loaded.device), "tokens": length,
                "gauge": gauge, "positions": len(where),
            })  # fmt: skip
        rows += [
            [
                str(length),
                gauge,
                spread(figures["forward"], 2),
                spread(figures[gauge], 2),
                spread([rate / products for rate in figures[f"{gauge} rate"]], 2),
                spread(figures["alignment"], 2) if gauge == "attention" else "–",
                f"{max(figures[f'{gauge} residual']):.1e}",
                f"{updated[gauge]:.0f}",
                f"{updated[gauge] / probed:.2f}",
            ]
            for gauge in GAUGES
        ]
    show(
        f"{loaded.name}, {options.dtype}, {loaded.device}, {options.threads} threads",
        ["n", "gauge", "forward, s", "update ×", "of matmul", "alignment ×", "residual", "peak MiB", "× probe's"],
        rows,
        f"n: tokens of the trajectory, updates at {options.positions} positions. Median (range) of {options.rounds} "
        "chains. 'forward': one full forward of (q, t≤i, s, a), mean over the positions. 'update ×': an update in such "
        "forwards; 'of matmul': the share of the rate of large square products that its forwards reach; 'alignment ×': "
        "what all comparisons with the gradient cost beside it. 'residual': largest |Δ log p| between patched and full "
        "run, in nats. 'peak MiB': with weights; '× probe's': over the peak of a probe of the same trajectory.",
    )


if __name__ == "__main__":
    main()
