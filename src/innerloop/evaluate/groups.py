"""Which trajectories are averaged together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from innerloop.schema import Mode, Outcome, Source, Trajectory


@dataclass(frozen=True)
class Group:
    """Trajectories that are averaged together: one source, and for answers that were judged one outcome.

    ``mode`` is None where the source has only one mode in this run.
    """

    source: Source
    outcome: Outcome | None
    mode: Mode | None

    @property
    def rank(self) -> tuple[int, int]:
        """Groups stand on the page by rising rank."""
        return _ORDER.index((self.source, self.outcome)), list(Mode).index(self.mode) if self.mode else -1

    @property
    def key(self) -> str:
        """Unique in a page; safe in an HTML id."""
        return "-".join(part or "any" for part in (self.source, self.mode, self.outcome))

    @property
    def label(self) -> str:
        """E.g. ``Samples, thinking, right``."""
        return ", ".join(filter(None, (self.short_label, self._outcome_label)))

    @property
    def kind(self) -> str:
        """What decides colour and dash: the outcome, or for solutions and controls the source."""
        if self.source is Source.ORACLE:  # a worked solution, too; a symbol tells the two apart
            return str(Source.SOLUTION)
        return str(self.source) if self.source not in _JUDGED else str(self.outcome or "unjudged")

    @property
    def short_label(self) -> str:
        """The label without the outcome."""
        return ", ".join(filter(None, (_NAMES[self.source], self.mode)))

    @property
    def _outcome_label(self) -> str:
        return (self.outcome or "not judged") if self.source in _JUDGED else ""


_NAMES = {
    Source.SOLUTION: "Worked solutions",
    Source.ORACLE: "Oracle trajectories",
    Source.FILE: "From file",
    Source.SAMPLE: "Samples",
    Source.OTHER_QUESTION: "Control: other question",
    Source.SHUFFLED: "Control: shuffled tokens",
    Source.FILLER: "Control: filler",
}
_JUDGED = (Source.FILE, Source.SAMPLE)
_ORDER = [
    (source, outcome)
    for source in _NAMES
    for outcome in ((Outcome.RIGHT, Outcome.WRONG, Outcome.UNDECIDED, None) if source in _JUDGED else (None,))
]


def grouped(trajectories: Iterable[Trajectory]) -> dict[str, Group]:
    """The group of each trajectory, by its id."""
    trajectories = list(trajectories)
    modes: dict[Source, set[Mode]] = {}
    for trajectory in trajectories:
        modes.setdefault(trajectory.source, set()).add(trajectory.mode)
    return {
        trajectory.id: Group(
            source=trajectory.source,
            outcome=trajectory.outcome if trajectory.source in _JUDGED else None,
            mode=trajectory.mode if len(modes[trajectory.source]) > 1 else None,
        )
        for trajectory in trajectories
    }
