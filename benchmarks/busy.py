"""What a command costs beside another one: positions a second of the probe, alone and two at a time.

    python benchmarks/busy.py                    # SmolLM2, 256 tokens, 3 rounds
    python benchmarks/busy.py --rounds 1 --seconds 10

PyTorch's threads spin while they wait for each other, unless told not to before torch is imported. ``innerloop`` looks
at the machine while it starts and tells them where others need the cores (`innerloop.waiting`). Here each worker is a
process of its own that starts as the command does; the ones named *spinning* do not look, as any other program. Those
of a pair start together and measure in the same seconds. Alone and in pairs take turns, round by round.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from innerloop import waiting

_WAIT = 0.01  # seconds between two looks for the other worker


def work(options: argparse.Namespace) -> None:
    """One worker: starts as a command does, waits for the others, measures, and prints positions a second."""
    began = waiting.look()
    from innerloop.verbs import probe as _verb  # noqa: F401  # a command imports its verb before torch, too

    if options.worker == "polite":
        waiting.settle(began)
    from innerloop.inner.probe import probe
    from innerloop.models import load
    from measure import chains

    loaded = load(options.model, dtype="float32", device="cpu", threads=options.threads)
    items = list(chains(loaded, options.length, 1))
    list(probe(loaded, items, every=32, compare=False))  # warms up
    Path(options.folder, str(os.getpid())).touch()
    while sum(1 for _ in Path(options.folder).iterdir()) < options.count:
        time.sleep(_WAIT)
    count, start = 0, time.perf_counter()
    while (taken := time.perf_counter() - start) < options.seconds:
        count += sum(len(curve.position) for curve in probe(loaded, items, compare=False))
    print(count / taken)


def rates(options: argparse.Namespace, kind: str, count: int) -> list[float]:
    """The rate of each of ``count`` workers side by side, in positions a second."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--worker", kind, "--count", str(count), "--folder", folder]
        command += ["--model", options.model, "--length", str(options.length), "--seconds", str(options.seconds)]
        command += ["--threads", str(options.threads)]
        names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")
        environment = {name: value for name, value in os.environ.items() if name not in names}
        workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(count)]
        return [float(worker.communicate()[0]) for worker in workers]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--length", type=int, default=256, help="tokens of the trajectory")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15, help="that each worker measures")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each worker")
    parser.add_argument("--worker", choices=["polite", "spinning"], help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options)
        return
    from measure import log, show, spread

    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for number in range(options.rounds):
        for kind in ("spinning", "polite"):
            for count in (1, 2):
                own = rates(options, kind, count)
                found[kind, count] += own
                log(
                    f"round {number + 1}, {kind}, {count}: " + ", ".join(f"{rate:.1f}" for rate in own) + " positions/s"
                )
    rows = []
    for count, name in ((1, "alone"), (2, "each of two")):
        spinning, polite = found["spinning", count], found["polite", count]
        ratios = [own / base for own, base in zip(polite, spinning, strict=True)]
        rows.append([name, spread(spinning), spread(polite), spread(ratios, 2)])
    show(
        f"{options.model}, {options.length} tokens, {options.threads} threads each",
        ["", "spinning, positions/s", "as the command, positions/s", "×"],
        rows,
        f"Median (range) of {options.rounds} rounds.",
    )


if __name__ == "__main__":
    main()
