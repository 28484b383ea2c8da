"""Collects what a machine with a GPU and no network lacks, as wheels, into an ignored folder of the repository.

What to bring is resolved, not guessed: the requirements of `needs.txt` at the versions of `constraints.txt`, with what
the machine holds (`machine.txt`) in place of ours, less all that it holds.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WHEELS = ROOT / ".gpu-wheels"
LIMIT = 60 * 2**20  # bytes
PYTHON = "3.12"
# pip matches each of them exactly.
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 26, 24, 17, 12, 5)] + [
    *("manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"),
]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def entries(text: str) -> list[str]:
    """The lines of a requirements file without comments."""
    stripped = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in stripped if line]


def name_of(requirement: str) -> str:
    """A requirement's package, in the normal form."""
    found = _NAME.match(requirement)
    assert found is not None, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def missing(resolved: Iterable[str], held: Iterable[str]) -> list[str]:
    """Pinned requirements whose packages are not held."""
    known = {name_of(entry) for entry in held}
    return [entry for entry in resolved if name_of(entry) not in known]


def ours(constraints: Iterable[str], held: Iterable[str]) -> list[str]:
    """Our tested versions, except of what the machine holds in versions of its own."""
    return missing(constraints, held)


def resolve(requirements: list[str], *, constraints: list[str], overrides: list[str]) -> list[str]:
    """Pinned versions of all that the requirements bring, for Python 3.12 on Linux."""
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for name, lines in (("in", requirements), ("constraints", constraints), ("overrides", overrides)):
            files[name] = Path(folder, f"{name}.txt")
            files[name].write_text("\n".join(lines) + "\n")
        command = [*UV, "pip", "compile", "--quiet", "--no-header", "--no-annotate", str(files["in"])]
        command += ["--constraint", str(files["constraints"]), "--override", str(files["overrides"])]
        command += ["--python-version", PYTHON, "--python-platform", "x86_64-manylinux_2_28", "--only-binary", ":all:"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"no set of versions fits what the machine holds:\n{done.stderr.strip()}")
    return entries(done.stdout)


UV = (sys.executable, "-m", "uv")


def download(pinned: list[str], folder: Path) -> None:
    """One wheel for each."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--python-version", PYTHON, "--implementation", "cp", "--dest", str(folder)]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    if subprocess.run([*command, *pinned], check=False).returncode:
        sys.exit("pip could not download all of them; what it said is above")


def too_large(folder: Path, limit: int = LIMIT) -> str | None:
    """One line where the wheels take more than the limit together, with the largest of them."""
    sizes = {wheel.name: wheel.stat().st_size for wheel in folder.glob("*.whl")}
    total = sum(sizes.values())
    if total <= limit:
        return None
    largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
    shown = ", ".join(f"{name} {sizes[name] / 2**20:.1f} MiB" for name in largest)
    return (
        f"the wheels take {total / 2**20:.1f} MiB, more than {limit / 2**20:.0f}; the largest are {shown}: name what "
        "the machine holds in benchmarks/gpu/machine.txt, or drop a line of benchmarks/gpu/needs.txt"
    )


def main() -> int:
    """Resolve, download, and say what was packed."""
    if subprocess.run([*UV, "--version"], capture_output=True, check=False).returncode:
        sys.exit(f"uv is needed to resolve versions: {sys.executable} -m pip install uv")
    held = entries((HERE / "machine.txt").read_text())
    brought = resolve([entry for entry in held if "==" in entry], constraints=[], overrides=[])
    constraints = ours(entries((ROOT / "constraints.txt").read_text()), [*held, *brought])
    needed = resolve(
        entries((HERE / "needs.txt").read_text()),
        constraints=constraints,
        overrides=[entry for entry in held if "==" in entry],
    )
    pinned = missing(needed, [*held, *brought])
    with tempfile.TemporaryDirectory(dir=ROOT, prefix=".gpu-wheels-") as folder:
        download(pinned, Path(folder))
        if line := too_large(Path(folder)):
            sys.exit(line)
        shutil.rmtree(WHEELS, ignore_errors=True)
        shutil.copytree(folder, WHEELS)
    total = sum(wheel.stat().st_size for wheel in WHEELS.iterdir()) / 2**20
    print(f"{len(pinned)} wheels, {total:.1f} MiB, in {WHEELS.relative_to(ROOT)}/: {', '.join(pinned)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
