"""Judging final answers, whatever the question's kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from innerloop.evaluate.verify import cache, choice, code, extract, gym, literal, math, none, number, quantity, text
from innerloop.evaluate.verify.job import Job, Program, Reply
from innerloop.evaluate.verify.pool import Pool
from innerloop.evaluate.verify.sandbox import Choice, Limits
from innerloop.schema import Outcome, Question, Status, Verdict

Judge = Callable[[Question, str], Verdict | Job]

JUDGES: Mapping[str, Judge] = {
    "math": math.judge,
    "text": text.judge,
    "choice": choice.judge,
    "number": number.judge,
    "quantity": quantity.judge,
    "literal": literal.judge,
    "none": none.judge,
}
CODE = "code"  # apart, because it looks for code instead of a final answer
NAMES = (*JUDGES, CODE, "gym:FAMILY")

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

    ``time_limit`` (seconds per item, hard: a worker that hangs is killed and replaced) and ``memory_limit`` (MiB per
    worker, of address space where the system has such limits, and of resident memory) hold for what needs algebra or
    a scorer; an item that exceeds them is undecided, the others are not touched. ``workers`` processes are started when
    the first such item comes (about a second) and are used again; items that need no algebra are judged without any.
    ``delimiters`` are pairs of texts around thinking, which is never searched for answers.

    Code runs in a sandbox under ``code_limits``: bubblewrap's, or, where that cannot be used and ``weaker_sandbox``
    allows it, one of resource limits, namespaces as far as they are granted and an audit hook; otherwise code is
    undecided, with the reason. ``sandbox()`` says which it is. The workers live in the same sandbox where there is one,
    each for many items; without one, what a scorer of reasoning-gym would evaluate is undecided too.

    Replies are kept by content while the verifier lives, and in the file ``cache_file`` where one is named.
    """

    def __init__(
        self,
        *,
        time_limit: float = 10.0,
        memory_limit: int = 4096,
        workers: int = 1,
        delimiters: Sequence[tuple[str, str]] = extract.DELIMITERS,
        code_limits: Limits | None = None,
        weaker_sandbox: bool = False,
        cache_file: Path | None = None,
    ) -> None:
        for name, value in (("time_limit", time_limit), ("memory_limit", memory_limit), ("workers", workers)):
            if value <= 0:
                raise ValueError(f"{name} is {value}: it must be above 0")
        self.delimiters = tuple(delimiters)
        self._programs = code.Programs(workers, code_limits or Limits(), weaker=weaker_sandbox)
        self._pool = Pool(workers, time_limit, memory_limit, self.sandbox)
        self._cache = cache.Cache(cache_file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the worker processes and programs; later items that need one are undecided."""
        self._pool.close()
        self._programs.close()
        self._cache.close()

    def sandbox(self) -> Choice:
        """The sandbox that code would run in here, found by trying; ``describe()`` puts it into a line."""
        return self._programs.chosen()

    @property
    def cached(self) -> int:
        """How many replies were known from equal answers, judged before here or found in the file."""
        return self._cache.hits

    def verify(self, items: Sequence[tuple[Question, str] | Attempt]) -> list[Verdict]:
        """One verdict per item, in their order: right, wrong, or undecided with a reason.

        A complete text without a final answer is wrong (``no final answer``), a truncated one too (``truncated before
        a final answer``); an attempt whose engine failed is undecided, as is one whose verifier is ``none`` or unknown.
        """
        attempts = [item if isinstance(item, Attempt) else Attempt(question=item[0], text=item[1]) for item in items]
        first = [self._judge(attempt) for attempt in attempts]
        work = [word for word in first if not isinstance(word, Verdict)]
        replies = iter(self._work(work))
        return [word if isinstance(word, Verdict) else _verdict(word, next(replies)) for word in first]

    def _work(self, work: Sequence[Job | Program]) -> list[Reply]:
        """The replies in order; what was judged before, or stands there twice, is judged once."""
        keys = [cache.key(item, self._programs.describe()) for item in work]
        known = {key: reply for key in dict.fromkeys(keys) if (reply := self._cache.get(key)) is not None}
        fresh = {key: item for key, item in zip(keys, work, strict=True) if key not in known}
        jobs = {key: item for key, item in fresh.items() if isinstance(item, Job)}
        programs = {key: item for key, item in fresh.items() if isinstance(item, Program)}
        made: dict[str, Reply] = {}
        if jobs:
            made |= zip(jobs, self._pool.run(list(jobs.values())), strict=True)
        if programs:
            made |= zip(programs, self._programs.run(list(programs.values())), strict=True)
        self._cache.put(made)
        return [known[key] if key in known else made[key] for key in keys]

    def _judge(self, attempt: Attempt) -> Verdict | Job | Program:
        question = attempt.question
        if attempt.status is Status.ERROR:
            return Verdict(outcome=Outcome.UNDECIDED, reason=f"no text: {attempt.reason or 'the engine failed'}")
        name = question.verifier or "math"
        complete = attempt.status is Status.COMPLETE
        if name == CODE:
            shown = extract.visible(attempt.text, self.delimiters, strip="\n")
            if len(shown) > _LONGEST:
                return _too_long()
            return code.judge(question, shown, complete=complete)
        judge: Judge | None = gym.judge if name.startswith(gym.PREFIX) else JUDGES.get(name)
        if judge is None:
            reason = f"no verifier '{name[:40]}' here (there are {', '.join(NAMES)})"
            return Verdict(outcome=Outcome.UNDECIDED, reason=reason)
        answer = literal.final(extract.searched(attempt.text, self.delimiters)) if judge is literal.judge else None
        if answer is None:
            final = extract.final(attempt.text, complete=complete, delimiters=self.delimiters)
            answer = final.answer if final is not None else None
            if judge is text.judge and (final is not None or complete):
                whole = final.sentence if final is not None else extract.visible(attempt.text, self.delimiters)
                if whole is not None and len(whole) <= _LONGEST and text.same(question, whole):
                    answer = whole
        if answer is None and judge is not none.judge:
            reason = "no final answer" if complete else "truncated before a final answer"
            return Verdict(outcome=Outcome.WRONG, reason=reason)
        if answer is not None and len(answer) > _LONGEST:
            return _too_long()
        return judge(question, answer or "")


def _too_long() -> Verdict:
    return Verdict(outcome=Outcome.WRONG, reason=f"the final answer is longer than {_LONGEST} characters")


def _verdict(work: Job | Program, reply: Reply) -> Verdict:
    return Verdict(outcome=Outcome(reply["outcome"]), reason=reply.get("reason"), answer=work.answer)
