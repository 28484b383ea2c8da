"""From a run folder to page data: what the templates draw and what the scripts read.

A section of the page is an entry in ``SECTIONS``. Its ``build`` turns the run into JSON-able data, or None where the
run has nothing for it; ``sections/KEY.html.jinja`` draws it and ``js/KEY.js`` finds the same data under its key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from innerloop.report.curves import curves
from innerloop.report.facts import facts, probed_model
from innerloop.report.headline import headline
from innerloop.report.landscapes import landscape_blocks, landscapes
from innerloop.report.reading import index, text_blocks
from innerloop.report.scores import score_blocks, scores
from innerloop.report.training import training
from innerloop.report.updates import update_blocks, updates
from innerloop.report.view import View, view

FORMAT = 1  # of the data inside the page


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page with an entry in its navigation; its script parses each of ``blocks`` when it is asked for."""

    key: str
    title: str
    build: Callable[[View], dict[str, Any] | None]
    blocks: Callable[[View], dict[str, Any]] = lambda _: {}


@dataclass(frozen=True, kw_only=True)
class PageData:
    """What a page is rendered from.

    ``sections`` holds the data of each section shown, by key. ``blocks`` are the JSON blocks for the scripts by HTML
    id: ``data-index``, ``data-KEY`` per section, and those that are parsed when something in them is opened:
    ``data-t0``, … a few trajectories each, ``data-u0``, … for their updates, ``data-l0``, … for landscapes.
    """

    facts: dict[str, Any]
    shown: tuple[Section, ...]
    sections: dict[str, dict[str, Any]]
    blocks: dict[str, Any]


def _summary(view: View) -> dict[str, Any] | None:
    """The summary of curves; where samples were only scored, or a model only trained, that is the summary."""
    return None if (view.scores or (view.trainings and not view.entries)) and not view.probed else headline(view)


SECTIONS = (
    Section(key="headline", title="Summary", build=_summary),
    Section(key="training", title="Training", build=training),
    Section(key="scores", title="Scores", build=scores, blocks=score_blocks),
    Section(key="curves", title="Curves", build=curves),
    Section(key="table", title="Trajectories", build=lambda view: {} if view.readable else None),
    Section(key="reader", title="Reader", build=lambda view: {} if view.readable else None),
    Section(key="update", title="Update", build=updates, blocks=update_blocks),
    Section(key="landscape", title="Landscape", build=landscapes, blocks=landscape_blocks),
)


def collect(run: Path, beside: Sequence[Path] = ()) -> PageData:
    """Read a run folder into page data, with the trainings of others on the same axes. `InputError` where there is
    none."""
    seen = view(run, beside)
    built = {section.key: section.build(seen) for section in SECTIONS}
    sections = {key: data for key, data in built.items() if data is not None}
    texts = text_blocks(seen, probed_model(seen).get("name"))
    blocks = {
        "data-index": {"format": FORMAT, **index(seen), "texts": list(texts)},
        **{f"data-{key}": data for key, data in sections.items() if data},
        **{f"data-t{first}": entries for first, entries in texts.items()},
        **{name: value for section in SECTIONS for name, value in section.blocks(seen).items()},
    }
    return PageData(
        facts=facts(seen),
        shown=tuple(section for section in SECTIONS if section.key in sections),
        sections=sections,
        blocks=blocks,
    )
