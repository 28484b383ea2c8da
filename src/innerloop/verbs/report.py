"""``report``: one self-contained page from a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from innerloop.verbs.shared import about

_SPEAKING = ("headline", "training", "scores")  # sections that say something in words


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """Which run to show, and which trainings beside its own."""

    run: Path = field(kw_only=False, metadata=about("The run folder that another command wrote."))
    beside: tuple[Path, ...] = field(
        default=(), kw_only=False, metadata=about("Other runs whose training curves are drawn on the same axes.")
    )
    json: bool = field(default=False, metadata=about("Print one JSON object on standard output.", free=True))
    debug: bool = field(default=False, metadata=about("Show more log lines, and an error's traceback.", free=True))


@dataclass(frozen=True, kw_only=True)
class ReportResult:
    """The page, what it shows, and what it says in words."""

    run: Path
    page: Path
    questions: int
    trajectories: int
    curves: int
    statements: tuple[str, ...]


def report(settings: ReportSettings, *, command: Sequence[str] | None = None) -> ReportResult:  # noqa: ARG001
    """Write ``RUN/report.html``, which needs no network, from the run folder alone.

    Raises `InputError` where there is no run folder or it cannot be written. ``command`` is not recorded: the page
    shows the commands that made the run.
    """
    from innerloop.report.data import collect
    from innerloop.report.page import write
    from innerloop.report.view import view

    data = collect(settings.run, settings.beside)
    page = write(settings.run, data)
    seen = view(settings.run)
    statements = [said for key in _SPEAKING for said in data.sections.get(key, {}).get("statements", ())]
    return ReportResult(
        run=settings.run,
        page=page,
        questions=len(seen.questions),
        trajectories=len(seen.entries),
        curves=len(seen.probed),
        statements=tuple(statements),
    )
