"""`benchmarks/gpu.sh` without a GPU: that everything it will do there runs, and that it keeps what was measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks" / "gpu"))  # scripts, and no package
import lacking  # noqa: E402
import pack  # noqa: E402
import results  # noqa: E402

import run  # noqa: E402


def script(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    command = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=600)


@pytest.mark.long
def test_every_part_runs_on_a_tiny_shape(tmp_path: Path) -> None:
    done = script(tmp_path / "out", "--device", "cpu", "--quick")
    log = (tmp_path / "out" / "log.txt").read_text()
    assert done.returncode == 0, done.stdout + done.stderr + log
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("results.json", "results.md", "numbers.jsonl", "log.txt")
    }
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    names = {(row["part"], row["name"]) for row in found["numbers"]}
    for part in ("probe", "update", "landscape"):
        assert (part, "share of matrix-product rate") in names
    assert {("training", "step"), ("training", "tokens per second"), ("machine", "copy, read and written")} <= names
    assert ("tests", "probe: largest error against the definition") in names
    assert all(row["unit"] and row["value"] == row["value"] for row in found["numbers"])
    assert found["machine"]["torch"]
    assert "## Landscape" in (tmp_path / "out" / "results.md").read_text()


class TestRun:
    def part(self, *code: str, limit: float = 30) -> run.Part:
        return run.Part("one", limit, (sys.executable, "-c", *code))

    def run(self, part: run.Part, tmp_path: Path, seconds: float = 30) -> dict[str, object]:
        with (tmp_path / "log.txt").open("ab") as log:
            return run.run(part, seconds, dict(os.environ), log)

    def test_a_part_that_fails_or_runs_over_says_so(self, tmp_path: Path) -> None:
        assert self.run(self.part("pass"), tmp_path)["ended"] == "passed"
        assert self.run(self.part("raise SystemExit(3)"), tmp_path)["ended"] == "failed with status 3"
        ended = self.run(self.part("import time; time.sleep(60)"), tmp_path, 1)
        assert ended["ended"] == "stopped after 1 s"
        assert float(str(ended["seconds"])) < 20

    def test_what_a_part_started_ends_with_it(self, tmp_path: Path) -> None:
        child = "import subprocess, sys; print(subprocess.Popen(['sleep', '300']).pid, flush=True)"
        self.run(self.part(child), tmp_path)
        pid = int((tmp_path / "log.txt").read_text().splitlines()[-1])
        state = Path(f"/proc/{pid}/stat")
        for _ in range(100):  # killed, it may still have to die
            if not state.exists() or ") Z " in state.read_text():
                return
            time.sleep(0.1)
        pytest.fail(f"process {pid} is left")

    def test_all_limits_together_stay_below_what_is_allowed(self, tmp_path: Path) -> None:
        whole = run.parts(tmp_path, "cuda", quick=False)
        assert run.TOTAL < 540
        # Each part but the last can use its limit up.
        assert sum(part.limit for part in whole[:-1]) <= run.TOTAL

    def test_a_folder_with_results_is_not_written_into(self, tmp_path: Path) -> None:
        (tmp_path / "results.json").write_text("mine")
        done = script(tmp_path, "--device", "cpu", "--quick")
        assert done.returncode == 2
        assert "name another folder" in done.stderr
        assert (tmp_path / "results.json").read_text() == "mine"


def test_a_line_that_was_cut_off_costs_that_line(tmp_path: Path) -> None:
    row = {"part": "probe", "name": "probe", "value": 1.5, "unit": "s", "where": {"dtype": "float32", "tokens": 2048}}
    (tmp_path / "n.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row)[:20])
    rows = results.read(tmp_path / "n.jsonl")
    assert rows == [row]
    results.write(tmp_path, rows, [{"name": "probe", "ended": "stopped after 9 s", "seconds": 9.0}])
    text = (tmp_path / "results.md").read_text()
    assert "| float32, 2,048 tokens | 1.5 |" in text
    assert "| probe | stopped after 9 s | 9 |" in text
    assert json.loads((tmp_path / "results.json").read_text())["numbers"] == [row]


class TestPack:
    def test_what_the_machine_holds_is_left_out(self) -> None:
        assert pack.missing(["a-b==1", "torch==2.11.0", "C==2"], ["torch", "c"]) == ["a-b==1"]
        assert pack.missing(["A_B==1"], ["a.b==3"]) == []

    def test_comments_are_no_requirements(self) -> None:
        assert pack.entries("# what\na==1  # why\n\nb[c]>=2\n") == ["a==1", "b[c]>=2"]
        assert pack.name_of("math-Verify[antlr4_13_2]>=0.9") == "math-verify"

    def test_too_large_a_pack_names_the_largest(self, tmp_path: Path) -> None:
        for name, size in (("small.whl", 10), ("large.whl", 2**20)):
            (tmp_path / name).write_bytes(b"0" * size)
        assert pack.too_large(tmp_path) is None
        line = pack.too_large(tmp_path, limit=2**19)
        assert line is not None
        assert "large.whl 1.0 MiB" in line
        assert "\n" not in line

    def test_the_needs_are_those_of_the_package_or_of_its_tests(self) -> None:
        """A need that is neither would be resolved without a tested version."""
        tested = {pack.name_of(line) for line in pack.entries((ROOT / "constraints.txt").read_text())}
        needs = pack.entries((ROOT / "benchmarks" / "gpu" / "needs.txt").read_text())
        assert {pack.name_of(need) for need in needs} <= tested

    def test_what_is_lacking_is_named(self) -> None:
        assert lacking.lacking(["torch", "no-such-package-here>=1"]) == ["no-such-package-here"]
