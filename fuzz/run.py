"""Fuzzing what reads untrusted input: coverage-guided (atheris), one process a target.

    python fuzz/run.py                      # every target for 60 seconds each, two at a time
    python fuzz/run.py gguf --seconds 600

A target is a file in ``targets/`` with ``INSTRUMENT``, the modules whose branches guide the search, and
``one(data: bytes)``, which takes one input and raises on what must not happen: any exception but the ones that the
caller is promised, and any promise that is broken. ``seeds/TARGET/`` holds the inputs to start from; every input that
once failed stays there, and the first tier of tests runs them all. What fails is written to ``found/TARGET/``.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
TARGETS = sorted(file.stem for file in (HERE / "targets").glob("[a-z]*.py"))
_LONGEST_INPUT = 4096  # bytes; longer inputs find the same faults, more slowly
_HANG = 20  # seconds for one input
_MEMORY = 4096  # MiB


def main() -> int:
    """Runs the targets named, or one of them in this process; the number of those that failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"one or more of {', '.join(TARGETS)}; default: all"
    )
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--jobs", type=int, default=2, help="targets at the same time")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.targets or TARGETS
    if unknown := set(names) - set(TARGETS):
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    if options.in_process:
        _fuzz(names[0], options.seconds)
    with ThreadPoolExecutor(options.jobs) as pool:
        return sum(pool.map(lambda name: _started(name, options.seconds), names))


def _started(name: str, seconds: int) -> bool:
    """Fuzzes one target in a process of its own; whether it failed."""
    command = [sys.executable, __file__, name, "--seconds", str(seconds), "--in-process"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    lines = done.stdout.splitlines()
    last = next((line for line in reversed(lines) if line.startswith("Done ")), "")
    print(f"{name}: {'failed' if done.returncode else 'nothing found'}. {last}", flush=True)
    if done.returncode:
        print("\n".join(lines[-60:]), flush=True)
    return done.returncode != 0


def _fuzz(name: str, seconds: int) -> None:
    """Fuzzes in this process, which ends with it."""
    import atheris

    sys.path.insert(0, str(HERE / "targets"))
    with atheris.instrument_imports(include=["innerloop"]):  # libraries are large, and their branches lead nowhere
        target = importlib.import_module(name)
    for module in target.INSTRUMENT:
        assert module in sys.modules, f"{name}: {module} is to be instrumented and was not imported"
    found = HERE / "found" / name
    found.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as fresh:
        arguments = [
            sys.argv[0],
            f"-max_total_time={seconds}",
            f"-max_len={_LONGEST_INPUT}",
            f"-timeout={_HANG}",
            f"-rss_limit_mb={_MEMORY}",
            f"-artifact_prefix={found}/",
            fresh,
            str(HERE / "seeds" / name),
        ]
        atheris.Setup(arguments, target.one)
        atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
