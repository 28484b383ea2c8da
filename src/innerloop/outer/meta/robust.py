"""Task-robust weights: minimise the worst family instead of the average one.

    min over θ, max over p in the simplex:  Σ_f p_f L_f(θ)

The min–max over tasks is TR-MAML's (Collins et al. 2020, arXiv 2002.04766), which moves p by projected gradient ascent;
here p moves by exponentiated gradient, p_f ← p_f exp(η L_f) / Σ, as in group DRO (Sagawa et al. 2020, arXiv
1911.08731). θ and p move at the same time, so a step needs one gradient whatever the number of families.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from innerloop.outer.meta.combine import ALL, Gradients, Share


class Robust:
    """Weights p over families, ``rate`` is η (per unit of loss). Families start equal."""

    def __init__(self, families: Sequence[str], rate: float) -> None:
        self.rate = rate
        self._logits = dict.fromkeys(families, 0.0)

    def weights(self) -> dict[str, float]:
        """p_f of every family."""
        most = max(self._logits.values())
        raw = {family: math.exp(value - most) for family, value in self._logits.items()}
        total = sum(raw.values())
        return {family: value / total for family, value in raw.items()}

    def shares(self, families: Sequence[str]) -> list[Share]:
        """A task's share is p_f over the number of its family's tasks, times F/m where m of F families are there.

        With families drawn evenly, the step's gradient is then an unbiased estimate of Σ p_f ∇L_f.
        """
        counts, weights = Counter(families), self.weights()
        scale = len(self._logits) / len(counts)
        return [Share(ALL, scale * weights[family] / counts[family]) for family in families]

    def join(self, gradients: Mapping[str, Gradients], seed: int) -> Gradients:  # noqa: ARG002  # nothing is drawn
        """The weighted sum, as it was gathered."""
        return gradients[ALL]

    def learn(self, losses: Mapping[str, float]) -> None:
        """Raise the weights of families with high loss. Families that a step did not draw keep their log weight."""
        for family, loss in losses.items():
            self._logits[family] += self.rate * loss
        most = max(self._logits.values())
        self._logits = {family: value - most for family, value in self._logits.items()}

    def state(self) -> dict[str, Any]:
        """Log weights by family."""
        return {"logits": dict(self._logits)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._logits = {family: float(state["logits"][family]) for family in self._logits}
