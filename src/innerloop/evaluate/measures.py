"""Which numbers a table shows, and what each is for one question; see `innerloop.evaluate.metrics`.

Undecided samples are neither right nor wrong: the value is that of the decided ones, and stands between its value if
all of them were wrong and if all were right. Where fewer than k samples are decided the value is undefined (NaN), the
bounds are not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from innerloop.errors import InputError
from innerloop.evaluate.metrics import best_of_k, g_pass_at_k, majority_at_k, mg_pass_at_k, pass_at_k, threshold
from innerloop.schema import Score

TAUS = (0.5, 0.75, 1.0)


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One column: what is computed (``avg, pass, g-pass, mg-pass, maj, best, tokens``), for which k and τ."""

    kind: str
    k: int | None = None
    tau: float | None = None
    n: int | None = None  # of avg@n, where all questions have as many samples

    @property
    def name(self) -> str:
        """As papers write it: ``Pass@8``, ``G-Pass@8 (τ=0.5)``, ``avg@50``."""
        at = f"@{self.n or 'n'}" if self.kind == "avg" else f"@{self.k}"
        names = {
            "avg": f"avg{at}",
            "pass": f"Pass{at}",
            "g-pass": f"G-Pass{at} (τ={self.tau:g})" if self.tau is not None else "",
            "mg-pass": f"mG-Pass{at}",
            "maj": f"maj{at}",
            "best": f"best of {self.k} by answer loss",
            "tokens": "tokens per sample",
        }
        return names[self.kind]

    @property
    def meaning(self) -> tuple[str, int]:
        """Equal for measures that are the same number for every question."""
        if self.kind == "avg" or (self.kind, self.k) == ("pass", 1):
            return "avg", 1
        if self.kind == "g-pass" and self.tau is not None:
            return f"at least {threshold(self._k, self.tau)}", self._k
        return ("at least 1" if self.kind == "pass" else self.kind), self.k or 0

    @property
    def range(self) -> tuple[float, float] | None:
        """Between what it lies."""
        return None if self.kind == "tokens" else (0.0, 1.0)

    def value(self, score: Score) -> float:
        """From the decided samples; NaN where there are too few."""
        decided = score.right + score.wrong
        if self.kind == "tokens":
            return math.nan if score.tokens is None else score.tokens
        if self.kind == "avg":
            return score.right / decided if decided else math.nan
        if self.kind == "best":
            known = len(score.losses)
            return best_of_k(score.losses, score.loss_values, self._k) if known >= self._k else math.nan
        if decided < self._k:
            return math.nan
        if self.kind == "maj":
            return _majority(*_votes(score), self._k)
        return self._counted(decided, score.right)

    def bounds(self, score: Score) -> tuple[float, float]:
        """If every undecided sample were wrong, and if every one were right."""
        if not score.undecided or self.kind in ("tokens", "best"):
            value = self.value(score)
            return value, value
        if self.kind == "avg":
            return score.right / score.samples, (score.right + score.undecided) / score.samples
        if self.kind == "maj":
            votes = _votes(score)
            return _majority(*votes, self._k, undecided=0.0), _majority(*votes, self._k, undecided=1.0)
        return (
            self._counted(score.samples, score.right),
            self._counted(score.samples, score.right + score.undecided),
        )

    @property
    def _k(self) -> int:
        assert self.k is not None, f"{self.kind} needs a k"
        return self.k

    @lru_cache(maxsize=65536)  # questions share counts, and a large benchmark asks for each many times  # noqa: B019
    def _counted(self, n: int, c: int) -> float:
        if self.kind == "g-pass":
            assert self.tau is not None
            return g_pass_at_k(n, c, self._k, self.tau)
        return {"pass": pass_at_k, "mg-pass": mg_pass_at_k}[self.kind](n, c, self._k)


def measures(scores: Sequence[Score], ks: Sequence[int] = (), taus: Sequence[float] = TAUS) -> list[Measure]:
    """The columns for these scores: by default k = 1 and the smallest number of samples of a question.

    ``InputError`` where a k is larger than that. Votes, stability and best-of are left out where they say nothing
    (k = 1, no answers, no losses).
    """
    fewest, most = (choose(score.samples for score in scores) for choose in (min, max))
    chosen = sorted(set(ks)) if ks else sorted({1, fewest})
    check_ks({score.question_id: score.samples for score in scores}, chosen)
    several = [k for k in chosen if k > 1]
    votes = any(score.votes_right for score in scores)
    probed = min(len(score.losses) for score in scores)
    found = [Measure(kind="avg", n=fewest if fewest == most else None)]
    found += [Measure(kind="pass", k=k) for k in chosen]
    found += [Measure(kind="maj", k=k) for k in several if votes]
    found += [Measure(kind="mg-pass", k=k) for k in several]
    found += [Measure(kind="g-pass", k=k, tau=tau) for k in several for tau in taus]
    found += [Measure(kind="best", k=k) for k in several if k <= probed]
    return found + ([Measure(kind="tokens")] if any(score.tokens is not None for score in scores) else [])


def check_ks(samples: Mapping[str, int], ks: Iterable[int]) -> None:
    """``InputError`` for a k below 1 or above the number of samples of a question (by its id)."""
    name = min(samples, key=lambda question: samples[question])
    for k in ks:
        if k < 1:
            raise InputError(f"--k {k}: must be 1 or more")
        if k > samples[name]:
            raise InputError(
                f"--k {k}: question {name!r} has only {samples[name]} samples; "
                f"take a k up to {samples[name]}, or draw more samples"
            )


def _votes(score: Score) -> tuple[tuple[tuple[int, int, int], ...], int, int]:
    """Per answer how many votes are right, wrong and undecided; how many abstain, and how many of those undecided."""
    votes = zip(score.votes_right, score.votes_wrong, score.votes_undecided, strict=True)
    return tuple(sorted(votes)), score.abstained, score.abstained_undecided


@lru_cache(maxsize=65536)
def _majority(
    answers: tuple[tuple[int, int, int], ...],
    abstained: int,
    abstained_undecided: int,
    k: int,
    *,
    undecided: float | None = None,
) -> float:
    """The vote; undecided samples take part with that value where one is given, else they are left out."""
    votes = []
    for right, wrong, open_ in answers:
        size = right + wrong + (0 if undecided is None else open_)
        if size:
            votes.append((size, (right + (undecided or 0.0) * open_) / size))
    silent = abstained - (abstained_undecided if undecided is None else 0)
    return majority_at_k(votes, silent, k)
