"""Looking at held-out questions during a training: what trajectories do to the answer loss, and what is answered."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from innerloop.schema import Outcome, Question, Status, Trajectory
from innerloop.verbs.train.settings import OuterSettings

if TYPE_CHECKING:
    from innerloop.models import LoadedModel

_INTERVALS = {"watch_pass@1": (0.0, 1.0), "watch_gain": None}  # measures with an interval, and between what they lie
_BY_FAMILY = ("watch_pass@1", "watch_gain", "watch_tokens")
_RESAMPLES = 999


@dataclass(kw_only=True)
class _Seen:
    """A value per question for every measure, and the sampled tokens with their −log p in nats."""

    values: dict[str, list[float]] = field(default_factory=dict)
    surprise: float = 0.0
    tokens: float = 0.0

    def add(self, other: _Seen) -> None:
        for name, values in other.values.items():
            self.values.setdefault(name, []).extend(values)
        self.surprise += other.surprise
        self.tokens += other.tokens


def watcher(settings: OuterSettings, loaded: LoadedModel) -> Callable[[], dict[str, float]] | None:
    """A measurement of the model as it is when it is called; None where nothing is to be watched.

    Means over questions, for pass@1 and gain with the ends of a 95 % interval (``_low``, ``_high``); of several sources
    over all their questions, and of the main measures also source by source (``watch_pass@1/NAME``).
    """
    if not settings.watch:
        return None
    families = watched(settings)

    def measure() -> dict[str, float]:
        loaded.model.eval()
        try:
            seen = {name: _looked(settings, loaded, *own) for name, own in families.items()}
        finally:
            loaded.model.train()
        return _numbers(seen)

    return measure


def watched(settings: OuterSettings) -> dict[str, tuple[list[Question], list[Trajectory]]]:
    """Questions and trajectories to look at, by the name of their source."""
    from innerloop.questions import load
    from innerloop.verbs.scoring import short_name
    from innerloop.verbs.trajectories import gather

    families: dict[str, tuple[list[Question], list[Trajectory]]] = {}
    for source in settings.watch:
        limit, seed = settings.watch_limit, settings.seed
        if settings.watch_trajectories:
            questions, given = gather(source, settings.watch_trajectories, limit=limit, seed=seed)
        else:
            questions, given = load(source, limit=limit, seed=seed), []
        families[short_name(source)] = (list(settings.worded(questions)), given)
    return families


def _looked(
    settings: OuterSettings, loaded: LoadedModel, questions: Sequence[Question], given: Sequence[Trajectory]
) -> _Seen:
    seen = _Seen()
    seen.add(_probed(loaded, questions, given))
    seen.add(_sampled(settings, loaded, questions))
    return seen


def _numbers(seen: Mapping[str, _Seen]) -> dict[str, float]:
    """What is recorded of a look."""
    everything = _Seen()
    for own in seen.values():
        everything.add(own)
    found: dict[str, float] = {}
    for name, values in everything.values.items():
        found[name] = _mean(values)
        if name in _INTERVALS:
            found |= _ends(name, values)
    if everything.tokens:
        found["watch_entropy"] = everything.surprise / everything.tokens
    if len(seen) > 1:
        for family, own in seen.items():
            found |= {f"{name}/{family}": _mean(own.values[name]) for name in _BY_FAMILY if name in own.values}
    return found


def _ends(name: str, values: Sequence[float]) -> dict[str, float]:
    import numpy as np

    from innerloop.evaluate.resample import intervals

    (span,) = intervals(np.array(values)[:, None], ranges=[_INTERVALS[name]], resamples=_RESAMPLES)
    return {f"{name}_low": span.low, f"{name}_high": span.high}


def _probed(loaded: LoadedModel, questions: Sequence[Question], given: Sequence[Trajectory]) -> _Seen:
    """Means of `innerloop.inner.summary` over a question's trajectories: gain, start, end, area in nats per answer
    token, share of downward moves."""
    if not given:
        return _Seen()
    from innerloop.inner.probe import probe
    from innerloop.inner.summary import summarise
    from innerloop.verbs.work import probe_item

    by_id = {question.id: question for question in questions}
    items = [probe_item(loaded, by_id[trajectory.question_id], trajectory) for trajectory in given]
    curves = list(probe(loaded, items, every="all"))
    return _Seen(
        values={
            f"watch_{name}": _per_question((curve.question_id, getattr(summarise(curve), name)) for curve in curves)
            for name in ("gain", "start", "end", "area", "downward")
        }
    )


def _sampled(settings: OuterSettings, loaded: LoadedModel, questions: Sequence[Question]) -> _Seen:
    """pass@1, tokens per sample, and −log p per sampled token, which is an estimate of the entropy."""
    if not settings.watch_samples:
        return _Seen()
    from innerloop.evaluate.verify import Attempt, Verifier
    from innerloop.rollout.engine import Sampling
    from innerloop.rollout.sample import plan, sample
    from innerloop.rollout.transformers_engine import TransformersEngine

    sampling = Sampling(
        samples=settings.watch_samples,
        temperature=1.0,
        top_k=0,
        max_tokens=settings.watch_max_tokens,
        seed=settings.seed,
    )
    engine = TransformersEngine(loaded)
    samples = list(sample(engine, loaded, plan(questions, loaded, sampling), sampling))
    by_id = {question.id: question for question in questions}
    with Verifier() as verifier:
        verdicts = verifier.verify(
            [Attempt(question=by_id[s.question_id], text=s.final or "", status=s.status) for s in samples]
        )
    decided = [
        (s.question_id, float(v.outcome is Outcome.RIGHT))
        for s, v in zip(samples, verdicts, strict=True)
        if v.outcome is not Outcome.UNDECIDED
    ]
    return _Seen(
        values={
            "watch_pass@1": _per_question(decided),
            "watch_tokens": _per_question((s.question_id, float(s.tokens)) for s in samples if s.tokens),
            "watch_truncated": _per_question((s.question_id, float(s.status is Status.TRUNCATED)) for s in samples),
        },
        surprise=math.fsum(-s.logprob for s in samples if s.logprob is not None and s.tokens),
        tokens=math.fsum(float(s.tokens) for s in samples if s.tokens and s.logprob is not None),
    )


def _per_question(values: Iterable[tuple[str, float]]) -> list[float]:
    """Each question's mean over its defined values."""
    found: dict[str, list[float]] = {}
    for question, value in values:
        if not math.isnan(value):
            found.setdefault(question, []).append(value)
    return [_mean(own) for own in found.values()]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
