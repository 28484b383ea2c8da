"""``gcd``: the greatest common divisor of two or more numbers."""

from __future__ import annotations

from functools import reduce
from math import prod

from innerloop.questions.oracles.equation import equation
from innerloop.questions.oracles.factors import Numbers, by_division, by_primes, multiplied, read_numbers, written
from innerloop.questions.oracles.oracle import MOST_STEPS, Derivation, Oracle, Step, fold


def _division(numbers: Numbers) -> Derivation:
    return fold(numbers[0], numbers[1:], by_division)


def _subtraction(numbers: Numbers) -> Derivation | None:
    """The smaller from the larger until both are equal."""
    steps: list[Step] = []
    a, *others = numbers
    for b in others:
        while a != b:
            if len(steps) >= MOST_STEPS:
                return None
            large, small = max(a, b), min(a, b)
            a, b = small, large - small
            steps.append(equation(f"{large} - {small}", b, "Take the smaller number from the larger: {}."))
        steps.append(Step(short=f"gcd {a}", long=f"Both numbers are {a} now, and that divides them both."))
    return Derivation(steps=steps, result=str(a))


def _primes(numbers: Numbers) -> Derivation | None:
    """The prime factors that all numbers share."""
    found = [by_primes(number) for number in numbers]
    if any(one is None for one in found):
        return None
    steps = [step for one in found if one for step in one[0]]
    common = reduce(lambda a, b: a & b, [one[1] for one in found if one])
    line = f"common: {written(common)}"
    steps.append(Step(short=line, long=f"All numbers share the prime factors {written(common)}."))
    result = prod(common.elements())
    end = Step(short=f"gcd {result}", long=f"Their product is {result}.")
    return Derivation(steps=[*steps, *multiplied(common, "Multiply: {}."), end], result=str(result))


def _halving(numbers: Numbers) -> Derivation:
    """Stein's way: halve what is even, subtract what is odd."""
    return fold(numbers[0], numbers[1:], _by_halving)


def _by_halving(a: int, b: int) -> tuple[list[Step], int]:
    steps: list[Step] = []
    twos = 1
    while a != b:
        a, b = max(a, b), min(a, b)
        if a % 2 == 0 and b % 2 == 0:
            steps.append(equation(f"{a} / 2", a // 2, "Both are even: {}."))
            steps.append(equation(f"{b} / 2", b // 2, "{}, and the 2 is kept for the end."))
            a, b, twos = a // 2, b // 2, twos * 2
        elif a % 2 == 0:
            steps.append(equation(f"{a} / 2", a // 2, "One is even, and its 2 is not common: {}."))
            a //= 2
        elif b % 2 == 0:
            steps.append(equation(f"{b} / 2", b // 2, "One is even, and its 2 is not common: {}."))
            b //= 2
        else:
            steps.append(equation(f"{a} - {b}", a - b, "Both are odd, their difference is even: {}."))
            a -= b
    if twos > 1:
        steps.append(equation(f"{a} * {twos}", a * twos, "The twos that were kept come back: {}."))
    steps.append(Step(short=f"gcd {a * twos}", long=f"So the greatest common divisor is {a * twos}."))
    return steps, a * twos


ORACLE = Oracle(
    family="gcd",
    read=read_numbers,
    methods={"division": _division, "subtraction": _subtraction, "primes": _primes, "halving": _halving},
)
