"""How far a fast method is from the definition, compared on the trajectories that are measured.

The tests compare architectures, on small models. What holds for this model in this precision, and on contexts of this
length, is seen here: one position of the 1st, 2nd, 4th, 8th, … trajectory that a process measures is run afresh.
"""

from __future__ import annotations

import logging
import weakref
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.inner.plain import plain_losses
from innerloop.inner.task import Task
from innerloop.models import LoadedModel

logger = logging.getLogger(__name__)

#: Nats per answer token that rounding alone may put between two methods.
ALLOWED = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 0.03, torch.bfloat16: 0.25}

_PLACES = (0.5, 1.0, 0.25, 0.75)  # parts of a trajectory at which one comparison after the other is made

_seen: weakref.WeakKeyDictionary[torch.nn.Module, int] = weakref.WeakKeyDictionary()  # trajectories with tokens
_warned: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()


def compared(loaded: LoadedModel, task: Task, name: str, losses: Float[Tensor, "position answer"]) -> dict[int, float]:
    """The answer's loss by the definition at one of the task's positions, by its place among them; mostly none.

    A difference beyond what rounding explains is a warning, once per model. ``name`` is the trajectory's.
    """
    number = _number(loaded, task)
    if number is None:
        return {}
    place = round(_PLACES[number % len(_PLACES)] * (len(task.positions) - 1))
    position = task.positions[place]
    plain = float(plain_losses(loaded, replace(task, positions=(position,), answers=task.answers[:1]))[0, 0])
    apart = abs(plain - float(losses[place, 0]))
    allowed = ALLOWED[loaded.dtype]
    if not apart <= allowed and loaded.model not in _warned:
        _warned.add(loaded.model)
        logger.warning(
            "%s: after %d tokens of %s the loss is %.1g nats per answer token off the definition, and %g is what %s "
            "explains; --method plain measures by the definition",
            *(loaded.name, position, name, apart, allowed, str(loaded.dtype).removeprefix("torch.")),
        )
    return {place: plain}


def _number(loaded: LoadedModel, task: Task) -> int | None:
    """Which comparison is due with this task, from 0; None where none is."""
    if not task.trajectory:
        return None
    seen = _seen[loaded.model] = _seen.get(loaded.model, 0) + 1
    return seen.bit_length() - 1 if seen.bit_count() == 1 else None
