"""GRPO's advantages with the gradient on n of G rollouts, for verl's trainer (RaML section 4.1).

verl takes an advantage of each rollout, and has no way to drop rollouts behind it. What is not chosen gets the
advantage 0, what is chosen is multiplied by G/n, so that the mean gradient of the policy loss over all choices is that
of all G, for every way of adding up token losses. It saves no work, and terms without an advantage (a divergence, an
entropy) still see all G.

Nothing here needs verl, or torch: what `innerloop train grpo --export verl` writes registers it there.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Hashable, Sequence
from statistics import fmean, stdev

from innerloop.outer.subset import CHOICES

EPSILON = 1e-6  # verl's own, added to a deviation


def subset_advantages(
    rewards: Sequence[float],
    lengths: Sequence[int],
    groups: Sequence[Hashable],
    *,
    n: int,
    choice: str,
    scale: str,
    seed: int,
) -> list[float]:
    """The advantage of each rollout; ``groups`` says which rollouts belong together, ``lengths`` are in tokens.

    ``scale``: divide by the rewards' deviation in the ``group``, in the ``batch``, or not (``none``). A reward of NaN,
    where nobody could judge, is left out of every mean and gets 0. The draw follows from the seed and from what the
    group's rollouts are (rewards and lengths), because verl names groups anew at each start; so it is the same for the
    same rollouts, in whatever place they come and whenever.
    """
    members: dict[Hashable, list[int]] = {}
    for i, group in enumerate(groups):
        if not math.isnan(rewards[i]):
            members.setdefault(group, []).append(i)
    whole = _deviation([reward for reward in rewards if not math.isnan(reward)])
    found = [0.0] * len(rewards)
    for places in members.values():
        own = [rewards[i] for i in places]
        mean = fmean(own)
        divisor = {"group": _deviation(own) + EPSILON, "batch": whole + EPSILON, "none": 1.0}[scale]
        kept = min(n, len(own))
        draw = generator_for(seed, own, [lengths[i] for i in places])
        for place in CHOICES[choice](own, kept, draw):
            found[places[place]] = (own[place] - mean) / divisor * len(own) / kept
    return found


def generator_for(seed: int, rewards: Sequence[float], lengths: Sequence[int]) -> random.Random:
    """The generator of one group's draw."""
    name = f"verl {seed} {[round(reward, 6) for reward in rewards]} {list(lengths)}".encode()
    return random.Random(int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big"))


def _deviation(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0
