"""What a second worker brings, and what one costs beside the plain engine: `python benchmarks/cluster.py`.

Rollout on ``gym:chain_sum`` and probe on chains of thought, by workers of one thread each in a local Ray cluster.
Models are loaded and every way has done a little work before the clock starts. The ways take turns, so that a slow
moment of the machine meets all of them; a ratio is of one turn, and its range over the turns. All do the same work.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial

import torch

from innerloop.cluster.crew import Crew
from innerloop.cluster.options import ClusterOptions
from innerloop.cluster.work import Unit
from innerloop.inner.probe import probe as curves
from innerloop.questions import load as questions_of
from innerloop.rollout.engine import Sampling
from innerloop.rollout.ray_engine import RayEngine
from innerloop.rollout.sample import plan
from innerloop.rollout.transformers_engine import TransformersEngine
from innerloop.verbs.engine_settings import in_worker
from innerloop.verbs.on_cluster import Measuring
from innerloop.verbs.probe import ProbeSettings, probe_groups
from innerloop.verbs.probe import in_worker as probed
from innerloop.verbs.rollout import RolloutSettings
from measure import chains, log, seconds, show, spread

BATCH = 16
# Half a core reserved each, since workers of both crews wait while the other one works.
OPTIONS = {count: ClusterOptions(address="local", workers=count, cpus=0.5, threads=1) for count in (2, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("rollout", "probe"))
    parser.add_argument("--questions", type=int, default=16, help="for the rollout")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--chains", type=int, default=12, help="for the probe, of 256 tokens each")
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    rows = [row(chosen) for row in (rollout, probe) if chosen.only in (None, row.__name__)]
    columns = ["work", "one worker, s", "two workers, s", "one / two", "one worker / plain"]
    show("SmolLM2-135M, float32, workers of one thread each in a local Ray cluster", columns, rows)


def rollout(chosen: argparse.Namespace) -> list[str]:
    settings = RolloutSettings(questions=f"gym:chain_sum?size={chosen.questions}", threads=1, batch_size=BATCH)
    loaded = settings.load()
    sampling = Sampling(samples=chosen.samples, max_tokens=chosen.max_tokens)
    questions = settings.worded(questions_of(settings.questions))
    requests = [row.request for row in plan(questions, loaded, sampling)]
    plain = TransformersEngine(loaded, batch_size=BATCH)
    engines = {count: RayEngine(partial(in_worker, settings), own, streams=BATCH) for count, own in OPTIONS.items()}
    for engine in engines.values():
        engine.crew.wait_for_all()
    ways = {
        count: lambda work, engine=engine: list(engine.generate(work, sampling))
        for count, engine in {0: plain, **engines}.items()
    }
    row = timed("rollout", ways, requests, chosen.repeats)
    for engine in (engines[1], engines[2]):  # the one that started the cluster last
        engine.close()
    return row


def probe(chosen: argparse.Namespace) -> list[str]:
    settings = ProbeSettings(questions="gsm8k", threads=1)
    loaded = settings.load()
    items = list(chains(loaded, 256, chosen.chains))
    units = [Unit(id=item.trajectory_id, work=item) for item in items]
    job = Measuring(settings=settings, measure=partial(probed, settings))
    crews = {count: Crew(job, own).open() for count, own in OPTIONS.items()}
    for crew in crews.values():
        crew.wait_for_all()
    grouped = probe_groups(settings)
    ways = {
        count: lambda work, count=count, crew=crew: list(crew.run(grouped(work, count, True)))
        for count, crew in crews.items()
    }
    ways[0] = lambda work: list(curves(loaded, [unit.work for unit in work]))
    row = timed("probe", ways, units, chosen.repeats)
    for count in (1, 2):
        crews[count].close()
    return row


def timed(name: str, ways: dict[int, Callable[[list], object]], work: list, repeats: int) -> list[str]:
    """A row of the table; way 0 is the plain one, the others have so many workers."""
    for way in ways.values():
        way(work[:4])  # enough for two workers
    turns = []
    for turn in range(repeats):
        turns.append({count: seconds(partial(way, work), torch.device("cpu")) for count, way in ways.items()})
        log(f"{name}, turn {turn + 1}: {turns[-1]}")
    return [
        name,
        f"{statistics.median(turn[1] for turn in turns):.1f}",
        f"{statistics.median(turn[2] for turn in turns):.1f}",
        spread([turn[1] / turn[2] for turn in turns], 2),
        spread([turn[1] / turn[0] for turn in turns], 2),
    ]


if __name__ == "__main__":
    main()
