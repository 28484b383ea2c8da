"""The table of questions of an evaluation: counts per series, the majority's answer, and which samples to open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from innerloop.evaluate.verify.votes import question_key
from innerloop.report.evaluated import Evaluated
from innerloop.report.view import View
from innerloop.schema import Outcome, Question, Trajectory

ANSWER_LENGTH = 80  # characters of an answer in the table


def questions_block(view: View, found: Evaluated) -> dict[str, Any]:
    """``questions``: one row each.

    A row holds, per series, ``counts`` [right, wrong, undecided, truncated, failed] (None where the series lacks the
    question), ``samples`` (numbers of rows in ``data-index``, whose blocks hold the texts) and ``majority``.
    """
    members = _members(view, found)
    names = list(found.series)
    own = {name: found.base(name) for name in names}
    by_question = {name: {score.question_id: score for score in scores} for name, scores in found.series.items()}
    known = {question.id: question for question in view.questions}
    ids = dict.fromkeys(score.question_id for scores in found.series.values() for score in scores)
    rows = []
    for question_id in ids:
        scores = [by_question[name].get(question_id) for name in names]
        first = next(score for score in scores if score is not None)
        samples = [members.get((own[name], question_id), []) for name in names]
        question = known.get(question_id)
        rows.append(
            {
                "id": question_id,
                "question": question.question if question else "",
                "answer": question.answer if question else None,
                **{name: getattr(first, name) for name in ("benchmark", "domain", "level")},
                "counts": [
                    None if s is None else [s.right, s.wrong, s.undecided, s.truncated, s.failed] for s in scores
                ],
                "samples": samples,
                "majority": [_majority([view.entries[i].trajectory for i in numbers], question) for numbers in samples],
            }
        )
    return {"questions": rows}


def _members(view: View, found: Evaluated) -> dict[tuple[str, str], list[int]]:
    """Entry numbers by series and question, in the order in which the samples were drawn."""
    members: dict[tuple[str, str], list[int]] = {}
    for i, entry in enumerate(view.entries):
        series = found.series_of(entry.trajectory)
        if series is not None:
            members.setdefault((series, entry.trajectory.question_id), []).append(i)
    for numbers in members.values():
        numbers.sort(key=lambda i: (view.entries[i].trajectory.sample is None, view.entries[i].trajectory.sample or 0))
    return members


def _majority(samples: Sequence[Trajectory], question: Question | None) -> dict[str, Any] | None:
    """The most frequent answer: as first written, how many gave it, how many others tie, and its verdict.

    Equal answers are one, as in maj@k. None where no sample gave one.
    """
    votes: dict[str, list[Trajectory]] = {}
    for sample in samples:
        if sample.answer and sample.answer.strip():
            votes.setdefault(question_key(sample.answer, question), []).append(sample)
    if not votes:
        return None
    most = max(map(len, votes.values()))
    tied = [own for own in votes.values() if len(own) == most]
    outcomes = {sample.outcome for sample in tied[0]}
    answer = (tied[0][0].answer or "").strip()
    return {
        "answer": answer if len(answer) <= ANSWER_LENGTH else f"{answer[:ANSWER_LENGTH]}…",
        "votes": most,
        "tied": len(tied) - 1,
        "outcome": outcomes.pop() if len(outcomes) == 1 and outcomes & set(Outcome) else None,
    }


def disagreements(view: View, found: Evaluated) -> list[dict[str, Any]]:
    """The samples whose recorded verdict is not ours; ``sample`` is the entry's number, None where it is lost."""
    number = {entry.trajectory.id: i for i, entry in enumerate(view.entries)}
    names = list(found.series)
    return [
        {
            "series": names.index(entry.series) if entry.series in names else None,
            "question": entry.question_id,
            "sample_id": entry.trajectory_id,
            "sample": number.get(
                found.sample_id(entry.series, entry.trajectory_id),
                number.get(f"{entry.series}/{entry.trajectory_id}", number.get(entry.trajectory_id)),
            ),
            **{name: getattr(entry, name) for name in ("answer", "reference", "recorded", "verdict", "reason")},
        }
        for entry in found.disagreements
    ]
