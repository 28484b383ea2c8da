"""Where the trajectory enters a model, layer by layer: the token mixers' output projections, and the MLPs.

A token reaches another one only through a layer's mixer (attention; in hybrid models also a recurrence or a
convolution). What the mixer says leaves it through a linear output projection W_o, which is where gauge ``attention``
patches. How a layer adds mixer and MLP to the residual stream decides what else can be patched; it is found out by
running a few tokens, not by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from innerloop.errors import InputError
from innerloop.finite import require_finite
from innerloop.inner.watch import Watch, layer_input, layer_output, output, watching
from innerloop.models import LoadedModel

#: What a layer calls its token mixers, and what a mixer calls its output projection.
MIXERS = ("self_attn", "attn", "attention", "self_attention", "linear_attn", "mamba", "mixer", "conv")
OUTPUTS = ("o_proj", "out_proj", "c_proj", "dense", "wo")
#: What a layer calls its MLP, and what an MLP calls the projections into and out of its hidden layer.
MLPS = ("mlp", "feed_forward", "block_sparse_moe")
_HIDDEN_IN = ("gate_proj", "up_proj", "gate_up_proj", "c_fc", "dense_h_to_4h", "fc1", "w1", "w3")
_HIDDEN_OUT = ("down_proj", "c_proj", "dense_4h_to_h", "fc2", "w2")


@dataclass(frozen=True, kw_only=True)
class Mlp:
    """Names of the linear modules into and out of the hidden layer of one MLP."""

    into: tuple[str, ...]
    out: str


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One block. ``outputs`` are its mixers' output projections (two where attention and recurrence run side by side).

    ``adds``: the mixers' and the MLP's outputs are added to the residual stream as they are, without a norm or scale of
    their own. ``parallel``: the MLP reads the block's input, not what attention has added to it.
    """

    name: str
    outputs: tuple[str, ...]
    mlp: str | None
    adds: bool = False
    parallel: bool = False


@dataclass(frozen=True)
class Anatomy:
    """The blocks of a model, from the first on."""

    model: nn.Module
    layers: tuple[Layer, ...]

    def mlp_of(self, layer: Layer) -> Mlp:
        """The MLP's linear modules. `InputError` for a block where a patch on them cannot restore the full run."""
        kind = type(self.model).__name__
        if not layer.adds:
            raise InputError(
                f"{kind}: {layer.name} does not add the plain outputs of attention and MLP to the residual stream (a "
                f"norm or a scale stands between, or there is no MLP), so gauge mlp cannot be exact; use attention"
            )
        assert layer.mlp is not None  # what adds has one
        parts = [(name, part) for name, part in self.model.get_submodule(layer.mlp).named_modules() if _linear(part)]
        into = tuple(f"{layer.mlp}.{name}" for name, _ in parts if name in _HIDDEN_IN)
        out = [f"{layer.mlp}.{name}" for name, _ in parts if name in _HIDDEN_OUT]
        if len(out) != 1 or len(into) + 1 != len(parts):
            raise InputError(
                f"{kind}: {layer.mlp} is no plain or gated MLP (looked for {', '.join(_HIDDEN_IN)} and one of "
                f"{', '.join(_HIDDEN_OUT)}; experts are not such), so gauge mlp cannot be used; use attention"
            )
        return Mlp(into=into, out=out[0])


def project(module: nn.Module, x: Tensor) -> Tensor:
    """x Wᵀ of a linear module, without its bias."""
    weight: Tensor = module.weight  # type: ignore[assignment]
    return x @ weight if isinstance(module, Conv1D) else x @ weight.T


def squared_weight_norm(module: nn.Module) -> float:
    """‖W‖² of a linear module, in float64."""
    weight: Tensor = module.weight  # type: ignore[assignment]
    return float(weight.double().square().sum())


