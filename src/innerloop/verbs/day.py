"""The day that some chat templates write into every prompt: an input of a run, which notes and keeps it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date
from typing import TypeVar

from innerloop.schema import Question, Source, Trajectory
from innerloop.speaker import Speaker
from innerloop.store import Run

log = logging.getLogger("innerloop")

SpeakerT = TypeVar("SpeakerT")  # also one of a server, which renders its template itself


def of_the_day(run: Run, speaker: SpeakerT) -> SpeakerT:
    """The speaker with the day that its template writes: the settings', else that of the run, else today."""
    if not isinstance(speaker, Speaker) or not speaker.writes_date:
        return speaker
    day = speaker.date or run.noted("date") or date.today().isoformat()
    run.note("date", day)
    return replace(speaker, date=day)


def as_dated(stored: Iterable[Question], questions: Sequence[Question]) -> list[Question]:
    """The questions with the day with which a run stored them, where it did and they bring none."""
    known = {question.id: question.prompt_date for question in stored}
    return [replace(question, prompt_date=question.prompt_date or known.get(question.id)) for question in questions]


def dated(questions: Iterable[Question], speaker: object) -> list[Question]:
    """The questions with the day that their prompts are made with, so that others who read the run ask alike."""
    if not isinstance(speaker, Speaker) or not speaker.writes_date:
        return list(questions)
    return [replace(question, prompt_date=question.prompt_date or speaker.date) for question in questions]


def warn_of_unknown_days(speaker: Speaker, questions: dict[str, Question], trajectories: Iterable[Trajectory]) -> None:
    """Says that prompts of samples may have had another day, where nothing tells which."""
    sampled = (t for t in trajectories if t.source is Source.SAMPLE)
    if speaker.writes_date and any(questions[t.question_id].prompt_date is None for t in sampled):
        log.warning(
            "%s writes the day into every prompt, and nothing says on which one the trajectories were sampled: "
            "they are read as on %s; --date gives another day",
            speaker.name,
            speaker.date,
        )
