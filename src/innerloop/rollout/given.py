"""Trajectories that were not sampled here: worked solutions, a file's, another run's."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from innerloop.errors import InputError
from innerloop.nearest import nearest
from innerloop.questions import files
from innerloop.questions.rows import MOST, check_row, missing, scalar_text, shown, text_in
from innerloop.rollout.oracle import ORACLE, from_oracle, is_oracle
from innerloop.schema import Mode, Outcome, Question, Source, Status, Trajectory
from innerloop.store import Run

log = logging.getLogger("innerloop.rollout")

SOLUTIONS = "solutions"
SAMPLE = "sample"
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


def is_sample(source: str) -> bool:
    """Whether a source of trajectories stands for sampling them first, which the training recipes do."""
    return source.partition("?")[0] == SAMPLE


def is_file(source: str) -> bool:
    """Whether a source of trajectories is a file: neither ``solutions``, nor an oracle, nor a folder."""
    return source != SOLUTIONS and not is_oracle(source) and not Path(source).is_dir()


def given(
    source: str, questions: Sequence[Question], *, known: Collection[str] = (), seed: int = 0
) -> list[Trajectory]:
    """The trajectories of a source for these questions.

    ``source`` is ``solutions`` (the questions' own worked solutions, right by definition), ``oracle`` with parameters
    (`innerloop.rollout.oracle`, drawn from ``seed``), a file (.jsonl, .json, .csv, .parquet), or the folder of another
    run. A file's columns are ``question_id, text`` and optionally ``correct,
    answer, model, final, mode, sample, id``; ``mode`` (plain where it is missing) is the kind of prompt that the text
    followed. ``known`` holds the ids of questions that exist but are not among ``questions`` (a limit left them out);
    trajectories for them are left out too. ``InputError`` says what is wrong with a source.
    """
    if source == SOLUTIONS:
        return solutions(questions)
    if is_oracle(source):
        return from_oracle(source, questions, seed=seed)
    path = Path(source)
    if path.is_dir():
        return from_run(path, questions)
    if is_sample(source):
        raise InputError(f"trajectories '{source}': only train sft and train dpo sample first; give a rollout's folder")
    if not path.exists() and path.suffix.lower() not in files.READERS:
        folder = path.parent.iterdir() if path.parent.is_dir() else ()
        siblings = [SOLUTIONS, ORACLE, *(entry.name for entry in folder)]
        raise InputError(
            f"trajectories '{source}': no such file or run folder; "
            f"give '{SOLUTIONS}', '{ORACLE}', a file ({', '.join(files.READERS)}) or a run folder"
            f"{nearest(path.name, siblings)}"
        )
    return from_file(path, questions, known=known)


def solutions(questions: Sequence[Question]) -> list[Trajectory]:
    """The worked solutions, ``QUESTION/solution``; questions without one are skipped and counted in the log."""
    found = [
        Trajectory(
            id=f"{question.id}/solution",
            question_id=question.id,
            text=question.solution,
            source=Source.SOLUTION,
            answer=question.answer,
            outcome=Outcome.RIGHT,
        )
        for question in questions
        if question.solution and question.solution.strip()
    ]
    if not found:
        raise InputError(
            f"none of the {len(questions)} questions has a worked solution: give --trajectories a file or a run "
            "folder, or sample with the rollout command"
        )
    if len(found) < len(questions):
        log.info(
            "%d of %d questions have no worked solution and are skipped", len(questions) - len(found), len(questions)
        )
    return found


def from_file(
    path: Path, questions: Sequence[Question] | None, *, known: Collection[str] = (), text_needed: bool = True
) -> list[Trajectory]:
    """The trajectories of a file, in its order; a row without an id is ``QUESTION/file-K``, its question's K-th.

    ``questions`` None takes the rows of all questions. Without ``text_needed`` a row may be a verdict alone.
    """
    selected = {question.id for question in questions or ()}
    counts: dict[str, int] = {}
    places: dict[str, str] = {}
    unknown: dict[str, str] = {}  # question id: where it was met first
    strays = total = 0
    found = []
    for where, row in files.rows(path):
        check_row(row, where)
        total += 1
        if total > MOST:
            raise InputError(f"{where}: more than {MOST:,} trajectories; take the others in a run of their own")
        question_id = _required(row, "question_id", where)
        number = counts[question_id] = counts.get(question_id, -1) + 1
        trajectory = _from_row(row, where, question_id, number, text_needed=text_needed)
        if trajectory.id in places:
            raise InputError(
                f"{where}: the id '{trajectory.id}' is already that of {places[trajectory.id]}; "
                "give each row its own id, or none"
            )
        places[trajectory.id] = where
        if questions is None or question_id in selected:
            found.append(trajectory)
        elif question_id not in known:
            unknown.setdefault(question_id, where)
            strays += 1
    if unknown:
        name, where = next(iter(unknown.items()))
        raise InputError(
            f"{where}: there is no question '{name}' ({strays} of {total} rows belong to {len(unknown)} unknown "
            f"questions; ids are like '{min(selected, default='')}'); take these rows out, or add the questions"
        )
    if not found:
        raise InputError(
            f"{path}: none of its {total} trajectories is for one of the {len(selected)} questions; "
            "check that the ids are the same in both files, or raise the limit"
        )
    return found


def from_run(path: Path, questions: Sequence[Question]) -> list[Trajectory]:
    """The trajectories of another run for these questions; its controls and failed ones are left out."""
    selected = {question.id for question in questions}
    held = Run.open(path).trajectories()
    found = [t for t in held if t.question_id in selected and not t.source.is_control and t.status is not Status.ERROR]
    if not found:
        raise InputError(
            f"{path}: none of its {len(held)} trajectories is for one of the {len(selected)} questions; "
            "give the questions that the run was made with"
        )
    if len(found) < len(held):
        log.info("%s: %d of %d trajectories are used", path, len(found), len(held))
    return found


def _from_row(
    row: Mapping[str, Any], where: str, question_id: str, number: int, *, text_needed: bool = True
) -> Trajectory:
    correct = _correct(row.get("correct"), where)
    return Trajectory(
        id=_optional(row, "id", where) or f"{question_id}/file-{number}",
        question_id=question_id,
        text=_required(row, "text", where) if text_needed else text_in(row, "text", where) or "",
        source=Source.FILE,
        mode=_mode(row, where),
        sample=_sample(row.get("sample"), number, where),
        model=_optional(row, "model", where),
        final=_optional(row, "final", where),
        answer=_optional(row, "answer", where),
        tokens=_tokens(row.get("tokens"), where),
        outcome=None if correct is None else Outcome.RIGHT if correct else Outcome.WRONG,
    )


def _required(row: Mapping[str, Any], name: str, where: str) -> str:
    text = text_in(row, name, where)
    if text is None:
        others = [field for field in row if isinstance(field, str)]
        raise InputError(f"{where}: no {name}; every row needs a question_id and a text{nearest(name, others)}")
    if not text.strip():
        raise InputError(f"{where}: the {name} is empty; fill it in or take the row out")
    return text


def _optional(row: Mapping[str, Any], name: str, where: str) -> str | None:
    return text_in(row, name, where) or None


def _mode(row: Mapping[str, Any], where: str) -> Mode:
    text = _optional(row, "mode", where)
    if text is not None and text not in list(Mode):
        raise InputError(f"{where}: mode is '{text[:40]}'; write {', '.join(Mode)}, or leave it out for plain")
    return Mode(text) if text else Mode.PLAIN


def _correct(value: Any, where: str) -> bool | None:
    if missing(value) or value == "":
        return None
    truth = _TRUTH.get(shown(value).strip().lower().removesuffix(".0"))
    if truth is None:
        raise InputError(f"{where}: correct is {shown(value)!r}; write true or false, or leave it out where unknown")
    return truth


def _tokens(value: Any, where: str) -> int | None:
    return None if missing(value) or value == "" else _count(value, "tokens", where, "the number of tokens")


def _sample(value: Any, number: int, where: str) -> int:
    if missing(value) or value == "":
        return number
    return _count(value, "sample", where, "the sample's number from 0 up")


def _count(value: Any, name: str, where: str, what: str) -> int:
    text = scalar_text(value) or ""
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < 2**31):
        raise InputError(f"{where}: {name} is {shown(value)!r}; write {what}, or leave it out")
    return int(text)