def anatomy(loaded: LoadedModel) -> Anatomy:
    """The blocks of a model. `InputError` where one has no recognised output projection, with what was looked for."""
    model = loaded.model
    found = tuple(_layer(model, name, block) for name, block in _blocks(model))
    return Anatomy(model, _with_structure(loaded, found))


def _blocks(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The decoder's blocks: the longest list of modules that are no experts of one another."""
    config = model.config.get_text_config()  # type: ignore[operator, union-attr]
    for name, part in model.named_modules():
        if isinstance(part, nn.ModuleList) and len(part) == config.num_hidden_layers:
            return [(f"{name}.{i}", block) for i, block in enumerate(part)]
    raise InputError(f"{type(model).__name__}: no list of {config.num_hidden_layers} blocks found in the model")


def _layer(model: nn.Module, name: str, block: nn.Module) -> Layer:
    outputs = tuple(f"{name}.{found}" for found in _outputs(block))
    if not outputs:
        raise InputError(
            f"{type(model).__name__}: no output projection of attention in {name} (looked for "
            f"{', '.join(OUTPUTS)} in {', '.join(MIXERS)}); this model cannot be patched"
        )
    mlp = next((f"{name}.{part}" for part in MLPS if hasattr(block, part)), None)
    return Layer(name=name, outputs=outputs, mlp=mlp)


def _outputs(block: nn.Module) -> Iterator[str]:
    for mixer in MIXERS:
        part = getattr(block, mixer, None)
        if not isinstance(part, nn.Module):
            continue
        for name, module in part.named_modules():
            if name.rpartition(".")[2] in OUTPUTS and _linear(module):
                yield f"{mixer}.{name}"
                break


def _linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | Conv1D)


_TRIAL = 6  # tokens on which the structure is looked at


@torch.inference_mode()
def _with_structure(loaded: LoadedModel, layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Each layer with ``adds`` and ``parallel``, as seen on a few tokens."""
    watches: list[Watch] = []
    for layer in layers:
        watches += [layer_input(layer.name), layer_output(layer.name), *map(output, layer.outputs)]
        watches += [output(layer.mlp)] if layer.mlp else []
    vocabulary = loaded.model.config.get_text_config().vocab_size
    ids = (torch.arange(1, _TRIAL + 1, device=loaded.device) * 7 % vocabulary)[None]
    with watching(loaded.model, watches) as seen:
        loaded.model(input_ids=ids, use_cache=False)
    last = seen[layer_output(layers[-1].name)]
    require_finite(loaded, [last.abs().max().item()], "the output of its last layer")
    parallel = _parallel(loaded, layers[0], ids, seen)
    return tuple(
        Layer(name=layer.name, outputs=layer.outputs, mlp=layer.mlp, adds=_adds(layer, seen), parallel=parallel)
        for layer in layers
    )


def _adds(layer: Layer, seen: dict[Watch, Tensor]) -> bool:
    """Whether block output = block input + mixer outputs + MLP output, to round-off."""
    if layer.mlp is None:
        return False
    before, after = seen[layer_input(layer.name)], seen[layer_output(layer.name)]
    parts = [seen[output(name)] for name in (*layer.outputs, layer.mlp)]
    expected = before + sum(part.view_as(before) for part in parts)
    scale = max(float(tensor.abs().max()) for tensor in (before, after, *parts))
    return float((after - expected).abs().max()) <= 16 * torch.finfo(after.dtype).eps * scale


def _parallel(loaded: LoadedModel, layer: Layer, ids: Tensor, seen: dict[Watch, Tensor]) -> bool:
    """Whether the first MLP's output stays what it was when attention's output is changed."""
    if layer.mlp is None:
        return False
    changed = loaded.model.get_submodule(layer.outputs[0]).register_forward_hook(lambda _m, _i, out: out + 1.0)
    try:
        with watching(loaded.model, [output(layer.mlp)]) as other:
            loaded.model(input_ids=ids, use_cache=False)
    finally:
        changed.remove()
    return torch.equal(other[output(layer.mlp)], seen[output(layer.mlp)])
