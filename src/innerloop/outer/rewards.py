"""What a rollout is worth, from what is known of it: is the answer right, has it the form that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """What a reward may look at.

    ``right``: whether the final answer is right, None where nobody can tell. ``form``: whether the rollout ended by
    itself in the form that was asked for (`innerloop.outer.forms`). ``share``: its tokens as a share of the limit, 0…1.
    """

    right: bool | None
    form: bool
    share: float


Reward = Callable[[Rollout], float | None]


def raml(rollout: Rollout) -> float | None:
    """RaML eq. 21: 1, 0, −0.5 and −1 for (answer right, form right) = (yes, yes), (no, yes), (yes, no), (no, no)."""
    if rollout.right is None:
        return None
    if rollout.form:
        return 1.0 if rollout.right else 0.0
    return -0.5 if rollout.right else -1.0


def right(rollout: Rollout) -> float | None:
    """1 for a right answer in the right form, else 0."""
    return None if rollout.right is None else float(rollout.right and rollout.form)


def right_short(rollout: Rollout) -> float | None:
    """As `right`, less half the share of the token limit that a right rollout used: of right ones the short are worth
    more, and any right one is worth more than a wrong one."""
    earned = right(rollout)
    return None if earned is None else earned * (1 - rollout.share / 2)


REWARDS: Mapping[str, Reward] = {"raml": raml, "right": right, "right-short": right_short}
