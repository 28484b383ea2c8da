"""How sharp L_q is at θ: the Hessian's outermost eigenvalues and its trace, over the weights that a landscape moves.

One forward and one backward with a graph, then one backward through that per Hessian–vector product. Attention is run
by a formula that has second derivatives (torch's MATH kernel). Memory beside the model: the graph, the gradient, and
three vectors as large as the moved weights (in all 2.6 GB on SmolLM2 and 127 tokens).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from innerloop.errors import InputError
from innerloop.finite import require_finite
from innerloop.inner.landscape.hessian import Product, hutchinson, lanczos
from innerloop.inner.landscape.scoring import Row, losses
from innerloop.inner.landscape.weights import Moved, landscape_weights
from innerloop.models import LoadedModel

_MOVED = {
    "matrices": "all matrices but embeddings and output head",
    "all": "all weights but embeddings and output head",
}


@dataclass(frozen=True, kw_only=True)
class Sharpness:
    """Of the answer loss (nats per answer token) at θ, in units of the weights. ``weights`` says of which.

    ``top_error`` and ``low_error`` bound how far the nearest true eigenvalue is; ``trace_error`` is a standard error.
    """

    weights: str
    top: float
    low: float
    top_error: float
    low_error: float
    trace: float
    trace_error: float


def sharpness(
    loaded: LoadedModel,
    row: Row,
    *,
    steps: int = 20,
    samples: int = 10,
    seed: int = 0,
    moved: Moved = "matrices",
    on_progress: Callable[[int], None] = lambda _: None,
) -> Sharpness:
    """At most ``steps`` products for the eigenvalues and ``samples`` for the trace; ``on_progress`` counts them.

    Needs float32 or wider. `InputError` for a model one of whose operations has no second derivative.
    """
    if loaded.dtype in (torch.bfloat16, torch.float16):
        raise InputError(f"sharpness needs weights in float32 or float64, not {loaded.dtype}; use --dtype float32")
    weights = [weight.parameter for weight in landscape_weights(loaded.model, moved).values()]
    with hessian_products(loaded, row, weights) as product:

        def counted(vector: list[Tensor]) -> list[Tensor]:
            found = product(vector)
            on_progress(1)
            return found

        ends = lanczos(counted, weights, steps=steps, seed=seed)
        trace = hutchinson(counted, weights, samples=samples, seed=seed + 1)
    return Sharpness(
        weights=f"{_MOVED[moved]} ({sum(w.numel() for w in weights):,} weights)",
        top=ends.top,
        low=ends.low,
        top_error=ends.top_error,
        low_error=ends.low_error,
        trace=trace.mean,
        trace_error=trace.error,
    )


@contextmanager
def hessian_products(loaded: LoadedModel, row: Row, weights: Sequence[nn.Parameter]) -> Iterator[Product]:
    """Products of the Hessian of a row's loss in some weights with vectors, as long as the block runs."""
    before = [weight.requires_grad for weight in weights]
    experts = getattr(loaded.model.config, "_experts_implementation", None)
    try:
        for weight in weights:
            weight.requires_grad_(True)
        if experts not in (None, "eager"):  # the grouped product has no second derivative
            loaded.model.set_experts_implementation("eager")
        with torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            loss = losses(loaded, [row])[0, 0]
            require_finite(loaded, [loss.item()], f"the loss of question {row.question_id!r}")
            slopes = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
        used = [(slope, place) for place, slope in enumerate(slopes) if slope is not None and slope.requires_grad]

        def product(vector: list[Tensor]) -> list[Tensor]:
            found = torch.autograd.grad(
                [slope for slope, _ in used],
                weights,
                [vector[place] for _, place in used],
                retain_graph=True,
                allow_unused=True,
            )
            return [torch.zeros_like(w) if part is None else part for w, part in zip(weights, found, strict=True)]

        yield product
    except (RuntimeError, NotImplementedError) as error:
        if "derivative" not in str(error):
            raise
        raise InputError(
            f"{type(loaded.model).__name__} has an operation without a second derivative, so sharpness cannot be "
            f"measured ({str(error).splitlines()[0]}); leave --sharpness out"
        ) from error
    finally:
        if experts not in (None, "eager"):
            loaded.model.set_experts_implementation(experts)
        for weight, flag in zip(weights, before, strict=True):
            weight.requires_grad_(flag)
