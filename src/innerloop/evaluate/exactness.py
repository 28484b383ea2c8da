"""How far the losses of a run are from the definition, at the positions where both were measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from innerloop.schema import Curve


@dataclass(frozen=True, kw_only=True)
class Exactness:
    """``compared`` positions, at most ``apart`` nats per answer token apart; None where none was compared."""

    compared: int
    apart: float | None

    def __str__(self) -> str:
        if self.apart is None:
            return "not compared with the definition"
        places = "a position" if self.compared == 1 else f"{self.compared} positions"
        return f"{self.apart:.1e} nats from the definition, at {places} run afresh"


def exactness(curves: Iterable[Curve]) -> Exactness:
    """The largest difference that was seen."""
    apart = [
        abs(loss - plain)
        for curve in curves
        for loss, plain in zip(curve.loss, curve.plain_loss, strict=False)
        if plain is not None
    ]
    return Exactness(compared=len(apart), apart=max(apart, default=None))
