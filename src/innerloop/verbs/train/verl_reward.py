"""The reward of `innerloop train grpo` as verl calls it: a text and what the exported row says of its question.

verl hands on no tokens, so a rollout counts as ended when it has its form: one that is cut off after its answer has the
right form `box` here and not in `innerloop train grpo`.
"""

from __future__ import annotations

import atexit
import json
import math
import threading
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from innerloop.evaluate.verify import DELIMITERS, Attempt, Verifier
from innerloop.outer.forms import Form
from innerloop.outer.rewards import REWARDS, Rollout
from innerloop.schema import Outcome, Question

EXPORTED = ("raml", "right")  # the rewards that need no count of tokens


class VerlReward:
    """Rewards one text at a time, from several threads.

    ``thinking`` are the model's delimiters, ``form`` is what a rollout should have, and ``opened`` says that the prompt
    ends inside the thinking.
    """

    def __init__(self, reward: str, thinking: tuple[str, str], form: str = "box", opened: bool = False) -> None:
        self._reward = REWARDS[reward]
        self._form = Form(name=form, thinking=thinking, opened=opened)
        self._verifier: Verifier | None = None
        self._one_at_a_time = threading.Lock()

    def __call__(self, solution_str: str, ground_truth: str, extra_info: Mapping[str, Any]) -> dict[str, float]:
        """``score`` (NaN where nobody can judge), and whether answer and form are right."""
        question = as_question(ground_truth, extra_info)
        with self._one_at_a_time:
            if self._verifier is None:  # in the process that judges, not in the one that imports
                self._verifier = Verifier(delimiters=(*DELIMITERS, self._form.thinking))
                atexit.register(self._verifier.close)
            (verdict,) = self._verifier.verify([Attempt(question=question, text=self._form.whole(solution_str))])
        right = None if verdict.outcome is Outcome.UNDECIDED else verdict.outcome is Outcome.RIGHT
        form = self._form(solution_str)
        score = self._reward(Rollout(right=right, form=form, share=0.0))
        return {
            "score": math.nan if score is None else score,
            "right": math.nan if right is None else float(right),
            "form": float(form),
        }


def question_text(question: Question) -> str:
    """What the verifier needs of a question, beside its answer, as text for a Parquet column."""
    kept = {name: value for name, value in asdict(question).items() if name not in ("answer", "solution")}
    return json.dumps(kept, ensure_ascii=False)


def as_question(answer: str, extra_info: Mapping[str, Any]) -> Question:
    """The question of an exported row."""
    kept = json.loads(extra_info["innerloop"])
    return Question(**(kept | {"answer": answer, "candidates": tuple(kept["candidates"])}))
