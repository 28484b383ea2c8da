"""Verifier ``number``: one number, whatever its separators, currency, percent sign, unit and brackets.

- Percent: where just one side has a percent sign, 25 % is right for 25 as well as for 0.25.
- Equal means within 1e-6 of the reference, relatively. A reference with a decimal point and at least two decimals or
  three significant digits is taken for a rounded one: half a unit of its last digit is allowed too, so 0.333 is right
  for 0.33 and 20.39 for 20.4, while 2.54 is wrong for 2.5 and 18.4 for 18.
- An answer that states two numbers is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from innerloop.evaluate.verify.math import SEVERAL
from innerloop.evaluate.verify.values import Quantity, Relation, Several, Value, read
from innerloop.evaluate.verify.values.decimals import plain_number
from innerloop.evaluate.verify.values.statements import states
from innerloop.schema import Outcome, Question, Verdict

_RELATIVE = Fraction(1, 10**6)


@dataclass(frozen=True)
class Plain:
    """A number: its exact value, whether with a percent sign, and how many digits it shows (0 of fractions)."""

    value: Fraction
    decimals: int = 0
    digits: int = 0
    percent: bool = False


def judge(question: Question, answer: str) -> Verdict:
    """Right where the numbers are equal; undecided where the reference is no number."""
    reference, given = of(question.answer), of(answer)
    if reference is None:
        reason = f"the reference answer '{question.answer[:40]}' is no single number"
        return Verdict(outcome=Outcome.UNDECIDED, reason=reason, answer=answer)
    if given is None:
        return Verdict(outcome=Outcome.WRONG, reason=why_none(answer), answer=answer)
    return Verdict(outcome=Outcome.RIGHT if equal(given, reference) else Outcome.WRONG, answer=answer)


def value_of(text: str) -> Value:
    """The value without a name before it, and without exclamation marks after it: there are no factorials here."""
    value = read(text.rstrip().rstrip("!"), short=True)
    named = isinstance(value, Relation) and value.sign == "=" and states(value.left, value.right)
    return value.right if isinstance(value, Relation) and named else value


def of(text: str) -> Plain | None:
    """The one number of a text; None where there is none, several, or a formula."""
    value = value_of(text)
    if not isinstance(value, Quantity) or value.mixed:
        return None
    found = value.rounded or plain_number(value.node)
    return None if found is None else Plain(found.value, found.decimals, found.digits, value.percent)


def why_none(answer: str) -> str:
    """The reason why an answer holds no number."""
    return SEVERAL if isinstance(value_of(answer), Several) else "the final answer is no single number"


def equal(given: Plain, reference: Plain) -> bool:
    """Whether ``given`` counts as ``reference`` by the module's rules."""
    allowed = _RELATIVE * abs(reference.value)
    if reference.decimals >= 2 or (reference.decimals > 0 and reference.digits >= 3):
        allowed = max(allowed, Fraction(1, 2 * 10**reference.decimals))
    pairs = ((a, b) for a in _readings(given, reference) for b in _readings(reference, given))
    return any(abs(a - b) <= allowed for a, b in pairs)


def _readings(own: Plain, other: Plain) -> tuple[Fraction, ...]:
    """25 % against a number without a percent sign: 25 and 0.25."""
    return (own.value, own.value / 100) if own.percent and not other.percent else (own.value,)
