"""What a reference made of a training's pairs, kept beside the checkpoints: a restart need not read them again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from innerloop.atomic import is_file, make_folder, write_file

_OF = "innerloop-pairs"


def digest(pairs: Iterable[dict[str, Any]]) -> str:
    """A name of the pairs' tokens in their order."""
    found = hashlib.sha256()
    for pair in pairs:
        found.update(repr([pair[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids")]).encode())
    return found.hexdigest()


def keep(path: Path, pairs: str, right: list[float], wrong: list[float]) -> None:
    """Write log π₀ of both sides of each pair, under their `digest`, into a folder of a run."""
    from safetensors.torch import save

    root = path.parent.parent
    make_folder(path.parent, root=root)
    tensors = {"right": torch.tensor(right, dtype=torch.float64), "wrong": torch.tensor(wrong, dtype=torch.float64)}
    write_file(path, save(tensors, metadata={_OF: pairs}), root=root)


def kept(path: Path, pairs: str, count: int) -> tuple[list[float], list[float]] | None:
    """What `keep` wrote of these ``count`` pairs; None where it is not there, of others or no such file."""
    from safetensors import SafetensorError, safe_open

    if not is_file(path, root=path.parent.parent):
        return None
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get(_OF) != pairs:
                return None
            sides = [file.get_tensor(name) for name in ("right", "wrong")]
    except (OSError, SafetensorError):
        return None
    if any(side.shape != (count,) or side.dtype != torch.float64 or not side.isfinite().all() for side in sides):
        return None
    return sides[0].tolist(), sides[1].tolist()
