r"""Which answers are one vote: those that the question's verifier calls equal.

The key of a right answer is the reference's. Formulas that are too long to be computed here are keyed as they are
written, and so are programs; answers to reasoning-gym's questions by their text without LaTeX dress.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from functools import lru_cache

from innerloop.boxed import last_boxed
from innerloop.evaluate.verify import choice, formula, gym, literal, number
from innerloop.evaluate.verify.plain import folded
from innerloop.evaluate.verify.values import REFERENCE, Quantity, is_small, key, read
from innerloop.schema import Question

_LONGEST = 500  # characters of an answer that is read here


@lru_cache(maxsize=1 << 16)
def answer_key(answer: str, verifier: str | None = None, reference: str = "") -> str:
    r"""What equal votes share: ``\frac12`` and 0.5 the value, ``(B)`` and ``B. Paris`` the letter."""
    answer = answer.strip()
    name = verifier or "math"
    if len(answer) > _LONGEST or len(reference) > _LONGEST:
        return folded(answer)
    if name.startswith(gym.PREFIX):
        return formula.read(answer) or folded(answer)
    rule = _RULES.get(name)
    return folded(answer) if rule is None else rule(answer, reference)


def question_key(answer: str, question: Question | None) -> str:
    """The key of an answer to a question, which may not be known."""
    if question is None:
        return answer_key(answer)
    return answer_key(answer, question.verifier, question.answer)


def _math(answer: str, reference: str) -> str:
    value = read(answer)
    known = read(last_boxed(reference) or reference) if reference else None
    if not is_small(value) or (known is not None and not is_small(known)):
        return folded(answer)
    return key(value, known)


def _number(answer: str, reference: str) -> str:
    given, known = number.of(answer), number.of(reference)
    if given is None:
        return folded(answer)
    if known is not None and number.equal(given, known):
        return REFERENCE
    percent = given.percent if known is None else known.percent
    return f"{given.value}{'%' if percent else ''}"


def _quantity(answer: str, reference: str) -> str:
    value, known = read(answer, short=True), read(reference, short=True)
    if isinstance(value, Quantity) and is_small(value) and is_small(known):
        return key(value, known if isinstance(known, Quantity) else None)
    return folded(answer)


def _choice(answer: str, _: str) -> str:
    return choice.letter(answer) or folded(answer)


def _literal(answer: str, _: str) -> str:
    answer = answer.strip("`").strip()
    for text in (answer, literal.without_front(answer)):
        try:
            return f"{ast.literal_eval(text)!r}"
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
    return answer


_RULES: Mapping[str, Callable[[str, str], str]] = {
    "math": _math,
    "none": _math,
    "number": _number,
    "quantity": _quantity,
    "choice": _choice,
    "literal": _literal,
    "text": lambda answer, _: folded(answer),
    "code": lambda answer, _: answer,
}
