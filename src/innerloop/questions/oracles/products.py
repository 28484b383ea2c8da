"""``products``: a multiplication of two or more whole numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from innerloop.questions.oracles.equation import equation, running_sum
from innerloop.questions.oracles.oracle import Derivation, Oracle, Step, fold
from innerloop.schema import Question

Factors = tuple[int, ...]

_PRODUCT = re.compile(r"multiplication:\s*(-?\d+(?: \* -?\d+)*)\.")


def _read(question: Question) -> Factors | None:
    found = _PRODUCT.search(question.question)
    return tuple(map(int, found[1].split(" * "))) if found else None


def _parts(number: int) -> list[int]:
    """4 070 → 4 000, 70."""
    digits = str(number)
    found = [int(digit) * 10 ** (len(digits) - i - 1) for i, digit in enumerate(digits) if digit != "0"]
    return found or [0]


def _by_right(a: int, b: int) -> tuple[list[Step], int]:
    parts = [a * part for part in _parts(b)]
    steps = [equation(f"{a} * {part}", a * part, f"{a} times the part {part} of {b}: {{}}.") for part in _parts(b)]
    return _summed(steps, parts)


def _by_left(a: int, b: int) -> tuple[list[Step], int]:
    parts = [part * b for part in _parts(a)]
    steps = [equation(f"{part} * {b}", part * b, f"The part {part} of {a} times {b}: {{}}.") for part in _parts(a)]
    return _summed(steps, parts)


def _grid(a: int, b: int) -> tuple[list[Step], int]:
    """Every part of the one with every part of the other."""
    pairs = [(left, right) for left in _parts(a) for right in _parts(b)]
    steps = [equation(f"{left} * {right}", left * right, "One field of the grid: {}.") for left, right in pairs]
    return _summed(steps, [left * right for left, right in pairs])


def _doubling(a: int, b: int) -> tuple[list[Step], int]:
    """a doubled again and again; the doubles whose powers of two make up b."""
    steps = []
    doubles = [(1, a)]
    while doubles[-1][0] * 2 <= b:
        power, value = doubles[-1]
        steps.append(equation(f"{value} + {value}", 2 * value, f"Doubled, that is {2 * power} times {a}: {{}}."))
        doubles.append((2 * power, 2 * value))
    chosen = [(power, value) for power, value in doubles if b & power]
    if b < 2:
        return [equation(f"{a} * {b}", a * b)], a * b
    if len(chosen) == 1:
        return steps, chosen[0][1]
    made_of = " + ".join(str(power) for power, _ in chosen)
    steps.append(Step(short=f"{b} = {made_of}", long=f"As a sum of powers of two, {b} = {made_of}."))
    return _summed(steps, [value for _, value in chosen])


def _summed(steps: list[Step], parts: Sequence[int]) -> tuple[list[Step], int]:
    together, total = running_sum(parts, "Added: {}.")
    return [*steps, *together], total


def _method(plan: str, step: Callable[[int, int], tuple[list[Step], int]]) -> Callable[[Factors], Derivation]:
    """A way for two numbers as a way for a row of them; the sign is found apart."""

    def method(factors: Factors) -> Derivation:
        first, *others = map(abs, factors)
        derived = fold(first, others, step)
        steps = [Step(short="", long=plan), *derived.steps]
        negative = sum(factor < 0 for factor in factors)
        value = int(derived.result) * (-1) ** negative
        if negative:
            even = "even, so the product has no minus" if negative % 2 == 0 else "odd, so the product has a minus"
            says = f"negative factors: {negative}"
            steps.append(Step(short=says, long=f"The number of negative factors is {negative}, {even}."))
        end = str(value)
        steps.append(Step(short=end if negative or not derived.steps else "", long=f"The product is {end}."))
        return Derivation(steps=steps, result=end)

    return method


ORACLE = Oracle(
    family="products",
    read=_read,
    methods={
        "right-parts": _method("Take the right factor apart by its digits.", _by_right),
        "left-parts": _method("Take the left factor apart by its digits.", _by_left),
        "grid": _method("Multiply each digit's part of the one with each of the other.", _grid),
        "doubling": _method("Double the left factor and add the doubles that make up the right one.", _doubling),
    },
)
