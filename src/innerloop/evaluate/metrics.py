"""Metrics of n samples per question of which c are right, for k of them: RaML eq. 22 and 23, and their neighbours.

With X the number of right ones among k samples drawn without replacement, so X ~ hypergeometric(n, c, k):

- `pass_at_k`: P(X ≥ 1), the unbiased estimator of Chen et al. 2021 (HumanEval).
- `g_pass_at_k`: P(X ≥ ⌈τk⌉), Liu et al. 2024; τ → 0 gives pass@k, τ = 1 asks for all k.
- `mg_pass_at_k`: (2/k) E[(X − ⌈k/2⌉)₊], the mean of G-Pass over τ from ½ to 1. By its own formula it is 0 for k = 1 and
  (k−1)/k for a perfect model where k is odd.
- `majority_at_k`: a vote among k samples. `best_of_k`: the best of k samples by some score.

The first three are ratios of whole numbers and are computed as such: one rounding, at the end. ``n``, ``c``, ``k`` and
``tau`` are scalars or arrays that broadcast; scalars give a float, arrays float64. What makes no sense (k > n, c > n,
fractions, NaN) raises `InputError`, a ``ValueError``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from innerloop.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["best_of_k", "g_pass_at_k", "majority_at_k", "mg_pass_at_k", "pass_at_k", "threshold"]

_DENOMINATOR = 10**6  # τ is read as the nearest fraction with a denominator up to this: 0.28 is 7/25


@overload
def pass_at_k(n: int, c: int, k: int) -> float: ...
@overload
def pass_at_k(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> Floats: ...
def pass_at_k(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> float | Floats:
    """1 − C(n−c, k) / C(n, k) (RaML eq. 22): the chance that at least one of k samples is right."""
    return _each(lambda n, c, k: _tail(n, c, k, 1), n, c, k)


@overload
def g_pass_at_k(n: int, c: int, k: int, tau: float | Fraction) -> float: ...
@overload
def g_pass_at_k(n: ArrayLike, c: ArrayLike, k: ArrayLike, tau: ArrayLike | Fraction) -> Floats: ...
def g_pass_at_k(n: ArrayLike, c: ArrayLike, k: ArrayLike, tau: ArrayLike | Fraction) -> float | Floats:
    """Σⱼ C(c, j) C(n−c, k−j) / C(n, k) over j ≥ ⌈τk⌉ (Liu et al. 2024): at least the share τ of k samples is right.

    ``tau`` lies in 0…1; 0 stands for the limit τ → 0, at least one, which is pass@k.
    """
    return _each(lambda n, c, k, tau: _tail(n, c, k, threshold(k, tau)), n, c, k, taus=tau)


@overload
def mg_pass_at_k(n: int, c: int, k: int) -> float: ...
@overload
def mg_pass_at_k(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> Floats: ...
def mg_pass_at_k(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> float | Floats:
    """(2/k) Σᵢ P(X ≥ i) over i = ⌈k/2⌉+1 … k (RaML eq. 23)."""
    return _each(_mean_tail, n, c, k)


def threshold(k: int, tau: float | Fraction) -> int:
    """⌈τk⌉, and at least 1, in whole numbers: 7 for τ = 0.28 and k = 25, where floats give 8."""
    if not 0 <= tau <= 1:  # NaN too
        raise InputError(f"tau is {tau}: it must lie between 0 and 1, e.g. 0.5")
    exact = Fraction(tau) if isinstance(tau, Fraction) else Fraction(float(tau)).limit_denominator(_DENOMINATOR)
    return max(1, math.ceil(exact * k))


def majority_at_k(votes: Sequence[tuple[int, float]], abstained: int, k: int) -> float:
    """The expected score of the most frequent answer among k samples drawn without replacement.

    ``votes`` holds one pair per different answer: how many samples gave it, and its score (1 right, 0 wrong, or the
    share of right verdicts where they differ). ``abstained`` samples gave no answer. Among equally frequent answers
    one is drawn; where all k abstain the score is 0. Every sum has positive terms only, so float64 is enough.
    """
    sizes = [size for size, _ in votes]
    n = sum(sizes) + abstained
    _check(n, 0, k)
    won = 0.0
    for at, (size, score) in enumerate(votes):
        if score:
            won += score * _wins(size, sizes[:at] + sizes[at + 1 :], abstained, k)
    return min(won / math.comb(n, k), 1.0)


def best_of_k(scores: Sequence[float], values: Sequence[float], k: int) -> float:
    """The expected value (1 right, 0 wrong) of the sample with the lowest score among k drawn without replacement.

    Among equal scores one is drawn. The score may be an answer loss, or a reward with its sign turned.
    """
    n = len(scores)
    if len(values) != n:
        raise InputError(f"best of {k}: {n} scores for {len(values)} values; there must be one for each")
    _check(n, 0, k)
    ranked = sorted(zip(scores, values, strict=True))
    total, before = Fraction(0), 0
    for _, tied in groupby(ranked, key=lambda pair: pair[0]):
        group = [value for _, value in tied]
        # The best sample is in this group where none of those before it is drawn, and at least one of these.
        chance = Fraction(math.comb(n - before, k) - math.comb(n - before - len(group), k), math.comb(n, k))
        total += chance * Fraction(math.fsum(group)) / len(group)
        before += len(group)
    return float(total)


def _each(function: Callable[..., float], n: Any, c: Any, k: Any, *, taus: Any = None) -> float | Floats:
    """The function of whole numbers over scalars or arrays that broadcast."""
    whole = [_whole(name, value) for name, value in (("n", n), ("c", c), ("k", k))]
    given = [*whole, *([] if taus is None else [np.asarray(taus, dtype=object)])]
    try:
        arrays = np.broadcast_arrays(*given)
    except ValueError as error:
        shapes = ", ".join(str(array.shape) for array in given)
        raise InputError(f"n, c and k have shapes that do not go together: {shapes}") from error
    out = np.empty(arrays[0].shape)
    for index in np.ndindex(out.shape):
        row: list[Any] = [array[index] for array in arrays]
        _check(*row[:3])
        out[index] = function(*row)
    return out if out.ndim else float(out)


def _whole(name: str, value: Any) -> NDArray[np.object_]:
    """Whole numbers as Python's own, which do not overflow. Tables turn them into floats such as 8.0."""
    array = np.asarray(value)
    if array.dtype.kind == "f" and np.all(np.isfinite(array)) and np.all(array == np.floor(array)):
        array = array.astype(np.int64)
    if array.dtype.kind not in "iuO" or not all(
        isinstance(entry, int) and not isinstance(entry, bool) for entry in array.ravel().tolist()
    ):
        raise InputError(f"{name} is {value!r}: it must be a whole number, or an array of them".replace("\n", " "))
    return np.array(array.tolist(), dtype=object)


