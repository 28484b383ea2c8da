"""The evaluation in a run folder: which series were scored, by which measures, and which samples each one holds.

The stage ``scores`` holds the counts and the manifest says how ``eval`` was asked, so every number of the page is
computed again from the two, by the same functions as the tables of ``eval``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from innerloop.atomic import read_file
from innerloop.errors import InputError
from innerloop.evaluate.compare import Difference, differences
from innerloop.evaluate.measures import TAUS, Measure, measures
from innerloop.evaluate.summary import Row, summarise
from innerloop.report.view import View
from innerloop.schema import Outcome, Score, Source, Trajectory

_LARGEST = 1 << 28  # bytes of the list of disagreements
OURS = ", our verdicts"  # how ``eval --verdicts compare`` names the series of verdicts made anew


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """A sample whose recorded verdict is not ours; see `innerloop.verbs.scoring`."""

    series: str
    question_id: str
    trajectory_id: str
    answer: str
    reference: str
    recorded: str
    verdict: str
    reason: str


@dataclass(frozen=True)
class Evaluated:
    """Scores by series, the reference first; ``series`` with ", our verdicts" hold no samples of their own."""

    series: dict[str, list[Score]]
    measures: list[Measure]
    compared: bool
    seed: int
    verdicts: int | None  # recorded ones that were compared with ours
    disagreements: tuple[Disagreement, ...]
    trained_on: tuple[str, ...] = ()  # domains; empty where within and across domains were not told apart

    def base(self, name: str) -> str:
        """The series whose samples a series is about: itself, or the one that these verdicts were made for."""
        stem = name.removesuffix(OURS)
        return stem if stem in self.series else name

    @property
    def own(self) -> dict[str, list[Score]]:
        """The series that samples belong to."""
        return {name: scores for name, scores in self.series.items() if self.base(name) == name}

    @cached_property
    def rows(self) -> list[Row]:
        """The rows of the tables."""
        return summarise(self.series, self.measures, seed=self.seed, trained_on=self.trained_on)

    @cached_property
    def differences(self) -> list[Difference]:
        """Every series against the first; none where series were not compared."""
        if not self.compared:
            return []
        return differences(self.own, self.measures, seed=self.seed, trained_on=self.trained_on)

    def series_of(self, trajectory: Trajectory) -> str | None:
        """The series a sample was scored in; None for controls, worked solutions and what was not scored.

        Samples that ``eval`` took over begin with their series' name; those of its own folder are told by model and
        mode, as it told them.
        """
        if trajectory.source.is_control or trajectory.source is Source.SOLUTION:
            return None
        names = self.own
        prefixed = [name for name in names if trajectory.id.startswith(f"{name}/")]
        if prefixed:
            return max(prefixed, key=len)
        for label in (f"{trajectory.model} {trajectory.mode}", str(trajectory.model)):
            if label in names:
                return label
        ends = [name for name in names if trajectory.mode and name.endswith(f" {trajectory.mode}")]
        if len(names) == 1:
            return next(iter(names))
        return ends[0] if len(ends) == 1 else None


def evaluated(view: View) -> Evaluated | None:
    """What ``eval`` left in the folder; None where it did not run."""
    stage: dict[str, Any] = view.manifest.get("stages", {}).get("eval", {})
    series = _series(view.scores, stage)
    if not series:
        return None
    asked: dict[str, Any] = stage.get("configuration", {})
    everything = [score for scores in series.values() for score in scores]
    ks, taus = asked.get("k") or (), asked.get("tau") or TAUS
    try:
        columns = measures(everything, ks, taus)
    except InputError:  # a folder put together by hand: another file's samples may be fewer
        columns = measures(everything, (), TAUS)
    return Evaluated(
        series=series,
        measures=columns,
        compared=bool(asked.get("compare")) and len(series) > 1,
        seed=int(asked.get("seed") or 0),
        trained_on=_trained_on(asked.get("trained_on") or (), everything),
        verdicts=stage.get("notes", {}).get("compared"),
        disagreements=tuple(_disagreements(view)) if asked.get("verdicts") == "compare" else (),
    )


def _trained_on(domains: Sequence[str], scores: Iterable[Score]) -> tuple[str, ...]:
    """The domains that were asked for; of a folder put together by hand, those that its questions are of."""
    there = {score.domain for score in scores}
    return tuple(domain for domain in domains if domain in there)


def _series(scores: Iterable[Score], stage: dict[str, Any]) -> dict[str, list[Score]]:
    """Scores by series in the order that ``eval`` noted; of an older folder, as they were written."""
    found: dict[str, list[Score]] = {}
    for score in scores:
        found.setdefault(score.series, []).append(score)
    noted = [name for name in stage.get("notes", {}).get("series") or () if name in found]
    return {name: found[name] for name in noted or found}


def _disagreements(view: View) -> Iterable[Disagreement]:
    """The rows of ``disagreements.csv``; what cannot be read is left out."""
    try:
        text = read_file(view.path / "disagreements.csv", most=_LARGEST).decode()
        rows = list(csv.DictReader(text.splitlines(keepends=True)))
    except InputError:
        raise
    except (OSError, ValueError, csv.Error):
        return
    known = {Outcome.RIGHT, Outcome.WRONG, Outcome.UNDECIDED}
    for row in rows:
        fields = {name: row.get(name) or "" for name in Disagreement.__dataclass_fields__}
        if {fields["recorded"], fields["verdict"]} <= known:
            yield Disagreement(**fields)
