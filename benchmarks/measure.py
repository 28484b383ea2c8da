"""What the benchmarks share: the machine's matrix-product rate, peak memory, real chains of thought, tables."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from innerloop.inner.probe import ProbeItem
from innerloop.models import LoadedModel

#: Real questions and chains of thought, outside the repository.
DATA = Path(os.environ.get("INNERLOOP_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, with the device's queue drained."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def matmul_rate(dtype: torch.dtype, device: torch.device, size: int = 2048, repeats: int = 5) -> float:
    """Floating-point operations per second on large square products: the best of a few, which is the machine's."""
    a, b = (torch.randn(size, size).to(device, dtype) for _ in range(2))
    a @ b
    return 2 * size**3 / min(seconds(lambda: a @ b, device) for _ in range(repeats))


def resident_bytes(field: str) -> int:
    """``VmRSS`` (now) or ``VmHWM`` (peak since `reset_peak`) of this process; Linux only."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


def reset_peak() -> None:
    """Start the peak resident size anew."""
    Path("/proc/self/clear_refs").write_text("5")


def chains(loaded: LoadedModel, length: int, count: int) -> Iterator[ProbeItem]:
    """The first ``count`` real chains on different questions with at least ``length`` tokens, cut to that length."""
    file = DATA / "gsm8k_test_long_cot.jsonl"
    if not file.exists():
        sys.exit(f"no real chains at {file}: set INNERLOOP_DATA to the folder that holds them")
    questions = {row["id"]: row for row in map(json.loads, (DATA / "gsm8k_test.jsonl").open())}
    used: set[str] = set()
    for row in map(json.loads, file.open()):
        question = questions.get(row["question_id"])
        if question is None or question["id"] in used or len(used) == count:
            continue
        tokens = tuple(loaded.encode(row["text"]))
        if len(tokens) >= length:
            used.add(question["id"])
            yield ProbeItem(
                trajectory_id=f"{question['id']}/file-0",
                question_id=question["id"],
                prompt=tuple(loaded.prompt(question["question"])),
                trajectory=tokens[:length],
                answer=question["answer"],
            )


def spread(values: list[float], digits: int = 1) -> str:
    """Median with the range: ``24.1 (23.8–24.6)``."""
    low, mid, high = (f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return mid if len(values) == 1 else f"{mid} ({low}–{high})"


def show(title: str, columns: list[str], rows: list[list[str]], notes: str = "") -> None:
    """Print a table on standard output."""
    console = Console(width=max(120, Console().width))
    table = Table(title=title, title_justify="left", caption=notes or None, caption_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def kills_verdict(faults: list[str]) -> int:
    """Say whether kills changed anything; the exit status."""
    for fault in faults:
        log(fault)
    log("DIFFERENT" if faults else "the same as without any kill")
    return 1 if faults else 0


def log(text: str) -> None:
    """A line of progress on standard error."""
    print(text, file=sys.stderr, flush=True)
