"""A model of the same shape that has learned nothing.

If an untrained model shows the same agreement between patch and gradient, the agreement is no sign of learning in
context: earlier evidence for "in-context learning is gradient descent" failed that test (Deutch et al. 2024,
arXiv 2311.07772).
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch

from innerloop.models import LoadedModel, fingerprint


def untrained(loaded: LoadedModel, *, seed: int = 0) -> LoadedModel:
    """A model of the same configuration with new weights, as the architecture's own initialisation draws them.

    Tokenizer, suffix and all else are those of ``loaded``, also dtype, device and attention implementation. The weights
    depend on the configuration and ``seed`` alone; torch's global generator is left as it was.
    """
    config = copy.deepcopy(loaded.model.config)
    with torch.random.fork_rng(devices=[]):  # transformers draws initial weights from the global generator
        torch.manual_seed(seed)
        kind: Any = type(loaded.model)
        model = kind(config)
    model = model.to(dtype=loaded.dtype, device=loaded.device).eval().requires_grad_(False)
    return dataclasses.replace(loaded, name=f"{loaded.name}@untrained", model=model, fingerprint=fingerprint(model))
