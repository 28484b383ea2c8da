"""Says which packages of `needs.txt` this Python cannot find; the exit status is 1 if there are any."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pack


def lacking(requirements: list[str]) -> list[str]:
    """Names of those that are not installed."""
    found = []
    for name in map(pack.name_of, requirements):
        try:
            version(name)
        except PackageNotFoundError:
            found.append(name)
    return found


def main() -> int:
    """One line where something is missing."""
    names = lacking(pack.entries((Path(__file__).parent / "needs.txt").read_text()))
    if names:
        print(
            f"{sys.executable} lacks {', '.join(names)}: run benchmarks/gpu.sh --pack on a machine with a network and "
            "bring .gpu-wheels/ along",
            file=sys.stderr,
        )
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main())
