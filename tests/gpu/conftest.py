"""The tests of a GPU: the same numbers as the plain definition in float32 on the CPU, and how far off they are."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from innerloop.inner.probe import ProbeItem, probe
from innerloop.models import LoadedModel, wrap
from innerloop.testing import ARCHITECTURES, tiny

#: `benchmarks/gpu.sh` sets it to `cpu` where it is tried without a GPU.
DEVICE = "INNERLOOP_TEST_DEVICE"
#: A file to which every measured number is appended.
NUMBERS = "INNERLOOP_NUMBERS"

Record = Callable[..., None]


@pytest.fixture(scope="session")
def device() -> torch.device:
    """What the tests run on; skipped without a GPU, where `tests/inner` and `tests/rollout` have the same checks."""
    name = os.environ.get(DEVICE, "cuda")
    if name.startswith("cuda") and not torch.cuda.is_available():
        if DEVICE in os.environ:  # whoever asks for a GPU is not to be told that all went well without one
            pytest.fail(f"{DEVICE} is {name}, but torch sees no GPU")
        pytest.skip("torch sees no GPU (benchmarks/gpu.sh runs these tests on a machine that has one)")
    return torch.device(name)


@pytest.fixture(scope="session")
def record() -> Record:
    """Notes a number with its unit for the table of `benchmarks/gpu.sh`."""
    file = os.environ.get(NUMBERS)

    def note(name: str, value: float, unit: str, **where: str) -> None:
        if file:
            row = {"part": "tests", "name": name, "value": value, "unit": unit, "where": where}
            with Path(file).open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(row) + "\n")

    return note


def item(index: int, length: int, answer: str = "42") -> ProbeItem:
    """Random letters, the same on every machine."""
    generator = torch.Generator().manual_seed(index)
    prompt, trajectory = (tuple(torch.randint(97, 123, (n,), generator=generator).tolist()) for n in (12, length))
    return ProbeItem(
        trajectory_id=f"q{index}/file-0",
        question_id=f"q{index}",
        prompt=prompt,
        trajectory=trajectory,
        answer=answer,
    )


_ITEMS = (item(0, 40), item(1, 23, "1234567"))


def items_of(architecture: str) -> tuple[ProbeItem, ...]:
    """Two trajectories; a short one where a layer goes from token to token, which takes seconds on a CPU."""
    return (item(0, 8), item(1, 3, "123")) if keeps_state(architecture) else _ITEMS


@cache
def on(device: torch.device, architecture: str, dtype: str) -> LoadedModel:
    """A tiny model there."""
    loaded = tiny(architecture, dtype=dtype)
    return wrap(loaded.model.to(device), loaded.tokenizer, name=loaded.name)


@cache
def definition(architecture: str) -> tuple[np.ndarray, ...]:
    """The answer losses of its items by the plain method, in float32 on the CPU."""
    curves = probe(on(torch.device("cpu"), architecture, "float32"), items_of(architecture), method="plain")
    return tuple(np.array(curve.loss) for curve in curves)


def apart(found: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> float:
    """The largest difference."""
    return max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True))


def keeps_state(architecture: str) -> bool:
    """Whether a layer is a recurrence or a convolution; on a GPU convolutions may round their inputs to TF32."""
    return not ARCHITECTURES[architecture].block_masks


def coarse(architecture: str) -> bool:
    """Whether half precision may be nats off: where it chooses another expert."""
    options = ARCHITECTURES[architecture].options
    return "num_experts" in options or "num_local_experts" in options
