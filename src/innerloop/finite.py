"""Numbers that are none end what measures with them: a model whose losses are NaN has nothing to be measured."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from innerloop.models import LoadedModel


class NotFiniteError(ArithmeticError):
    """A model gives losses or log-probabilities that are no finite numbers. Nothing was stored of what gave them."""


def require_finite(loaded: LoadedModel, values: Iterable[float], of: str) -> None:
    """`NotFiniteError` names the model where one of its values is NaN or infinite; ``of`` says what they belong to."""
    for value in values:
        if not math.isfinite(value):
            raise not_finite(loaded.name, f"{of} is {value:g}", dtype=str(loaded.dtype).removeprefix("torch."))


def not_finite(model: str, said: str, *, dtype: str | None = None) -> NotFiniteError:
    """The error, with what to try: half precision overflows, and what is broken stays so."""
    remedy = "fetch it again, or use another model"
    if dtype is None:
        remedy = f"try --dtype float32, {remedy}"
    elif dtype not in ("float32", "float64"):
        remedy = f"try --dtype float32, since {dtype} may be too narrow for it, or {remedy}"
    return NotFiniteError(f"model {model!r} gives no finite numbers: {said}; {remedy}")
