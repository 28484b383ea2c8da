"""Which K of a question's trajectories make its support set (RaML eq. 8, section 4.1); one method a file.

A `Choice` takes the question, its trajectories and K, no more than there are, and gives K of them. Equal ones keep
their order, so that the same input and seed always give the same set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from innerloop.outer.select.by_value import by_value
from innerloop.outer.select.diverse import diverse
from innerloop.outer.select.max_variance import max_variance
from innerloop.outer.select.plain import as_given, at_random, shortest
from innerloop.outer.support import Choice

__all__ = ["CHOICES", "by_value", "max_variance"]

#: Those that need nothing but the trajectories' texts, made from a seed.
CHOICES: Mapping[str, Callable[[int], Choice]] = {
    "random": at_random,
    "shortest": shortest,
    "first": as_given,
    "diverse": diverse,
}
