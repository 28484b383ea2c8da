"""``chain_sum``: a row of additions and subtractions."""

from __future__ import annotations

import re

from innerloop.questions.oracles.equation import equation, in_pairs, running_sum, written_sum
from innerloop.questions.oracles.oracle import Derivation, Oracle, Step
from innerloop.schema import Question

Terms = tuple[int, ...]  # with their signs: 5 - 8 is 5, −8

_CHAIN = re.compile(r"problem:\s*(-?\d+(?: [+-] -?\d+)*) =")


def _read(question: Question) -> Terms | None:
    found = _CHAIN.search(question.question)
    if found is None:
        return None
    first, *rest = found[1].split(" ")
    signed = zip(rest[::2], rest[1::2], strict=True)
    return int(first), *(int(term) if sign == "+" else -int(term) for sign, term in signed)


def _left_to_right(terms: Terms) -> Derivation:
    steps, total = running_sum(terms, "Take the next term: {}.")
    return _ended("Go through the terms from left to right.", steps, total)


def _right_to_left(terms: Terms) -> Derivation | None:
    if len(terms) == 1:
        return None
    steps, total = running_sum(terms[::-1], "Take the term to the left of it, with its sign: {}.")
    return _ended(f"Start from the last term with its sign, {terms[-1]}, and go to the left.", steps, total)


def _by_sign(terms: Terms) -> Derivation | None:
    """What is added together, what is taken away together, then the difference."""
    plus, minus = [term for term in terms if term >= 0], [-term for term in terms if term < 0]
    if not plus or not minus or len(terms) < 3:
        return None
    gained, added = running_sum(plus, "Of what is added: {}.")
    lost, taken = running_sum(minus, "Of what is taken away: {}.")
    last = equation(f"{added} - {taken}", added - taken, "Take the second sum from the first: {}.")
    return _ended(
        f"First add up what is added ({written_sum(plus)}) and what is taken away ({written_sum(minus)}).",
        [*gained, *lost, last],
        added - taken,
    )


def _by_place(terms: Terms) -> Derivation | None:
    """Ones with ones, tens with tens, then the places together."""
    places = max(len(str(abs(term))) for term in terms)
    if places == 1:
        return None
    steps, parts = [], []
    for place in (10**k for k in range(places)):
        digits = [(abs(term) // place % 10) * (1 if term >= 0 else -1) for term in terms]
        parts.append(sum(digits) * place)
        written = written_sum(digits)
        left = f"({written}) * {place}" if place > 1 else written
        steps.append(equation(left, parts[-1], f"Digits that count {place}: {{}}."))
    joined, total = running_sum(parts, "Together: {}.")
    return _ended("Add the digits of each place apart, with their terms' signs.", [*steps, *joined], total)


def _pairs(terms: Terms) -> Derivation | None:
    if len(terms) < 4:
        return None
    steps = in_pairs(terms, lambda a, b: written_sum((a, b)), lambda a, b: a + b)
    return _ended("Join neighbours two by two, each with its sign.", steps, sum(terms))


def _ended(plan: str, steps: list[Step], total: int) -> Derivation:
    end = Step(short="" if steps else str(total), long=f"The result is {total}.")
    return Derivation(steps=[Step(short="", long=plan), *steps, end], result=str(total))


ORACLE = Oracle(
    family="chain_sum",
    read=_read,
    methods={
        "left-to-right": _left_to_right,
        "right-to-left": _right_to_left,
        "by-sign": _by_sign,
        "by-place": _by_place,
        "pairs": _pairs,
    },
)
