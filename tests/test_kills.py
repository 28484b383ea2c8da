"""Kills at random moments change nothing: the benchmark of forty, in small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from innerloop.rollout.llamacpp_engine import INSTALL, installed

pytestmark = [pytest.mark.model, pytest.mark.engine]
SCRIPT = Path(__file__).parents[1] / "benchmarks" / "kills.py"


@pytest.mark.long
@pytest.mark.skipif(not installed(), reason=f"no llama.cpp here: {INSTALL}")
def test_an_evaluation_that_is_killed_again_and_again(tmp_path: Path) -> None:
    """With a server, so that it is hit as well as the main process and the verifier's workers."""
    size = ["--size", "6", "--n", "5", "--pause", "1", "--out", str(tmp_path)]
    command = [sys.executable, str(SCRIPT), "--engine", "server", "--kills", "4", *size]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stderr.endswith("the same as without any kill\n")
    assert " 30 " in ran.stdout, "all samples"
