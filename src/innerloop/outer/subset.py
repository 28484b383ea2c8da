"""GRPO with support size n: which n of the G rollouts of a question give the gradient (RaML section 4.1).

Advantages are taken over all G. ``random`` is the paper's choice; ``max-variance`` and ``extremes`` are those of PODS
(arXiv 2504.13818) and its simplest relative. A draw depends on the seed, the step and the question's place in the step
alone, so that it is the same on any number of processes and after a restart.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from statistics import pvariance

Choice = Callable[[Sequence[float], int, random.Random], list[int]]


def at_random(rewards: Sequence[float], n: int, generator: random.Random) -> list[int]:
    """Any n, all subsets equally likely, so that the mean gradient over the draws is that of all G."""
    return sorted(generator.sample(range(len(rewards)), n))


def max_variance(rewards: Sequence[float], n: int, generator: random.Random) -> list[int]:
    """The n whose rewards have the largest variance: some of the lowest and the rest of the highest."""
    order = _ranked(rewards, generator)
    splits = [order[:low] + order[len(order) - (n - low) :] for low in range(n + 1)]
    return sorted(max(splits, key=lambda chosen: pvariance([rewards[i] for i in chosen])))


def extremes(rewards: Sequence[float], n: int, generator: random.Random) -> list[int]:
    """The ⌈n/2⌉ highest and the ⌊n/2⌋ lowest."""
    order = _ranked(rewards, generator)
    low = n // 2
    return sorted(order[:low] + order[len(order) - (n - low) :])


def _ranked(rewards: Sequence[float], generator: random.Random) -> list[int]:
    """Places by rising reward, equal ones in an order that is drawn."""
    places = list(range(len(rewards)))
    generator.shuffle(places)
    return sorted(places, key=lambda place: rewards[place])


CHOICES: Mapping[str, Choice] = {"random": at_random, "max-variance": max_variance, "extremes": extremes}


def generator_for(seed: int, step: int, group: int) -> random.Random:
    """The generator of one group's draw."""
    name = f"subset {seed} {step} {group}".encode()
    return random.Random(int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big"))


def chosen_rows(
    rewards: Sequence[float], size: int, n: int, *, choice: Choice, seed: int, step: int, first_group: int = 0
) -> list[int]:
    """Rows to keep of consecutive groups of ``size`` rollouts each; ``first_group`` is the number of the first one."""
    assert len(rewards) % size == 0, "whole groups"
    kept = []
    for group, start in enumerate(range(0, len(rewards), size)):
        own = choice(rewards[start : start + size], n, generator_for(seed, step, first_group + group))
        kept += [start + place for place in own]
    return kept
