"""A meta-training's state on disk: one safetensors file, the plain values as JSON in its metadata. Nothing pickled."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from innerloop import plain_json
from innerloop.atomic import is_file, keep_as, make_folder, refuse_links, write_with
from innerloop.errors import InputError, first_line

log = logging.getLogger("innerloop")

_VALUES = "innerloop-meta"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {  # of the values: in words, and the check
    "settings": ("an object with a head", lambda v: isinstance(v, dict) and isinstance(v.get("head"), list)),
    "step": ("a number of steps", lambda v: isinstance(v, int) and _is_number(v)),
    "spent": ("an object of numbers", lambda v: isinstance(v, dict) and all(map(_is_number, v.values()))),
    "families": ("a list of texts", lambda v: isinstance(v, list) and all(isinstance(name, str) for name in v)),
    "combination": ("an object", lambda v: isinstance(v, dict)),
    "tasks": ("an object", lambda v: isinstance(v, dict)),
    "seconds": ("a number", lambda v: v is None or _is_number(v)),
}


@dataclass(frozen=True)
class MetaState:
    """``weights/NAME`` (learned inner rates among them) and ``optimizer/KEY/NAME`` tensors; JSON-able values."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]


def save(state: MetaState, path: Path) -> None:
    """Write a state whole or not at all, into a folder of a run; the one before stays beside it."""
    from safetensors.torch import save_file

    root = path.parent.parent
    make_folder(path.parent, root=root)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    metadata = {_VALUES: json.dumps(state.values)}
    if is_file(path, root=root):
        keep_as(path, _before(path).name, root)
    write_with(path, lambda temporary: save_file(tensors, temporary, metadata=metadata), root=root)


def latest(path: Path) -> MetaState | None:
    """The state that `save` wrote last, or the one before where a kill or the disk took that; None where there is none.

    `InputError` where there is one and none of them can be read.
    """
    root = path.parent.parent
    refuse_links(path.parent, root)
    there = [file for file in (path, _before(path)) if is_file(file, root=root)]
    fault: InputError | None = None
    for file in there:
        try:
            state = load(file)
        except InputError as error:
            fault = fault or error
            continue
        if fault is not None:
            log.warning("%s; the training goes on from %s, step %s", fault, file, state.values["step"])
        return state
    if fault is not None:
        raise fault
    return None


def _before(path: Path) -> Path:
    return path.with_name(f"{path.stem}-before{path.suffix}")


def load(path: Path, *, tensors: bool = True) -> MetaState:
    """Read a state, or its values alone. `InputError` for a file that is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            values = plain_json.loads((file.metadata() or {})[_VALUES])
            if not isinstance(values, dict):
                raise ValueError("its values are no object")
            for name, (words, check) in _KINDS.items():
                if not check(values.get(name)):
                    raise ValueError(f"{name} is not {words}")
            names = file.keys() if tensors else ()
            return MetaState({name: file.get_tensor(name) for name in names}, values)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        said = first_line(error, 200)
        raise InputError(f"{path}: no checkpoint of a meta-training ({said}); remove it to start anew") from error


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
            if tensor.ndim and tensor.shape != weight.shape:
                raise InputError(f"the checkpoint is of another model: {name} is {tuple(tensor.shape)} there")
            optimizer.state[weight][key] = tensor.clone() if tensor.ndim == 0 else tensor.to(weight.device, copy=True)
