"""What ``eval --list`` shows: benchmarks known by name, prompts, and where else questions come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PAPERS = ("math",)  # what RaML trains on: its fig. 7 calls the other domains cross-domain


@dataclass(frozen=True, kw_only=True)
class BenchmarkRow:
    """A benchmark known by name. ``fields`` says from which fields of the source ours are made.

    ``group`` is ``within-domain`` or ``cross-domain``, seen from the domains that a model was trained on. ``template``
    is the text of the default prompt; where ``prompt`` names two, the rows decide, and ``template`` has both.
    """

    name: str
    source: str
    file: str
    licence: str
    domain: str
    group: str
    verifier: str
    prompt: str
    template: str
    fields: dict[str, str]
    only: str | None


@dataclass(frozen=True, kw_only=True)
class PromptRow:
    """A prompt that ``--prompt`` takes, with its system turn. ``source`` says whose words it has, None for ours."""

    name: str
    about: str
    template: str
    source: str | None
    system: str | None


@dataclass(frozen=True, kw_only=True)
class GymRow:
    """Questions made by reasoning-gym: any of its ``families``, judged by the family's own scorer."""

    source: str
    verifier: str
    licence: str
    families: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class BenchmarkList:
    """What ``--list`` shows. ``trained_on``: the domains from which ``group`` is seen."""

    benchmarks: tuple[BenchmarkRow, ...]
    prompts: tuple[PromptRow, ...]
    gym: GymRow
    trained_on: tuple[str, ...]


def benchmark_list(trained_on: Sequence[str] = ()) -> BenchmarkList:
    """All that is known by name; without ``trained_on`` grouped as in RaML fig. 7, whose models learn mathematics."""
    from reasoning_gym.factory import DATASETS

    from innerloop.prompts import PROMPTS
    from innerloop.questions.benchmarks import BENCHMARKS

    domains = tuple(trained_on) or PAPERS
    rows = []
    for name, entry in BENCHMARKS.items():
        prompts = (entry.prompt,) if entry.prompt else ("program", "function")
        rows.append(
            BenchmarkRow(
                name=name,
                source=entry.source,
                file=f"{name}@FILE",
                licence=entry.licence,
                domain=entry.domain,
                group="within-domain" if entry.domain in domains else "cross-domain",
                verifier=entry.verifier,
                prompt=" or ".join(prompts),
                template="\n\n--- or ---\n\n".join(PROMPTS[prompt].template for prompt in prompts),
                fields=dict(entry.fields),
                only=entry.only,
            )
        )
    return BenchmarkList(
        benchmarks=tuple(rows),
        prompts=tuple(
            PromptRow(
                name=name, about=prompt.about, template=prompt.template, source=prompt.source, system=prompt.system
            )
            for name, prompt in PROMPTS.items()
        ),
        gym=GymRow(
            source="gym:FAMILY?size=50&seed=0&PARAMETER=VALUE",
            verifier="gym:FAMILY",
            licence="Apache-2.0",
            families=tuple(sorted(name for name in DATASETS if name != "composite")),
        ),
        trained_on=domains,
    )
