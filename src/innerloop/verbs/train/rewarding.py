"""The reward of a training run: rollouts judged by the questions' verifiers."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from innerloop.outer.audit import Case, audit, cases
from innerloop.outer.forms import Form
from innerloop.outer.rewards import Reward, Rollout
from innerloop.schema import Outcome, Question, Status

if TYPE_CHECKING:
    from innerloop.evaluate.verify import Verifier
    from innerloop.speaker import Speaker

log = logging.getLogger("innerloop")

_AUDITED = 4  # questions


class Rewarding:
    """Rewards completions as TRL asks for it; ``stops`` are the tokens that end one, ``form`` what it should be."""

    __name__ = "reward"  # TRL names its metrics after it

    def __init__(
        self,
        reward: Reward,
        verifier: Verifier,
        speaker: Speaker,
        questions: Mapping[str, Question],
        *,
        form: Form,
        stops: frozenset[int],
        limit: int,
    ) -> None:
        self._reward = reward
        self._verifier = verifier
        self._speaker = speaker
        self._questions = questions
        self._form = form
        self._stops = stops
        self._limit = limit

    def __call__(
        self,
        *,
        completion_ids: Sequence[Sequence[int]],
        question_id: Sequence[str],
        log_metric: Callable[[str, float], None] | None = None,
        **_: Any,
    ) -> list[float | None]:
        """One reward per completion, None where it cannot be judged."""
        complete = [bool(ids) and ids[-1] in self._stops for ids in completion_ids]
        texts = [
            self._speaker.decode(ids[:-1] if ended else ids)
            for ids, ended in zip(completion_ids, complete, strict=True)
        ]
        rollouts = self._judged(question_id, texts, complete, [len(ids) for ids in completion_ids])
        if log_metric is not None:
            known = [rollout.right for rollout in rollouts if rollout.right is not None]
            log_metric("right", math.fsum(known) / max(len(known), 1))
            log_metric("form", math.fsum(rollout.form for rollout in rollouts) / len(rollouts))
        return [self._reward(rollout) for rollout in rollouts]

    def audit(self, questions: Sequence[Question]) -> dict[str, float]:
        """The mean rewards of made-up rollouts of the first questions; `InputError` where right does not earn most."""
        made: list[Case] = []
        box = Form(name="box", thinking=self._form.thinking, opened=self._form.opened)
        known = self._form.example("Step by step.", "1", self._speaker.suffix) is not None
        if not known:
            log.warning("no made-up rollout has the form %r, so the audit takes it for given", self._form.name)

        def asked(reasoning: str, answer: str) -> str:
            text = (self._form if known else box).example(reasoning, answer, self._speaker.suffix)
            return text or f"{reasoning}{self._speaker.suffix}{answer}"

        for i, question in enumerate(questions[:_AUDITED]):
            others = [other.answer for other in questions if other.answer != question.answer]
            wrong = others[i % len(others)] if others else f"{question.answer}1"
            text = question.solution or "Let us see. There are two steps to it."
            unfinished = self._unfinished(text, question.answer)
            made += cases(question.id, asked(text, question.answer), asked(text, wrong), text, unfinished)

        def earned(found: Sequence[Case]) -> list[float | None]:
            ids = [case.question_id for case in found]
            lengths = [len(self._speaker.encode(case.text)) for case in found]
            texts, complete = [case.text for case in found], [case.complete for case in found]
            judged = self._judged(ids, texts, complete, lengths, self._form if known else box)
            return [self._reward(rollout) for rollout in judged]

        return audit(made, earned)

    def _unfinished(self, reasoning: str, answer: str) -> str:
        """A rollout that ends inside its thinking, with the answer in a box."""
        opening = "" if self._form.opened else f"{self._form.thinking[0]}\n"
        return f"{opening}{reasoning} So it is \\boxed{{{answer}}}"

    def _judged(
        self,
        ids: Sequence[str],
        texts: Sequence[str],
        complete: Sequence[bool],
        lengths: Sequence[int],
        form: Form | None = None,
    ) -> list[Rollout]:
        from innerloop.evaluate.verify import Attempt

        form = form or self._form

        attempts = []
        for name, text, ended in zip(ids, texts, complete, strict=True):
            status = Status.COMPLETE if ended else Status.TRUNCATED
            attempts.append(Attempt(question=self._questions[name], text=form.whole(text), status=status))
        verdicts = self._verifier.verify(attempts)
        return [
            Rollout(
                right=None if verdict.outcome is Outcome.UNDECIDED else verdict.outcome is Outcome.RIGHT,
                form=ended and form(text),
                share=min(1.0, length / self._limit),
            )
            for verdict, text, ended, length in zip(verdicts, texts, complete, lengths, strict=True)
        ]
