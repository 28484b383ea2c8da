"""Beliefs over candidate answers, read off a measured curve."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from innerloop.errors import InputError
from innerloop.schema import Curve


def beliefs(curve: Curve, *, per_token: bool = False) -> Float[np.ndarray, "position candidate"]:
    """The belief over candidate answers at each position: p(a_c | t≤ᵢ) normalised over the candidates.

    By default a candidate counts with the probability of all its tokens; with ``per_token`` with that of its mean
    token, which does not favour short answers. NaN where every candidate's loss is infinite.
    """
    if not curve.candidates:
        raise InputError(f"{curve.trajectory_id}: the curve has no candidates; probe with candidates first")
    logit = -np.asarray(curve.candidate_losses, dtype=np.float64).reshape(-1, len(curve.candidates))
    if not per_token:
        logit = logit * np.asarray(curve.candidate_tokens)
    with np.errstate(invalid="ignore"):  # ∞ − ∞
        weight = np.exp(logit - logit.max(axis=1, keepdims=True))
    return weight / weight.sum(axis=1, keepdims=True)
