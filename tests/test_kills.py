"""Kills at random moments change nothing: the benchmark of forty, in small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from innerloop.rollout.llamacpp_engine import INSTALL, installed

pytestmark = [pytest.mark.model, pytest.mark.engine]
SCRIPT = Path(__file__).parents[1] / "benchmarks" / "kills.py"


@pytest.mark.skipif(not installed(), reason=f"no llama.cpp here: {INSTALL}")
@pytest.mark.parametrize(("engine", "kills"), [("llamacpp", 3), ("server", 4)])
def test_an_evaluation_that_is_killed_again_and_again(engine: str, kills: int, tmp_path: Path) -> None:
    size = ["--size", "6", "--n", "5", "--pause", "1", "--out", str(tmp_path)]
    command = [sys.executable, str(SCRIPT), "--engine", engine, "--kills", str(kills), *size]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stderr.endswith("the same as without any kill\n")
    assert " 30 " in ran.stdout, "all samples"
