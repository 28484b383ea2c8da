"""Which trajectories are averaged together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from innerloop.schema import Mode, Outcome, Source, Trajectory


@dataclass(frozen=True)
class Group:
    """Trajectories that are averaged together: one source, and for answers that were judged one outcome.

    ``mode`` is None where the source has only one mode in this run. ``of`` is the source of the trajectories that a
    control was made of; None where the run has controls of one source only.
    """

    source: Source
    outcome: Outcome | None
    mode: Mode | None
    of: Source | None = None

    @property
    def rank(self) -> tuple[int, int, int]:
        """Groups stand on the page by rising rank."""
        mode = list(Mode).index(self.mode) if self.mode else -1
        of = list(Source).index(self.of) if self.of else -1
        return _ORDER.index((self.source, self.outcome)), of, mode

    @property
    def key(self) -> str:
        """Unique in a page; safe in an HTML id."""
        made_of = f"-of-{self.of}" if self.of else ""
        return "-".join(part or "any" for part in (self.source, self.mode, self.outcome)) + made_of

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
        name = _NAMES[self.source] + (f" ({_NAMES[self.of].lower()})" if self.of else "")
        return ", ".join(filter(None, (name, self.mode)))

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
    source_of = {trajectory.id: trajectory.source for trajectory in trajectories}
    origins = {t.id: source_of.get(t.made_of) for t in trajectories if t.made_of is not None}
    several = len(set(origins.values())) > 1
    modes: dict[tuple[Source, Source | None], set[Mode]] = {}
    for trajectory in trajectories:
        modes.setdefault((trajectory.source, origins.get(trajectory.id)), set()).add(trajectory.mode)
    return {
        trajectory.id: Group(
            source=trajectory.source,
            outcome=trajectory.outcome if trajectory.source in _JUDGED else None,
            mode=trajectory.mode if len(modes[trajectory.source, origins.get(trajectory.id)]) > 1 else None,
            of=origins.get(trajectory.id) if several else None,
        )
        for trajectory in trajectories
    }
