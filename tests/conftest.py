"""Fixtures that several test folders share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from innerloop.models import LoadedModel


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real questions and trajectories, kept outside the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("INNERLOOP_DATA", default))
    if not (folder / "gsm8k_test.jsonl").exists():
        pytest.skip(f"no real data at {folder} (set INNERLOOP_DATA to the folder that holds gsm8k_test.jsonl)")
    return folder


@pytest.fixture(scope="session")
def smollm2() -> LoadedModel:
    """The bundled real model, in float32."""
    from innerloop.models import load

    return load("smollm2", dtype="float32", device="cpu")
