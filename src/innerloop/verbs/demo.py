"""``demo``: rollout, probe and report, one after the other, on a small bundled model."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from innerloop.verbs.probe import ProbeResult, ProbeSettings, probe
from innerloop.verbs.report import ReportResult, ReportSettings, report
from innerloop.verbs.rollout import RolloutResult, RolloutSettings, rollout
from innerloop.verbs.shared import OutputSettings, about, at_least, out_folder

log = logging.getLogger("innerloop")

QUESTIONS = "gym:gsm_symbolic?size={size}&seed={seed}"


@dataclass(frozen=True, kw_only=True)
class DemoSettings(OutputSettings):
    """How large the demonstration is. The defaults take about two minutes on two cores."""

    model: str = field(default="smollm2", metadata=about("A model's name, as in the other commands."))
    limit: int = field(default=8, metadata=about("Questions, made by reasoning-gym's gsm_symbolic family."))
    samples: int = field(default=1, metadata=about("The model's own trajectories per question."))
    max_tokens: int = field(default=120, metadata=about("Length at which a sample is cut off."))
    every: int | Literal["all", "sentence"] = field(
        default="all", metadata=about("Measure at every N-th token, at sentence ends, or at all tokens.")
    )
    seed: int = field(default=0, metadata=about("Of questions, samples and controls."))
    threads: int | None = field(default=None, metadata=about("CPU threads; by default all cores.", free=True))

    def __post_init__(self) -> None:
        at_least("limit", self.limit, 1)
        self.rollout_settings(Path())
        self.probe_settings(Path())

    def rollout_settings(self, out: Path) -> RolloutSettings:
        """The model's own samples."""
        return RolloutSettings(
            model=self.model,
            questions=QUESTIONS.format(size=self.limit, seed=self.seed),
            samples=self.samples,
            max_tokens=self.max_tokens,
            seed=self.seed,
            threads=self.threads,
            out=out,
        )

    def probe_settings(self, out: Path) -> ProbeSettings:
        """Worked solutions, their controls, and the samples."""
        return ProbeSettings(
            model=self.model,
            questions=QUESTIONS.format(size=self.limit, seed=self.seed),
            trajectories=("solutions", str(out)),
            controls=("other-question", "shuffled"),
            controls_of="solution",
            every=self.every,
            seed=self.seed,
            threads=self.threads,
            out=out,
        )


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """The results of the three verbs; ``seconds`` is what they took together this time."""

    run: Path
    rollout: RolloutResult
    probe: ProbeResult
    report: ReportResult
    seconds: float


def demo(settings: DemoSettings, *, command: Sequence[str] | None = None) -> DemoResult:
    """Sample from a small model, measure its samples, worked solutions and controls, and write the page.

    Everything goes into one run folder; the same command again does nothing but write the page.
    """
    started = time.monotonic()
    out = out_folder("demo", settings)
    sampled = rollout(settings.rollout_settings(out), command=command)
    probed = probe(settings.probe_settings(out), command=command)
    shown = report(ReportSettings(out), command=command)
    return DemoResult(run=out, rollout=sampled, probe=probed, report=shown, seconds=time.monotonic() - started)
