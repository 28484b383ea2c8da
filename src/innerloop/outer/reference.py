"""What a reference made of a training's pairs, kept beside the checkpoints: a restart need not read them again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from innerloop.atomic import make_folder, write_file

_OF = "innerloop-pairs"


def digest(pairs: Iterable[dict[str, Any]]) -> str:
    """A name of the pairs' tokens in their order."""
    found = hashlib.sha256()
    for pair in pairs:
        found.update(repr([pair[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids")]).encode())
    return found.hexdigest()


def keep(path: Path, pairs: str, right: list[float], wrong: list[float]) -> None:
    """Write log π₀ of both sides of each pair, under their `digest`."""
    from safetensors.torch import save

    make_folder(path.parent)
    tensors = {"right": torch.tensor(right, dtype=torch.float64), "wrong": torch.tensor(wrong, dtype=torch.float64)}
    write_file(path, save(tensors, metadata={_OF: pairs}))


def kept(path: Path, pairs: str) -> tuple[list[float], list[float]] | None:
    """What `keep` wrote of these pairs; None where it is not there, of others or no such file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get(_OF) != pairs:
                return None
            return file.get_tensor("right").tolist(), file.get_tensor("wrong").tolist()
    except (OSError, SafetensorError):
        return None
