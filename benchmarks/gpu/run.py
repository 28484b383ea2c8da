"""Runs the parts of `benchmarks/gpu.sh` one after the other, each within its time, and keeps what was measured.

Needs nothing but Python, so that a part that cannot even be imported costs that part alone.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import results

BENCHMARKS = Path(__file__).resolve().parents[1]
ROOT = BENCHMARKS.parent
TOTAL = 525  # seconds of everything: a machine that is lent may end a command after ten minutes
_running: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Part:
    """A command with the seconds that it may take."""

    name: str
    limit: float
    command: tuple[str, ...]


def parts(out: Path, device: str, *, quick: bool) -> list[Part]:
    """What is measured, the most wanted first."""
    numbers = ("--json", str(out / "numbers.jsonl"), "--device", device)
    random = ("--inputs", "random", *numbers)

    def script(name: str, limit: float, file: str, *options: str) -> Part:
        return Part(name, limit, (sys.executable, str(BENCHMARKS / file), *options))

    test = ("env", "OMP_NUM_THREADS=2", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")  # tiny models
    test += ("-o", "addopts=", "--import-mode=importlib")
    test += ("-o", "filterwarnings=default", "-m", "gpu", "--tb=short", str(ROOT / "tests" / "gpu"))
    if quick:
        tiny = ("--shape", "tiny", *random, "--threads", "1")
        steps = ("--rows", "2", "--tokens", "32", "--group", "2", "--completion", "4")
        return [
            script("machine", 150, "gpu/machine.py", *numbers, "--threads", "1"),
            Part("tests", 150, (*test, "-k", "qwen2 and not moe")),
            script("probe", 150, "probe.py", *tiny, *_probe("float32", "16", "32")),
            script("update", 150, "update.py", *tiny, "--lengths", "16", "--rounds", "1", "--positions", "2"),
            script("landscape", 150, "landscape.py", *tiny, *_landscape("3"), "--no-memory"),
            script("training", 150, "training.py", *tiny, *steps),
        ]
    large = ("--shape", "7b", *random)
    one = ("--rounds", "1")
    return [  # the first import of torch on a fresh machine can take most of a minute
        script("machine", 90, "gpu/machine.py", *numbers),
        Part("tests", 120, test),
        script("probe bfloat16", 90, "probe.py", *large, *_probe("bfloat16", "2048", "8192")),
        script("update", 70, "update.py", *large, "--dtype", "bfloat16", "--lengths", "2048", "8192", *one),
        script("landscape", 80, "landscape.py", *large, "--dtype", "bfloat16", *_landscape("16")),
        script("training", 75, "training.py", "--shape", "1.5b", *random, "--steps", "2"),
        script("probe float32", 60, "probe.py", *large, *_probe("float32", "2048")),
    ]


def _probe(dtype: str, *lengths: str) -> tuple[str, ...]:
    return ("--dtypes", dtype, "--lengths", *lengths, "--rounds", "1", "--positions", "8", "--baselines", "loop")


def _landscape(questions: str) -> tuple[str, ...]:
    return ("--questions", questions, "--rounds", "1", "--side", "0")


def run(part: Part, seconds: float, environment: dict[str, str], log: Any) -> dict[str, Any]:
    """One part, ended when its time is over; how it ended."""
    log.write(f"\n== {part.name}: {' '.join(part.command)}\n".encode())
    log.flush()
    start = time.monotonic()
    # A process group of its own, so that what the part has started ends with it; not a session, which would outlive us.
    process = subprocess.Popen(
        part.command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
    )
    _running.append(process)
    try:
        status = process.wait(timeout=seconds)
        ended = "passed" if status == 0 else f"failed with status {status}"
    except subprocess.TimeoutExpired:
        ended = f"stopped after {seconds:.0f} s"
    finally:
        _end(process)
        _running.remove(process)
    return {"name": part.name, "ended": ended, "seconds": round(time.monotonic() - start, 1)}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing of a part is left on the card."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _stopped(number: int, _: object) -> None:
    for process in _running:
        _end(process)
    sys.exit(128 + number)


def environment_of(out: Path, device: str) -> dict[str, str]:
    """No network, and none of pytest's plug-ins that the machine may have."""
    return os.environ | {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "OMP_WAIT_POLICY": "passive",
        "INNERLOOP_TEST_DEVICE": device,
        "INNERLOOP_NUMBERS": str(out / "numbers.jsonl"),
    }


def main() -> int:
    """0 if every part passed."""
    parser = argparse.ArgumentParser(prog="benchmarks/gpu.sh", description="Tests and benchmarks on a GPU.")
    parser.add_argument("out", type=Path, help="folder for results.json, results.md, numbers.jsonl and log.txt")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu")
    parser.add_argument("--quick", action="store_true", help="the same on a tiny shape, to see that everything runs")
    parser.add_argument("--only", nargs="+", metavar="PART", help="these parts alone")
    parser.add_argument("--seconds", type=float, default=TOTAL, help="of everything together")
    options = parser.parse_args()
    begun = float(os.environ.get("INNERLOOP_GPU_BEGUN", time.time()))
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    chosen = parts(out, options.device, quick=options.quick)
    if options.only:
        if unknown := set(options.only) - {part.name for part in chosen}:
            parser.error(f"no part {min(unknown)!r}; there are {', '.join(part.name for part in chosen)}")
        chosen = [part for part in chosen if part.name in options.only]
    if taken := [name for name in ("numbers.jsonl", "log.txt", "results.json") if (out / name).exists()]:
        parser.error(f"{out} has a {taken[0]} already; name another folder")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stopped)
    ended: list[dict[str, Any]] = []
    with (out / "log.txt").open("ab") as log:
        for part in chosen:
            left = options.seconds - (time.time() - begun)
            if left < 5:
                ended.append({"name": part.name, "ended": "not begun: no time was left", "seconds": 0.0})
            else:
                ended.append(run(part, min(part.limit, left), environment_of(out, options.device), log))
            print("{name}: {ended}, {seconds:.0f} s".format(**ended[-1]), flush=True)
            results.write(out, results.read(out / "numbers.jsonl"), ended)
    failed = [part["name"] for part in ended if part["ended"] != "passed"]
    print((out / "results.md").read_text(encoding="utf-8"))
    print(f"not passed: {', '.join(failed)}; {out / 'log.txt'} says why" if failed else f"all parts passed: {out}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
