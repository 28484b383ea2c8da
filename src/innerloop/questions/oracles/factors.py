"""Factors of whole numbers in steps, for the oracles of ``gcd`` and ``lcm``."""

from __future__ import annotations

import re
from collections import Counter

from innerloop.questions.oracles.equation import equation
from innerloop.questions.oracles.oracle import Step
from innerloop.schema import Question

Numbers = tuple[int, ...]
_NUMBERS = re.compile(r"of these numbers:\s*(\d+(?:, \d+)*)")
_LARGEST = 10**10  # trial division up to its root takes 100,000 tries


def read_numbers(question: Question) -> Numbers | None:
    """The numbers that the question lists; None where one of them is 0."""
    found = _NUMBERS.search(question.question)
    numbers = tuple(map(int, found[1].split(", "))) if found else ()
    return numbers if numbers and all(numbers) else None


def by_division(a: int, b: int) -> tuple[list[Step], int]:
    """The greatest common divisor by Euclid: divide, go on with the divisor and the rest."""
    steps = []
    while b:
        whole, rest = divmod(a, b)
        line = f"{a} = {whole} * {b} + {rest}"
        slips = tuple(f"{a} = {whole} * {b} + {rest + off}" for off in (1, 2, 10))
        steps.append(Step(short=line, long=f"Divide {a} by {b}: {line}.", slips=slips))
        a, b = b, rest
    steps.append(Step(short=f"gcd {a}", long=f"The rest is 0, so the last divisor, {a}, divides both."))
    return steps, a


def by_primes(number: int) -> tuple[list[Step], Counter[int]] | None:
    """A number's prime factors, split off from the smallest; None for numbers that are too large for that."""
    if number > _LARGEST:
        return None
    if number == 1:
        return [Step(short="1 = 1", long="1 has no prime factors.")], Counter()
    steps: list[Step] = []
    primes: Counter[int] = Counter()
    rest, prime = number, 2
    while rest > 1:
        if prime * prime > rest:
            prime = rest
        if rest % prime:
            prime += 1
            continue
        if rest != prime:
            steps.append(equation(f"{rest} / {prime}", rest // prime, f"{prime} divides {rest}: {{}}."))
        primes[prime] += 1
        rest //= prime
    line = f"{number} = {written(primes)}"
    steps.append(Step(short=line, long=f"So {line}, all primes."))
    return steps, primes


def written(primes: Counter[int]) -> str:
    """``2 * 2 * 5``; 1 for none."""
    return " * ".join(map(str, sorted(primes.elements()))) or "1"


def multiplied(primes: Counter[int], long: str) -> list[Step]:
    """The steps that multiply primes out; none where there is nothing to multiply."""
    steps, total = [], 1
    for number, prime in enumerate(sorted(primes.elements())):
        if number:
            steps.append(equation(f"{total} * {prime}", total * prime, long))
        total *= prime
    return steps
