"""Every committed seed of the fuzz targets, each of which once failed or covers something."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[1] / "fuzz"
SEEDS = sorted(file for file in (FUZZ / "seeds").rglob("*") if file.is_file())


@pytest.mark.parametrize("seed", SEEDS, ids=lambda file: "/".join(file.relative_to(FUZZ / "seeds").parts))
def test_holds_on_the_seed(seed):
    loaded(seed.relative_to(FUZZ / "seeds").parts[0]).one(seed.read_bytes())


@cache
def loaded(name):
    spec = importlib.util.spec_from_file_location(f"fuzz_{name}", FUZZ / "targets" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    target = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(target)
    return target


def test_every_target_has_seeds():
    targets = {file.stem for file in (FUZZ / "targets").glob("[a-z]*.py")}
    assert targets == {file.relative_to(FUZZ / "seeds").parts[0] for file in SEEDS}
