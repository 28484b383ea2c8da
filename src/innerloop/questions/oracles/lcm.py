"""``lcm``: the least common multiple of two or more numbers."""

from __future__ import annotations

from functools import reduce
from math import prod

from innerloop.questions.oracles.equation import equation
from innerloop.questions.oracles.factors import Numbers, by_division, by_primes, multiplied, read_numbers, written
from innerloop.questions.oracles.oracle import MOST_STEPS, Derivation, Oracle, Step, fold


def _by_gcd(numbers: Numbers) -> Derivation:
    return fold(numbers[0], numbers[1:], _through_gcd)


def _through_gcd(a: int, b: int) -> tuple[list[Step], int]:
    steps, divisor = by_division(a, b)
    part = a // divisor
    return [
        *steps,
        equation(f"{a} / {divisor}", part, "Divide the first number by it: {}."),
        equation(f"{part} * {b}", part * b, "And multiply with the second: {}."),
    ], part * b


def _primes(numbers: Numbers) -> Derivation | None:
    """Every prime as often as the number that has it most."""
    found = [by_primes(number) for number in numbers]
    if any(one is None for one in found):
        return None
    steps = [step for one in found if one for step in one[0]]
    needed = reduce(lambda a, b: a | b, [one[1] for one in found if one])
    steps.append(
        Step(short=f"needed: {written(needed)}", long=f"Each prime as often as it occurs in one: {written(needed)}.")
    )
    result = prod(needed.elements())
    end = Step(short=f"lcm {result}", long=f"That is {result}.")
    return Derivation(steps=[*steps, *multiplied(needed, "Multiply: {}."), end], result=str(result))


def _multiples(numbers: Numbers) -> Derivation | None:
    """The largest number's multiples until all others divide one."""
    large = max(numbers)
    others = sorted(set(numbers) - {large}, reverse=True)
    steps: list[Step] = []
    for times in range(1, MOST_STEPS):
        value = large * times
        misfit = next((other for other in others if value % other), None)
        if misfit is None:
            line = f"{large} * {times} = {value}: fits"
            steps.append(Step(short=line, long=f"{large} * {times} = {value}, and all other numbers divide it."))
            steps.append(Step(short=f"lcm {value}", long=f"So the least common multiple is {value}."))
            return Derivation(steps=steps, result=str(value))
        rest = value % misfit
        line = f"{large} * {times} = {value}: {misfit} leaves {rest}"
        slip = f"{large} * {times} = {value}: {misfit} leaves 0"
        says = f"{large} * {times} = {value}, but dividing by {misfit} leaves {rest}."
        steps.append(Step(short=line, long=says, slips=(slip,)))
    return None


def _ladder(numbers: Numbers) -> Derivation | None:
    """Divide all numbers by a prime that divides any of them, until all are 1; multiply the primes."""
    found = [by_primes(number) for number in numbers]
    if any(one is None for one in found):
        return None
    steps: list[Step] = []
    row, total = list(numbers), 1
    for prime in sorted(reduce(lambda a, b: a | b, [one[1] for one in found if one]).elements()):
        before = ", ".join(map(str, row))
        row = [value // prime if value % prime == 0 else value for value in row]
        after = ", ".join(map(str, row))
        long = f"{prime} divides some of {before}; what remains is {after}."
        steps.append(Step(short=f"{before} : {prime} -> {after}", long=long))
        if total > 1:
            steps.append(equation(f"{total} * {prime}", total * prime, "So far: {}."))
        total *= prime
    steps.append(Step(short=f"lcm {total}", long=f"All are 1 now, so the least common multiple is {total}."))
    return Derivation(steps=steps, result=str(total))


ORACLE = Oracle(
    family="lcm",
    read=read_numbers,
    methods={"through-gcd": _by_gcd, "primes": _primes, "multiples": _multiples, "ladder": _ladder},
)
