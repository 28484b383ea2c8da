"""Which weights a landscape moves: matrices, or norms and biases too (RaML alg. 4), but no embeddings and no head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

#: ``all`` adds what is no matrix: scales and shifts of norms, biases, and the vectors of state-space mixers.
Moved = Literal["matrices", "all"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, eq=False)
class Weight:
    """One parameter tensor.

    Its storage is read as ``groups`` matrices of ``rows`` × ``columns``; experts that are kept in one tensor have a
    matrix each, a vector is one row. A filter, the weights into one output (Li et al. 2018), is a row of its matrix, or
    a column where the tensor is stored ``transposed`` (input × output, as GPT-2's Conv1D).
    """

    name: str
    parameter: nn.Parameter
    groups: int
    rows: int
    columns: int
    transposed: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the matrices: groups × rows × columns."""
        return self.groups, self.rows, self.columns

    def matrices(self, tensor: Tensor | None = None) -> Tensor:
        """The parameter, or a tensor of its size, as group × row × column, without copying."""
        return (self.parameter.data if tensor is None else tensor).view(self.shape)

    @property
    def filter_axis(self) -> int:
        """The axis of ``matrices`` along which a filter extends."""
        return 1 if self.transposed else 2


def landscape_weights(model: PreTrainedModel, moved: Moved = "matrices") -> dict[str, Weight]:
    """The weights that a landscape moves, by parameter name, in the model's order; one that is shared stands once."""
    least = 2 if moved == "matrices" else 1
    left_out = {id(weight) for module in _ends(model) for weight in module.parameters(recurse=False)}
    owners = {id(weight): module for module in model.modules() for weight in module.parameters(recurse=False)}
    return {
        name: _weight(name, weight, owners[id(weight)])
        for name, weight in model.named_parameters()
        if weight.ndim >= least and id(weight) not in left_out
    }


def owned(model: nn.Module, weights: Mapping[str, Weight]) -> dict[nn.Module, list[Weight]]:
    """The modules that hold some of the weights themselves, each with those."""
    known = {id(weight.parameter): weight for weight in weights.values()}
    found = {
        module: [known[id(own)] for own in module.parameters(recurse=False) if id(own) in known]
        for module in model.modules()
    }
    return {module: own for module, own in found.items() if own}


def _ends(model: PreTrainedModel) -> list[nn.Module]:
    """Embeddings of any kind, and the output head."""
    head = model.get_output_embeddings()
    return [*(module for module in model.modules() if isinstance(module, nn.Embedding)), *([head] if head else [])]


def _weight(name: str, parameter: nn.Parameter, owner: nn.Module) -> Weight:
    shape = parameter.shape
    if parameter.ndim == 1:
        groups, rows, columns = 1, 1, parameter.numel()
    elif isinstance(owner, _CONVOLUTIONS):  # output × (input · kernel)
        groups, rows, columns = 1, shape[0], parameter.numel() // shape[0]
    else:
        groups, rows, columns = parameter.numel() // (shape[-2] * shape[-1]), shape[-2], shape[-1]
    fused = parameter.ndim == 3 and bool(getattr(owner, "is_transposed", False))
    transposed = fused or (isinstance(owner, Conv1D) and parameter.ndim == 2)
    return Weight(name, parameter, groups, rows, columns, transposed)


def norms(matrices: Tensor, axis: int | None) -> Tensor:
    """Norms along an axis of group × row × column, kept as size 1; of everything where ``axis`` is None."""
    dtype = torch.float64 if matrices.dtype == torch.float64 else torch.float32
    return torch.linalg.vector_norm(matrices, dim=(0, 1, 2) if axis is None else axis, keepdim=True, dtype=dtype)
