"""A meta-training's state on disk: one safetensors file, the plain values as JSON in its metadata. Nothing pickled."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from innerloop.errors import InputError

_VALUES = "innerloop-meta"


@dataclass(frozen=True)
class MetaState:
    """``weights/NAME`` (learned inner rates among them) and ``optimizer/KEY/NAME`` tensors; JSON-able values."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]


def save(state: MetaState, path: Path) -> None:
    """Write a state, under a temporary name first, so that a killed process leaves the old one."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    save_file(tensors, temporary, metadata={_VALUES: json.dumps(state.values)})
    temporary.replace(path)


def load(path: Path, *, tensors: bool = True) -> MetaState:
    """Read a state, or its values alone. `InputError` for a file that is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            values = json.loads((file.metadata() or {})[_VALUES])
            names = file.keys() if tensors else ()
            return MetaState({name: file.get_tensor(name) for name in names}, values)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"{path}: no checkpoint of a meta-training ({error}); remove it to start anew") from error


def optimizer_tensors(optimizer: torch.optim.Optimizer, outer: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the optimiser keeps for each outer parameter, by ``optimizer/KEY/NAME``."""
    return {
        f"optimizer/{key}/{name}": torch.as_tensor(value).detach().clone()
        for name, weight in outer.items()
        for key, value in optimizer.state.get(weight, {}).items()
    }


def restore_weights(state: MetaState, outer: Mapping[str, Tensor]) -> None:
    """Write the kept weights into the outer parameters. `InputError` where they are another model's."""
    prefix = "weights/"
    kept = {name.removeprefix(prefix): tensor for name, tensor in state.tensors.items() if name.startswith(prefix)}
    for name, weight in outer.items():
        if name not in kept or kept[name].shape != weight.shape:
            was = f"{tuple(kept[name].shape)}" if name in kept else "missing"
            raise InputError(
                f"the checkpoint is of another model: {name} is {was} there and {tuple(weight.shape)} here; load the "
                "model that it was made with"
            )
    if len(kept) > len(outer):
        extra = next(name for name in kept if name not in outer)
        raise InputError(f"the checkpoint is of another model: it has {extra}, which is not trained here")
    with torch.no_grad():
        for name, weight in outer.items():
            weight.copy_(kept[name])


def restore_optimizer(state: MetaState, optimizer: torch.optim.Optimizer, outer: Mapping[str, Tensor]) -> None:
    """Give the optimiser what it kept for each outer parameter."""
    optimizer.state.clear()
    for name, tensor in state.tensors.items():
        kind, _, rest = name.partition("/")
        if kind == "optimizer":
            key, _, parameter = rest.partition("/")
            weight = outer[parameter]
            optimizer.state[weight][key] = tensor.clone() if tensor.ndim == 0 else tensor.to(weight.device, copy=True)
