"""Answer extraction and judging, over any text and any kind of question, as far as they run in this process.

The first bytes choose the question's kind, whether the text was cut off, and how much of the input is the reference.
"""

from __future__ import annotations

import time

from innerloop.boxed import boxes, last_boxed
from innerloop.evaluate.verify import extract, job, literal, number, quantity, values, verifier, votes
from innerloop.evaluate.verify.plain import folded, plain
from innerloop.evaluate.verify.verifier import JUDGES, Attempt, Verifier
from innerloop.rollout.sample import before_box
from innerloop.schema import Outcome, Question, Status, Verdict

INSTRUMENT = (
    "innerloop.boxed",
    *(
        f"innerloop.evaluate.verify.{name}"
        for name in (
            "choice",
            "extract",
            "literal",
            "math",
            "number",
            "plain",
            "quantity",
            "verifier",
            "votes",
            *(
                f"values.{name}"
                for name in ("compare", "formula", "keys", "quantity", "reader", "statements", "tokens")
            ),
        )
    ),
)
KINDS = (*JUDGES, "gym:countdown", "gym:game_of_life_halting")
_LIMIT = 2e-3  # seconds of the processor for a character of instrumented code, and
_VALUE = 20_000  # characters of the longest answer that is judged
_AT_LEAST = 0.5  # seconds for any text, since collecting garbage takes its time too

_verifier = Verifier()


def one(data: bytes) -> None:
    """Any text gets a verdict of a known kind, or a job for a worker; what it says was said in the text."""
    kind, cut, share, rest = (*data[:3], data[3:]) if len(data) > 3 else (0, 0, 0, data)
    text = rest.decode(errors="surrogateescape" if cut & 2 else "replace")
    reference, text = text[: len(text) * share // 512], text[len(text) * share // 512 :]
    question = Question(id="q", question="?", answer=reference or "5", verifier=KINDS[kind % len(KINDS)])
    status = Status.TRUNCATED if cut & 1 else Status.COMPLETE
    start = time.process_time()
    first = _verifier._judge(Attempt(question=question, text=text, status=status))
    _read(text)
    assert time.process_time() - start < max(_LIMIT * len(text), _AT_LEAST)
    if isinstance(first, job.Job):
        assert first.answer
    else:
        assert isinstance(first, Verdict)
        assert first.outcome in Outcome
        assert first.outcome is not Outcome.UNDECIDED or first.reason
        assert first.outcome is not Outcome.RIGHT or first.answer is not None


def _read(text: str) -> None:
    """What is extracted stands in the text, and every reader of an answer takes any answer."""
    shown = extract.visible(text)
    assert shown in text
    for complete in (True, False):
        answer = extract.extract_answer(text, complete=complete)
        assert answer is None or (answer and answer in shown)
    assert text.startswith(before_box(text))
    assert (last_boxed(text) is None) == (not boxes(text))
    assert literal.without_front(text) == text or len(literal.without_front(text)) < len(text)
    assert folded(plain(text)) is not None
    value = values.read(text[:_VALUE])
    assert values.equal(value, value)
    plain_number = number.of(text[:_VALUE])
    assert plain_number is None or number.equal(plain_number, plain_number)
    assert votes.answer_key(text) == votes.answer_key(f" {text} ")
    unit = quantity.split(text[:_VALUE])
    assert unit is None or len(unit[1]) <= 60
    assert verifier.NAMES
