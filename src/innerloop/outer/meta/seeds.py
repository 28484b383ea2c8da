"""Random numbers that depend on the seed and on what they are for, not on what was drawn before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def seed_for(*parts: int | str) -> int:
    """A seed below 2⁶³ from the run's seed, the step and the purpose."""
    text = "/".join(map(str, parts))
    digest = hashlib.blake2b(text.encode(), digest_size=8, person=b"innerloop-meta").digest()
    return int.from_bytes(digest, "big") >> 1


@contextmanager
def seeded(*parts: int | str) -> Iterator[None]:
    """Dropout and all else that draws from torch's global generators draws the same in here, whatever came before."""
    gpus = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=gpus):
        seed = seed_for(*parts)
        # Not torch.manual_seed: where there is no GPU, it queues a call for one each time, with the stack as text.
        torch.default_generator.manual_seed(seed)
        if gpus:
            torch.cuda.manual_seed_all(seed)
        yield
