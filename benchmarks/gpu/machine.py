"""What a machine can do at most: versions, the card, its matrix-product rates and its copy bandwidth."""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from measure import Numbers, add_options, drain, log, matmul_rate, seconds, show

PACKAGES = ("torch", "transformers", "trl", "datasets", "accelerate", "peft", "numpy", "pyarrow", "huggingface-hub")


def facts(device: torch.device) -> dict[str, str]:
    """Versions, card and driver."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "–"
    found["cpu threads"] = str(torch.get_num_threads())
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        found |= {"card": card.name, "card memory": f"{card.total_memory / 2**30:.1f} GiB", "cuda": torch.version.cuda}
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            found["driver"] = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split("\n")[0]
        except (OSError, subprocess.CalledProcessError):
            found["driver"] = "–"
    return found


def copy_rate(device: torch.device) -> float:
    """Bytes per second of a copy within the memory, read and written ones counted."""
    source = torch.empty(2**30 if device.type == "cuda" else 2**24, dtype=torch.float32, device=device).normal_()
    target = torch.empty_like(source)
    target.copy_(source)
    return 2 * source.nbytes / min(seconds(lambda: target.copy_(source), device) for _ in range(5))


def main() -> None:
    """Measure, note and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    options = parser.parse_args()
    device = torch.device(options.device)
    numbers = Numbers(options.json, "machine")
    rows = [[name, value] for name, value in facts(device).items()]
    for name, value in rows:
        numbers.note(name, value)
    for dtype in (torch.bfloat16, torch.float32, torch.float64) if device.type == "cuda" else (torch.float32,):
        name = str(dtype).removeprefix("torch.")
        rate = matmul_rate(dtype, device) / 1e12
        numbers.add("matrix-product rate", rate, "TFLOP/s", dtype=name)
        rows.append([f"matrix-product rate, {name}", f"{rate:.2f} TFLOP/s"])
        log(f"{name}: {rate:.2f} TFLOP/s")
    drain(device)
    rate = copy_rate(device) / 1e9
    numbers.add("copy, read and written", rate, "GB/s")
    rows.append(["copy, read and written", f"{rate:.0f} GB/s"])
    show(f"this machine, {device}", ["what", "how much"], rows)


if __name__ == "__main__":
    main()
