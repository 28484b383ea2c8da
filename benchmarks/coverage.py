"""How often the 95 % intervals of ``innerloop eval`` hold the truth, in simulated evaluations with a known answer.

    python benchmarks/coverage.py                     # 2,000 evaluations per line, a minute
    python benchmarks/coverage.py --evaluations 500   # a first look

A question's chance to be answered right is drawn from a beta distribution, its n samples from that chance; the truth is
the mean over all questions that could have been drawn, known in closed form (beta-binomial). Target: between 93 and
97 %. Lines marked * are outside what any interval from so few questions can promise and are shown to be honest: few
questions, nearly all of them hopeless.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from innerloop.evaluate.metrics import mg_pass_at_k, pass_at_k
from innerloop.evaluate.resample import intervals
from measure import log, show

Floats = NDArray[np.float64]
LOW, HIGH = 93.0, 97.0
_AT_ONCE = 500  # evaluations in memory
_RESAMPLES = 1999  # fewer than the command's 9,999: what that adds is below a tenth of a per cent


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A benchmark and a model: how many questions, samples and k; chances ~ beta(a, b); questions per template."""

    name: str
    questions: int
    samples: int
    k: int
    a: float
    b: float
    repeats: int = 1
    hard: bool = False

    def truth(self) -> dict[str, float]:
        """The means over all questions that could have been drawn."""
        right = stats.betabinom(self.k, self.a, self.b)  # of k samples of a question
        tail = sum(right.sf(i - 1) for i in range((self.k + 1) // 2 + 1, self.k + 1))
        return {
            "avg": self.a / (self.a + self.b),
            "Pass@k": 1 - right.pmf(0),
            "mG-Pass@k": 2 * tail / self.k,
        }

    def draw(self, generator: np.random.Generator, evaluations: int) -> Floats:
        """Chances (question × evaluation), the same for questions of one template."""
        templates = self.questions // self.repeats
        return np.repeat(generator.beta(self.a, self.b, size=(templates, evaluations)), self.repeats, axis=0)

    @property
    def clusters(self) -> list[int] | None:
        """The template of each question."""
        return None if self.repeats == 1 else [i // self.repeats for i in range(self.questions)]

    def scores(self, chances: Floats, generator: np.random.Generator) -> dict[str, Floats]:
        """What samples with these chances score, per question and evaluation."""
        right = generator.binomial(self.samples, chances)
        values = np.arange(self.samples + 1)
        tables = {
            "avg": values / self.samples,
            "Pass@k": pass_at_k(self.samples, values, self.k),
            "mG-Pass@k": mg_pass_at_k(self.samples, values, self.k),
        }
        return {name: table[right] for name, table in tables.items()}


SETTINGS = (
    Setting(name="30 questions, n = 32, k = 8, most far from ½", questions=30, samples=32, k=8, a=0.5, b=0.7),
    Setting(name="40 questions, n = 16, k = 8, weak model", questions=40, samples=16, k=8, a=0.6, b=2.0),
    Setting(name="100 questions, n = 8, k = 4, strong model", questions=100, samples=8, k=4, a=2.0, b=0.5),
    Setting(name="500 questions, n = 8, k = 8, strong model", questions=500, samples=8, k=8, a=2.0, b=0.5),
    Setting(
        name="100 questions from 25 templates, n = 8, k = 4", questions=100, samples=8, k=4, a=1.0, b=1.0, repeats=4
    ),
    Setting(
        name="* 30 questions, n = 8, k = 8, nearly hopeless", questions=30, samples=8, k=8, a=0.05, b=1.5, hard=True
    ),
)


def covered(values: Floats, truth: float, clusters: Sequence[int] | None, *, difference: bool = False) -> float:
    """How many per cent of the evaluations (columns) have the truth in their interval."""
    ranges = [(-1.0, 1.0) if difference else (0.0, 1.0)] * values.shape[1]
    found = intervals(values, clusters, ranges=ranges, resamples=_RESAMPLES)
    return 100 * sum(interval.low <= truth <= interval.high for interval in found) / len(found)


def measured(setting: Setting, evaluations: int) -> dict[str, float]:
    """Coverage per measure, and of the paired difference to a model that moves each chance a fifth of the way to 1."""
    generator = np.random.default_rng(7)
    truth = setting.truth()
    sums = dict.fromkeys([*truth, "difference"], 0.0)
    for start in range(0, evaluations, _AT_ONCE):
        count = min(_AT_ONCE, evaluations - start)
        chances = setting.draw(generator, count)
        scores = setting.scores(chances, generator)
        better = setting.scores(chances + 0.2 * (1 - chances), generator)["avg"]
        for name, value in truth.items():
            sums[name] += count * covered(scores[name], value, setting.clusters)
        gain = 0.2 * (1 - truth["avg"])
        sums["difference"] += count * covered(better - scores["avg"], gain, setting.clusters, difference=True)
    return {name: value / evaluations for name, value in sums.items()}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluations", type=int, default=2000)
    evaluations = parser.parse_args().evaluations
    rows, outside = [], 0
    for setting in SETTINGS:
        log(setting.name)
        found = measured(setting, evaluations)
        outside += 0 if setting.hard else sum(not LOW <= value <= HIGH for value in found.values())
        rows.append([setting.name, *(f"{value:.1f}" for value in found.values())])
    error = 100 * (0.95 * 0.05 / evaluations) ** 0.5
    show(
        "coverage of the 95 % interval, per cent",
        ["evaluation", "avg@n", "Pass@k", "mG-Pass@k", "paired difference"],
        rows,
        notes=f"standard error {error:.1f}; outside {LOW:.0f} to {HIGH:.0f}: {outside} (lines with * not counted)",
    )


if __name__ == "__main__":
    main()
