"""From judged samples to `Score` records: counts, votes and losses per question."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from innerloop import plain_json
from innerloop.evaluate.verify.votes import question_key
from innerloop.ids import joined
from innerloop.schema import Curve, Outcome, Question, Score, Status, Trajectory

_CLUSTERS = ("cluster", "template", "template_id")
_BENCHMARKS = ("benchmark", "source")
OURS = ", our verdicts"  # how ``eval --verdicts compare`` names the series of verdicts made anew


def tally(
    series: str,
    trajectories: Iterable[Trajectory],
    questions: Mapping[str, Question],
    *,
    benchmarks: Mapping[str, str] | None = None,
    curves: Iterable[Curve] = (),
) -> list[Score]:
    """One score per question, in the order of ``questions``; controls are left out.

    ``questions`` may lack some (verdicts can be counted without them): they come last, by id. The order in which
    samples finished does not show, for resampled intervals depend on that of the scores. ``benchmarks`` names each
    question's.
    """
    losses = {curve.trajectory_id: float(curve.loss[-1]) for curve in curves if curve.loss}
    samples: dict[str, list[Trajectory]] = {}
    for trajectory in trajectories:
        if not trajectory.source.is_control:
            samples.setdefault(trajectory.question_id, []).append(trajectory)
    place = {name: i for i, name in enumerate(questions)}
    return [
        _score(series, name, samples[name], questions.get(name), (benchmarks or {}).get(name), losses)
        for name in sorted(samples, key=lambda name: (place.get(name, len(place)), name))
    ]


def _score(
    series: str,
    question_id: str,
    samples: Sequence[Trajectory],
    question: Question | None,
    benchmark: str | None,
    losses: Mapping[str, float],
) -> Score:
    outcomes = [sample.outcome for sample in samples]
    right, wrong = outcomes.count(Outcome.RIGHT), outcomes.count(Outcome.WRONG)
    votes: dict[str, list[int]] = {}
    silent = [sample for sample in samples if not (sample.answer or "").strip()]
    for sample in samples:
        if sample.answer and sample.answer.strip():
            votes.setdefault(question_key(sample.answer, question), [0, 0, 0])[_place(sample.outcome)] += 1
    tokens = [sample.tokens for sample in samples if sample.tokens is not None]
    probed = [sample for sample in samples if sample.id in losses and _place(sample.outcome) < 2]
    metadata = _metadata(question)
    return Score(
        id=joined(series, question_id, "|"),
        series=series,
        question_id=question_id,
        benchmark=next((str(metadata[name]) for name in _BENCHMARKS if metadata.get(name)), benchmark),
        domain=question.domain if question else None,
        level=question.level if question else None,
        cluster=cluster(question) if question else None,
        right=right,
        wrong=wrong,
        undecided=len(samples) - right - wrong,
        failed=sum(sample.status is Status.ERROR for sample in samples),
        truncated=sum(sample.status is Status.TRUNCATED for sample in samples),
        tokens=sum(tokens) / len(tokens) if tokens else None,
        votes_right=tuple(counts[0] for counts in votes.values()),
        votes_wrong=tuple(counts[1] for counts in votes.values()),
        votes_undecided=tuple(counts[2] for counts in votes.values()),
        abstained=len(silent),
        abstained_undecided=sum(_place(sample.outcome) == 2 for sample in silent),
        losses=tuple(losses[sample.id] for sample in probed),
        loss_values=tuple(float(sample.outcome is Outcome.RIGHT) for sample in probed),
    )


def _place(outcome: Outcome | None) -> int:
    return {Outcome.RIGHT: 0, Outcome.WRONG: 1}.get(outcome or Outcome.UNDECIDED, 2)


def cluster(question: Question) -> str | None:
    """What questions from one template share, or None: the row's ``cluster`` or ``template``; in gsm_symbolic of
    reasoning-gym the names of the template's variables."""
    metadata = _metadata(question)
    given = next((str(metadata[name]) for name in _CLUSTERS if metadata.get(name) is not None), None)
    if given is None and metadata.get("family") == "gsm_symbolic":
        entry = metadata.get("entry")
        inner = entry.get("metadata") if isinstance(entry, dict) else None
        variables = inner.get("variables") if isinstance(inner, dict) else None
        given = ",".join(sorted(variables)) if isinstance(variables, dict) else None
    return given


def _metadata(question: Question | None) -> dict[str, Any]:
    return plain_json.mapping(question.metadata if question else None)
