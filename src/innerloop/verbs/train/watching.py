"""Looking at held-out questions during a training: what trajectories do to the answer loss, and what is answered."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from innerloop.schema import Outcome, Question, Status, Trajectory
from innerloop.verbs.train.settings import OuterSettings

if TYPE_CHECKING:
    from innerloop.models import LoadedModel


def watcher(settings: OuterSettings, loaded: LoadedModel) -> Callable[[], dict[str, float]] | None:
    """A measurement of the model as it is when it is called; None where nothing is to be watched."""
    if settings.watch is None:
        return None
    from innerloop.verbs.trajectories import gather

    questions, given = (
        gather(
            settings.watch,
            settings.watch_trajectories,
            limit=settings.watch_limit,
            seed=settings.seed,
        )
        if settings.watch_trajectories
        else (_questions(settings), [])
    )
    questions = settings.worded(questions)

    def measure() -> dict[str, float]:
        loaded.model.eval()
        try:
            return _probed(loaded, questions, given) | _sampled(settings, loaded, questions)
        finally:
            loaded.model.train()

    return measure


def _questions(settings: OuterSettings) -> list[Question]:
    from innerloop.questions import load

    assert settings.watch is not None
    return load(settings.watch, limit=settings.watch_limit, seed=settings.seed)


def _probed(loaded: LoadedModel, questions: Sequence[Question], given: Sequence[Trajectory]) -> dict[str, float]:
    """Means of `innerloop.inner.summary` over the trajectories: gain, area and end in nats per answer token."""
    if not given:
        return {}
    from innerloop.inner.probe import ProbeItem, probe
    from innerloop.inner.summary import summarise

    by_id = {question.id: question for question in questions}
    items = [
        ProbeItem(
            trajectory_id=trajectory.id,
            question_id=trajectory.question_id,
            prompt=tuple(loaded.prompt(by_id[trajectory.question_id], mode=trajectory.mode)),
            trajectory=tuple(loaded.encode(trajectory.text)),
            answer=by_id[trajectory.question_id].answer,
        )
        for trajectory in given
    ]
    found = [summarise(curve) for curve in probe(loaded, items, every="all")]
    return {
        f"watch_{name}": _mean([getattr(entry, name) for entry in found])
        for name in ("gain", "start", "end", "area", "downward")
    }


def _sampled(settings: OuterSettings, loaded: LoadedModel, questions: Sequence[Question]) -> dict[str, float]:
    """pass@1, tokens per sample, and −log p per sampled token, which is an estimate of the entropy."""
    if not settings.watch_samples:
        return {}
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
    decided = [float(v.outcome is Outcome.RIGHT) for v in verdicts if v.outcome is not Outcome.UNDECIDED]
    tokens = [float(s.tokens) for s in samples if s.tokens]
    logprobs = [-s.logprob for s in samples if s.logprob is not None and s.tokens]
    return {
        "watch_pass@1": _mean(decided),
        "watch_tokens": _mean(tokens),
        "watch_truncated": _mean([float(s.status is Status.TRUNCATED) for s in samples]),
        "watch_entropy": math.fsum(logprobs) / math.fsum(tokens) if tokens else math.nan,
    }


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan
