"""Is the update a descent step? θ'ᵢ − θ against the gradient of the answer loss (RaML eq. 4, prop. 2.1).

With g = ∇L_q(θ) on the patched weights, ⟨θ'ᵢ − θ, g⟩ is the change of L_q that a first-order step would bring; it
stands beside the true L_q(θ'ᵢ) − L_q(θ). Stepwise the same from each stored position to the next, with the gradient
taken at θ'ⱼ, in the reduced run of position j. Each prediction comes with the spread of what random patches of the same
norms in the same row spaces predict (`innerloop.inner.overlap`), and beside the full gradient stands the layer-causal
one (`innerloop.inner.layer_causal`).

Everything is read off one forward and one backward of the reduced run per position (two with steps): inputs of the
patched sites and gradients at their outputs. No gradient of a weight is made, no weight asks for one.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from innerloop.finite import require_finite
from innerloop.inner.layer_causal import Readout, check_readout, layer_gradients, readout
from innerloop.inner.overlap import Frame, Overlap, frames, overlap, total
from innerloop.inner.patch import Factors, Patch, difference, patched, select, touched
from innerloop.inner.reduced import Reduced, logits
from innerloop.inner.task import answer_losses
from innerloop.inner.update import TrajectoryUpdate
from innerloop.inner.watch import first, layer_output, watching
from innerloop.models import LoadedModel

_BLOCK = re.compile(r"(.*?\.\d+)\.")
_TOKENS = {"cpu": 512}  # in one pass: the graph of SmolLM2 takes about 1 MB a token
_GPU_TOKENS = 8192

Array = Float[np.ndarray, "..."]


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """One trajectory's numbers, per stored position; the fields of `innerloop.schema.Update` of the same names.

    Float64; lists have shape (position, layer). Undefined is NaN: cosines of a patch or a gradient that is zero, steps
    to the first stored position. What was not asked for is None.
    """

    predicted: Array
    null_sd: Array
    gradient_norm: Array
    cosine: Array
    layer_predicted: Array
    layer_null_sd: Array
    layer_cosine: Array
    step_predicted: Array | None = None
    step_null_sd: Array | None = None
    causal_predicted: Array | None = None
    causal_null_sd: Array | None = None
    causal_cosine: Array | None = None

    def fields(self, row: int) -> dict[str, float | tuple[float, ...] | None]:
        """The numbers of one stored position, to be handed to `innerloop.schema.Update`; undefined is None there.

        In ``layer_cosine`` a single undefined layer stays NaN; the list is None where all of them are.
        """
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: None if values is None else _plain(values[row]) for name, values in found.items()}


def _plain(value: Any) -> float | tuple[float, ...] | None:
    if np.ndim(value):
        return None if np.isnan(value).all() else tuple(map(float, value))
    return None if np.isnan(value) else float(value)


def align(
    loaded: LoadedModel,
    updated: TrajectoryUpdate,
    *,
    stepwise: bool = True,
    causal: bool = True,
    tokens: int | None = None,
) -> Alignment:
    """Aligns the patches of one trajectory, one batch entry per stored position, with the gradients of its reduced run.

    ``tokens`` bounds how many tokens run at once. ``causal`` raises `InputError` for a model whose final norm and head
    are not found. The attention implementation must have a backward (sdpa and eager do).
    """
    task, patch = updated.task, updated.patch
    length = len(task.prompt) + len(task.branch(0))
    rows = max(1, (tokens or _TOKENS.get(loaded.device.type, _GPU_TOKENS)) // length)
    ask = _Asked(loaded, updated.layers, updated.rows, readout(loaded) if causal else None)
    parts: list[_Part] = []
    steps: list[_Part] = []
    for start in range(0, len(task.positions), rows):
        batch = range(start, min(start + rows, len(task.positions)))
        run = _one_where_equal(updated.reduced_run(loaded, batch))
        parts.append(_gradients(ask, run, frames(select(patch, slice(start, batch.stop)))))
    last = len(task.positions) - 1
    for start in range(0, last if stepwise else 0, rows):
        stop = min(start + rows, last)
        here, after = select(patch, slice(start, stop)), select(patch, slice(start + 1, stop + 1))
        plain = dataclasses.replace(ask, read=None)
        run = updated.reduced_run(loaded, range(start, stop))
        steps.append(_gradients(plain, run, frames(difference(after, here)), at=here))
    found = _assemble(updated, parts, steps if stepwise else None)
    require_finite(loaded, found.gradient_norm.tolist(), f"the norm of a gradient at {updated.item.trajectory_id}")
    return found


@dataclass(frozen=True)
class _Asked:
    """What stays the same for all positions of a trajectory. ``read`` is None without layer-causal gradients."""

    loaded: LoadedModel
    layers: Sequence[Sequence[str]]
    rows: slice | None
    read: Readout | None


@dataclass(frozen=True)
class _Part:
    """Some positions' overlaps, by site; ``causal`` with the layer-causal gradient."""

    full: dict[str, Overlap]
    causal: dict[str, Overlap] | None


