"""Which trajectories a probe run is about: given ones, those of other runs, and controls made from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.errors import InputError
from innerloop.schema import Outcome, Question, Source, Status, Trajectory, Verdict, asked_as
from innerloop.store import Run

if TYPE_CHECKING:
    from innerloop.evaluate.verify import Verifier
    from innerloop.speaker import Speaker


def is_run(source: str) -> bool:
    """Whether a source of trajectories is a folder."""
    return Path(source).is_dir()


def gather(
    questions_source: str | Sequence[str] | None,
    sources: Sequence[str],
    *,
    limit: int | None,
    seed: int,
    draw: bool = False,
    clean: Sequence[str] = (),
) -> tuple[list[Question], list[Trajectory]]:
    """The questions (``limit``, ``draw`` and ``clean`` as `innerloop.questions.load` has them), and their trajectories
    from every source, controls left out.

    Raises `InputError` where there is nothing, where a trajectory belongs to no question, and where two sources have
    different trajectories under one id.
    """
    from innerloop.rollout.given import given, is_file

    asked = [questions_source] if isinstance(questions_source, str) else list(questions_source or ())
    questions = _questions(asked, sources, limit=limit, seed=seed, draw=draw, clean=clean)
    known: set[str] = set()
    if (limit is not None or clean) and any(map(is_file, sources)):
        # A file's trajectory for a question that is not taken is left out; only one for no question is an error.
        known = {question.id for question in _questions(asked, sources, limit=None, seed=seed, draw=False, clean=())}
    found: dict[str, Trajectory] = {}
    for source in sources:
        for trajectory in given(source, questions, known=known, seed=seed):
            if _content(found.setdefault(trajectory.id, trajectory)) != _content(trajectory):
                raise InputError(
                    f"{source}: trajectory {trajectory.id!r} is also in another source, with another text; "
                    f"give its rows ids of their own or probe the two into different folders"
                )
    return questions, list(found.values())


def _questions(asked: Sequence[str], sources: Sequence[str], **which: Any) -> list[Question]:
    if asked:
        from innerloop.questions import load_all

        return _as_asked(load_all(asked, **which), sources)
    run = next((entry for entry in sources if is_run(entry)), None)
    if run is None:
        raise InputError("--questions is missing: only a RUN folder among --trajectories brings its own questions")
    from innerloop.questions.choosing import chosen

    return _as_asked(chosen(Run.open(run).questions(), **which, source=run), sources)


def _as_asked(questions: list[Question], sources: Sequence[str]) -> list[Question]:
    """The questions in the prompts in which the runs among the sources put them.

    `InputError` where two runs asked the same question in different ways: their trajectories follow different prompts.
    """
    asked: dict[str, tuple[Question, str]] = {}
    for source in filter(is_run, sources):
        for question in Run.open(source).questions():
            before, first = asked.setdefault(question.id, (question, source))
            if asked_as(before, question) != before:
                raise InputError(
                    f"{source}: question {question.id!r} was put in another prompt than in {first}; give one of the two"
                )
    return [asked_as(question, asked[question.id][0]) if question.id in asked else question for question in questions]


def _content(trajectory: Trajectory) -> tuple[object, ...]:
    """What makes two trajectories the same one, whatever has been found out about them since."""
    return trajectory.question_id, trajectory.text, trajectory.final, trajectory.mode, trajectory.source


def as_stored(run: Run, trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    """The trajectories as the folder holds them (judged), where it does.

    Raises `InputError` when it holds another trajectory under the same id.
    """
    stored = {trajectory.id: trajectory for trajectory in run.trajectories()}
    for trajectory in trajectories:
        if _content(stored.get(trajectory.id, trajectory)) != _content(trajectory):
            raise InputError(
                f"{run.path}: trajectory {trajectory.id!r} is not the same as when this run began; "
                f"restore the source or choose another --out"
            )
    return [stored.get(trajectory.id, trajectory) for trajectory in trajectories]


def judged(
    trajectories: Sequence[Trajectory], questions: Iterable[Question], verifier: Verifier | None = None
) -> list[Trajectory]:
    """The trajectories with a verdict on their final answer, where they carry none and there is something to judge.

    ``verifier`` is used where given, else one is made for the call.
    """
    open_cases = [
        trajectory
        for trajectory in trajectories
        if unjudged(trajectory) and trajectory.status is not Status.ERROR and not trajectory.source.is_control
    ]
    if not open_cases:
        return list(trajectories)
    from innerloop.evaluate.verify import Attempt, Verifier

    by_id = {question.id: question for question in questions}
    attempts = [Attempt(question=by_id[case.question_id], text=shown(case), status=case.status) for case in open_cases]
    with nullcontext(verifier) if verifier is not None else Verifier() as judge:
        verdicts = judge.verify(attempts)
    decided = {case.id: _with_verdict(case, verdict) for case, verdict in zip(open_cases, verdicts, strict=True)}
    return [decided.get(trajectory.id, trajectory) for trajectory in trajectories]


def right_ones(trajectories: Sequence[Trajectory], questions: Iterable[Question]) -> tuple[list[Trajectory], int]:
    """Those that lead to the right answer, judged where they carry no verdict, and how many others there are.

    A question's own worked solution counts as right: many state no final answer to judge.
    """
    verdicts = judged(trajectories, questions)
    kept = [t for t in verdicts if t.outcome is Outcome.RIGHT or t.source is Source.SOLUTION]
    return kept, len(verdicts) - len(kept)


def unjudged(trajectory: Trajectory) -> bool:
    """Whether there is no verdict yet, or none for a reason that says nothing about the answer."""
    from innerloop.evaluate.verify.job import CLOSED, NOT_RUN, NOT_SCORED, SANDBOX, WORKER

    if trajectory.outcome is Outcome.UNDECIDED:
        return (trajectory.outcome_reason or "").startswith((NOT_RUN, NOT_SCORED, WORKER, CLOSED, SANDBOX))
    return trajectory.outcome is None


def shown(trajectory: Trajectory) -> str:
    """What is judged. A sample's final part, nothing while its thinking never ended; else what the row says."""
    if trajectory.source is Source.SAMPLE:
        return trajectory.final or ""
    if trajectory.answer is not None:
        return f"\\boxed{{{trajectory.answer}}}"
    return trajectory.text if trajectory.final is None else trajectory.final


