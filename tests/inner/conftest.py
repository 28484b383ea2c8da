"""Random probe items for tiny models."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from innerloop.inner.probe import ProbeItem


def _item(index: int = 0, *, prompt: int = 12, length: int = 40, answer: str = "42", seed: int = 0) -> ProbeItem:
    generator = torch.Generator().manual_seed(1000 * seed + index)

    def draw(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(97, 123, (count,), generator=generator).tolist())

    return ProbeItem(
        trajectory_id=f"q{index}/file-0",
        question_id=f"q{index}",
        prompt=draw(prompt),
        trajectory=draw(length),
        answer=answer,
    )


@pytest.fixture(scope="session")
def make_item() -> Callable[..., ProbeItem]:
    """Makes an item of random byte tokens: ``make_item(index, prompt=…, length=…, answer=…, seed=…)``."""
    return _item