def _one_where_equal(run: Reduced) -> Reduced:
    """Positions whose reduced runs are the same tokens at the same places (contiguous) share one."""
    if not bool((run.position_ids == run.position_ids[:1]).all()):
        return run
    return dataclasses.replace(run, input_ids=run.input_ids[:1], position_ids=run.position_ids[:1])


def _gradients(ask: _Asked, run: Reduced, patches: Mapping[str, Frame], *, at: Patch | None = None) -> _Part:
    """Overlaps of patches with the gradients of the answer losses at θ, or at the weights that ``at`` makes."""
    model = ask.loaded.model
    blocks = [_block(sites[0]) for sites in ask.layers if sites] if ask.read is not None else []
    with torch.inference_mode(False), torch.enable_grad(), ExitStack() as stack:
        run = dataclasses.replace(run, answer=run.answer.clone())  # made in inference mode, it could not be saved
        if at is not None:
            stack.enter_context(patched(model, _clones(at), ask.rows))
        sites = stack.enter_context(_recording(model, patches, ask.rows))
        seen = stack.enter_context(watching(model, [layer_output(block) for block in blocks]))
        found = logits(ask.loaded, run)
        states = [seen[layer_output(block)][:, -len(run.answer) :] for block in blocks]
        own = _layer_causal(ask, run, states, found, sites) if ask.read is not None else None
        full = sites.collect()
        answer_losses(found, run.answer).sum().backward()
    return _Part(full, own)


def _layer_causal(
    ask: _Asked, run: Reduced, states: Sequence[Tensor], found: Tensor, sites: _Sites
) -> dict[str, Overlap]:
    """Overlaps with the layer-causal gradients, from the graph of a forward that the full gradient still needs."""
    assert ask.read is not None
    with torch.no_grad():
        check_readout(ask.read(states[-1]), found, type(ask.loaded.model).__name__)
    outputs = [{site: sites.outputs[site] for site in layer} for layer in ask.layers if layer]
    return {
        site: sites.overlap(site, delta)
        for deltas in layer_gradients(ask.read, states, outputs, run.answer)
        for site, delta in deltas.items()
    }


