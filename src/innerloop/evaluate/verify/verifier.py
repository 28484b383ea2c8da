"""Judging final answers, whatever the question's kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from innerloop.evaluate.verify import choice, extract, gym, math, none, number, text
from innerloop.evaluate.verify.job import Job, Reply
from innerloop.evaluate.verify.pool import Pool
from innerloop.schema import Outcome, Question, Status, Verdict

Judge = Callable[[Question, str], Verdict | Job]

JUDGES: Mapping[str, Judge] = {
    "math": math.judge,
    "text": text.judge,
    "choice": choice.judge,
    "number": number.judge,
    "none": none.judge,
}
NAMES = (*JUDGES, "gym:FAMILY")

_LONGEST = 20_000  # characters of a final answer; the largest grids and boards have a few thousand


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A text to be judged, with what is known of its making; ``reason`` is that of a failure."""

    question: Question
    text: str
    status: Status = Status.COMPLETE
    reason: str | None = None


class Verifier:
    """Judges texts by their questions' verifiers; use it as a context manager, because it may hold processes.

    ``time_limit`` (seconds per item, hard: a worker that hangs is killed and replaced) and ``memory_limit`` (MiB of
    address space per worker, where the system has such limits) hold for what needs algebra or a scorer; an item that
    exceeds them is undecided, the others are not touched. ``workers`` processes are started when the first such item
    comes (about a second) and are used again; items that need no algebra are judged without any.
    ``delimiters`` are pairs of texts around thinking, which is never searched for answers.
    """

    def __init__(
        self,
        *,
        time_limit: float = 10.0,
        memory_limit: int = 4096,
        workers: int = 1,
        delimiters: Sequence[tuple[str, str]] = extract.DELIMITERS,
    ) -> None:
        for name, value in (("time_limit", time_limit), ("memory_limit", memory_limit), ("workers", workers)):
            if value <= 0:
                raise ValueError(f"{name} is {value}: it must be above 0")
        self.delimiters = tuple(delimiters)
        self._pool = Pool(workers, time_limit, memory_limit)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the worker processes; later items that need one are undecided."""
        self._pool.close()

    def verify(self, items: Sequence[tuple[Question, str] | Attempt]) -> list[Verdict]:
        """One verdict per item, in their order: right, wrong, or undecided with a reason.

        A complete text without a final answer is wrong (``no final answer``), a truncated one too (``truncated before
        a final answer``); an attempt whose engine failed is undecided, as is one whose verifier is ``none`` or unknown.
        """
        attempts = [item if isinstance(item, Attempt) else Attempt(question=item[0], text=item[1]) for item in items]
        first = [self._judge(attempt) for attempt in attempts]
        jobs = [word for word in first if isinstance(word, Job)]
        replies = iter(self._pool.run(jobs) if jobs else ())
        return [_verdict(word, next(replies)) if isinstance(word, Job) else word for word in first]

    def _judge(self, attempt: Attempt) -> Verdict | Job:
        question = attempt.question
        if attempt.status is Status.ERROR:
            return Verdict(outcome=Outcome.UNDECIDED, reason=f"no text: {attempt.reason or 'the engine failed'}")
        name = question.verifier or "math"
        judge: Judge | None = gym.judge if name.startswith(gym.PREFIX) else JUDGES.get(name)
        if judge is None:
            reason = f"no verifier '{name}' here (there are {', '.join(NAMES)})"
            return Verdict(outcome=Outcome.UNDECIDED, reason=reason)
        complete = attempt.status is Status.COMPLETE
        answer = extract.extract_answer(attempt.text, complete=complete, delimiters=self.delimiters)
        if answer is None and complete and judge is text.judge:
            whole = extract.visible(attempt.text, self.delimiters)
            answer = whole if len(whole) <= _LONGEST and text.same(question, whole) else None
        if answer is None and judge is not none.judge:
            reason = "no final answer" if complete else "truncated before a final answer"
            return Verdict(outcome=Outcome.WRONG, reason=reason)
        if answer is not None and len(answer) > _LONGEST:
            return Verdict(outcome=Outcome.WRONG, reason=f"the final answer is longer than {_LONGEST} characters")
        return judge(question, answer or "")


def _verdict(job: Job, reply: Reply) -> Verdict:
    return Verdict(outcome=Outcome(reply["outcome"]), reason=reply.get("reason"), answer=job.answer)
