"""Verifier ``quantity``: a number with its unit, whatever unit of the same kind it is given in.

``36 km/h`` is right for ``10 m/s``, ``20 °C`` for ``293.15 K``; ``10 m`` is wrong. Rules:

- Numbers are read and compared as by the verifier ``number``, after the answer was converted to the reference's unit.
- An answer without a unit is read in the reference's unit, and the unit of an answer is not looked at where the
  reference has none.
- Where one of the units is not known (``apples``), both must be the same words, apart from a plural s.

Units are pint's. The conversion runs in a worker process, because pint computes powers as they are written.
"""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

from innerloop.evaluate.verify import number
from innerloop.evaluate.verify.job import Job, Reply
from innerloop.evaluate.verify.plain import folded
from innerloop.evaluate.verify.values import Quantity
from innerloop.schema import Outcome, Question, Verdict

_LONGEST = 60  # characters of a unit
_POWER = re.compile(r"(?<=[A-Za-zµΩÅ)°])\s*+(?:\^|\*\*)?\s*+[({]?\s*+(-?[1-9])\s*[)}]?(?![\d.])")
_OTHER_POWER = re.compile(r"\d|\^|\*\*")
_PLURAL = re.compile(r"(?<=\w\w)s\b")
_WORDS = (("μ", "µ"), ("°C", "degC"), ("°F", "degF"), ("Å", "angstrom"), ("°", "degree"))


def judge(question: Question, answer: str) -> Verdict | Job:
    """At once where nothing needs converting; else the job for a worker."""
    reference, given = split(question.answer), split(answer)
    if reference is None:
        reason = f"the reference answer '{question.answer[:40]}' is no single number with a unit"
        return Verdict(outcome=Outcome.UNDECIDED, reason=reason, answer=answer)
    if given is None:
        return Verdict(outcome=Outcome.WRONG, reason=f"{number.why_none(answer)} with a unit", answer=answer)
    if not given[1] or not reference[1] or given[1] == reference[1]:
        right = number.equal(given[0], reference[0])
        return Verdict(outcome=Outcome.RIGHT if right else Outcome.WRONG, answer=answer)
    return Job(module=__name__, answer=answer, payload={"reference": question.answer, "answer": answer})


def split(text: str) -> tuple[number.Plain, str] | None:
    """A number and the text of its unit (empty without one); None where there is no number, or more than a unit."""
    found, value = number.of(text), number.value_of(text)
    if found is None or not isinstance(value, Quantity):
        return None
    unit = value.unit.spelled if value.unit is not None else ""
    return (found, unit) if len(unit) <= _LONGEST else None


def prepare() -> None:
    """Imports pint and reads its table of units, before the item's time begins."""
    _registry()


@lru_cache
def _registry() -> Any:
    import pint

    return pint.UnitRegistry(autoconvert_offset_to_baseunit=True)


def run(payload: dict[str, str]) -> Reply:
    """In the worker: the answer in the reference's unit, compared."""
    reference, given = split(payload["reference"]), split(payload["answer"])
    assert reference is not None
    assert given is not None
    own, other = _unit(reference[1]), _unit(given[1])
    if own is None or other is None:
        same = _singular(reference[1]) == _singular(given[1]) and number.equal(given[0], reference[0])
        return (
            Reply(outcome="right") if same else Reply(outcome="wrong", reason="another unit, or one that is not known")
        )
    if own.dimensionality != other.dimensionality:
        return Reply(outcome="wrong", reason=f"a unit of another kind ({given[1]} for {reference[1]})")
    converted = _registry().Quantity(float(given[0].value), other).to(own).magnitude
    same = number.equal(replace(given[0], value=Fraction(converted)), reference[0])
    return Reply(outcome="right" if same else "wrong")


def _unit(text: str) -> Any:
    """pint's unit, or None for one that it does not know."""
    for old, new in _WORDS:
        text = text.replace(old, new)
    if _OTHER_POWER.search(_POWER.sub("", text)):  # a power of a power, which nobody writes in a unit
        return None
    text = _POWER.sub(r"**\1", text)
    for attempt in (text, text.lower()):
        try:
            return _registry().parse_units(attempt)
        except Exception:  # noqa: BLE001  # pint raises its own, tokenize's, and whatever its operators meet
            continue
    return None


def _singular(unit: str) -> str:
    return _PLURAL.sub("", folded(unit))