def _check(n: int, c: int, k: int) -> None:
    if k < 1:
        raise InputError(f"k is {k}: it must be 1 or more")
    if k > n:
        raise InputError(f"k is {k}, but there are only {n} samples (n): draw more samples or take a smaller k")
    if not 0 <= c <= n:
        raise InputError(f"c is {c}: of n = {n} samples between 0 and {n} can be right")


@lru_cache(maxsize=4096)
def _tail(n: int, c: int, k: int, least: int) -> float:
    """P(X ≥ least)."""
    ways = sum(math.comb(c, j) * math.comb(n - c, k - j) for j in range(least, min(c, k) + 1))
    return ways / math.comb(n, k)


@lru_cache(maxsize=4096)
def _mean_tail(n: int, c: int, k: int) -> float:
    half = (k + 1) // 2
    ways = sum((j - half) * math.comb(c, j) * math.comb(n - c, k - j) for j in range(half + 1, min(c, k) + 1))
    return 2 * ways / (k * math.comb(n, k))


def _wins(size: int, others: Sequence[int], abstained: int, k: int) -> float:
    """In how many k-subsets an answer of ``size`` samples wins the vote, a tie of r counting 1/r."""
    won = 0.0
    for mine in range(1, min(size, k) + 1):
        rest = k - mine
        # ways[s, t]: how many choices of s samples of the others exist in which t of them tie with mine, none has more
        most = min(rest // mine, len(others))
        ways = np.zeros((rest + 1, most + 1))
        ways[:, 0] = [math.comb(abstained, s) for s in range(rest + 1)]
        for other in others:
            grown = ways.copy()
            for count in range(1, min(other, mine - 1, rest) + 1):
                grown[count:] += math.comb(other, count) * ways[: rest + 1 - count]
            if mine <= min(other, rest) and most:
                grown[mine:, 1:] += math.comb(other, mine) * ways[: rest + 1 - mine, :-1]
            ways = grown
        won += math.comb(size, mine) * float(sum(ways[rest, ties] / (ties + 1) for ties in range(most + 1)))
    return won