class _Sites:
    """What passes through the sites in one forward: inputs, outputs, and then the gradients at the outputs."""

    def __init__(self, patches: Mapping[str, Frame], rows: slice | None) -> None:
        self._patches, self._rows = patches, rows
        self._inputs: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}

    def record(self, site: str, x: Tensor, out: Tensor) -> Tensor:
        """Keeps input and output; the first site's output is where the graph begins."""
        if not out.requires_grad:
            out = out.detach().requires_grad_()
        self._inputs[site], self.outputs[site] = touched(x, self._rows).detach(), out
        return out

    def overlap(self, site: str, delta: Tensor) -> Overlap:
        """The site's patches against the gradient with this δ."""
        return overlap(self._patches[site], self._inputs[site], touched(delta, self._rows))

    def collect(self) -> dict[str, Overlap]:
        """Overlaps by site, filled while a backward runs: each δ is used as it comes and not kept."""
        found: dict[str, Overlap] = {}

        def take(site: str) -> Any:
            def hook(delta: Tensor) -> None:
                with torch.no_grad():
                    found[site] = self.overlap(site, delta)

            return hook

        for site, out in self.outputs.items():
            out.register_hook(take(site))
        return found

    def forget(self) -> None:
        """Lets go of the graph: its hooks lead back here, a circle that Python cannot collect by itself."""
        self._inputs.clear()
        self.outputs.clear()


@contextmanager
def _recording(model: nn.Module, patches: Mapping[str, Frame], rows: slice | None) -> Iterator[_Sites]:
    """Records what passes through the patched sites, behind the patch's own hooks."""
    sites = _Sites(patches, rows)

    def hook(site: str) -> Any:
        return lambda _module, args, kwargs, out: sites.record(site, first(args, kwargs), out)

    with ExitStack() as hooks:
        for site in patches:
            handle = model.get_submodule(site).register_forward_hook(hook(site), with_kwargs=True)
            hooks.callback(handle.remove)
        hooks.callback(sites.forget)
        yield sites


def _clones(patch: Patch) -> Patch:
    """As tensors that a backward may read, wherever they were made."""
    return {site: Factors(factors.up.clone(), factors.down.clone()) for site, factors in patch.items()}


def _block(site: str) -> str:
    """The name of the block that a site lies in."""
    match = _BLOCK.match(site)
    assert match is not None, f"{site} lies in no block"
    return match[1]


def _assemble(updated: TrajectoryUpdate, parts: Sequence[_Part], steps: Sequence[_Part] | None) -> Alignment:
    start = np.array(updated.task.positions) == 0  # no update yet: what is there is round-off and has no direction
    by_site = _joined([part.full for part in parts])
    whole = total(by_site)
    layers = [total({site: by_site[site] for site in sites}) for sites in updated.layers]
    found: dict[str, Array] = {
        "predicted": _array(whole.inner),
        "null_sd": _array(whole.null.sqrt()),
        "gradient_norm": _array(whole.gradient.sqrt()),
        "cosine": np.where(start, math.nan, _array(whole.cosine)),
        "layer_predicted": np.stack([_array(layer.inner) for layer in layers], axis=1),
        "layer_null_sd": np.stack([_array(layer.null.sqrt()) for layer in layers], axis=1),
        "layer_cosine": np.stack([np.where(start, math.nan, _array(layer.cosine)) for layer in layers], axis=1),
    }
    causal = [part.causal for part in parts if part.causal is not None]
    if causal:
        own = total(_joined(causal))
        found["causal_predicted"] = _array(own.inner)
        found["causal_null_sd"] = _array(own.null.sqrt())
        found["causal_cosine"] = np.where(start, math.nan, _array(own.cosine))
    if steps is not None:
        moved = total(_joined([part.full for part in steps])) if steps else None
        found["step_predicted"] = np.append(math.nan, _array(moved.inner) if moved else [])
        found["step_null_sd"] = np.append(math.nan, _array(moved.null.sqrt()) if moved else [])
    return Alignment(**found)


def _joined(parts: Sequence[Mapping[str, Overlap]]) -> dict[str, Overlap]:
    """The batches one behind the other."""
    names = [f.name for f in dataclasses.fields(Overlap)]
    return {
        site: Overlap(*(torch.cat([getattr(part[site], name) for part in parts]) for name in names))
        for site in parts[0]
    }


def _array(values: Tensor) -> Array:
    found: Array = values.detach().cpu().numpy()
    return found