def _with_verdict(trajectory: Trajectory, verdict: Verdict) -> Trajectory:
    """Given text without a final answer may well be meant so: it is undecided, where a sample would be wrong."""
    outcome = verdict.outcome
    if trajectory.source is not Source.SAMPLE and outcome is Outcome.WRONG and verdict.answer is None:
        outcome = Outcome.UNDECIDED
    return replace(
        trajectory, outcome=outcome, outcome_reason=verdict.reason, answer=trajectory.answer or verdict.answer
    )


def make_controls(
    kinds: Sequence[str],
    trajectories: Sequence[Trajectory],
    questions: Sequence[Question],
    speaker: Speaker,
    seed: int,
) -> list[Trajectory]:
    """Controls of each kind for the trajectories."""
    from innerloop.rollout import controls

    made: list[Trajectory] = []
    if Source.OTHER_QUESTION in kinds:
        made += controls.other_question(trajectories, questions, seed=seed)
    if Source.SHUFFLED in kinds:
        made += controls.shuffled(trajectories, speaker.encode, speaker.decode, seed=seed)
    if Source.FILLER in kinds:
        made += controls.filler(trajectories, speaker.encode, speaker.decode)
    identity = speaker.tokenizer_identity
    return [replace(control, tokenizer=identity) if control.token_ids else control for control in made]


def rivals(trajectories: Sequence[Trajectory], question: Question) -> tuple[str, ...]:
    """Other final answers to the question, each once: those of trajectories that were not judged right."""
    found = dict.fromkeys(
        trajectory.answer.strip()
        for trajectory in trajectories
        if trajectory.question_id == question.id
        and trajectory.answer is not None
        and trajectory.outcome is not Outcome.RIGHT
        and not trajectory.source.is_control
    )
    return tuple(answer for answer in found if answer and answer != question.answer.strip())
