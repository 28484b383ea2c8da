"""Steps that are equations: a value, what it is of, and the values that one gets by slipping."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from innerloop.questions.oracles.oracle import Step


def equation(left: str, value: int, long: str | None = None) -> Step:
    """``left = value``; ``long`` is the sentence, with ``{}`` for the equation."""
    line = f"{left} = {value}"
    return Step(short=line, long=(long or "{}.").format(line), slips=near(left, value))


def near(left: str, value: int) -> tuple[str, ...]:
    """The equation with a value that is one or ten off, of the same sign."""
    return tuple(f"{left} = {value + off}" for off in (1, -1, 10, -10) if (value + off < 0) == (value < 0))


def written_sum(terms: Sequence[int]) -> str:
    """``5 - 8 + 3`` for 5, −8, 3."""
    first, *rest = terms
    return str(first) + "".join(f" {'-' if term < 0 else '+'} {abs(term)}" for term in rest)


def running_sum(terms: Sequence[int], long: str | None = None) -> tuple[list[Step], int]:
    """The terms added one after the other."""
    steps, total = [], terms[0]
    for term in terms[1:]:
        steps.append(equation(written_sum((total, term)), total + term, long))
        total += term
    return steps, total


def in_pairs(terms: Sequence[int], written: Callable[[int, int], str], join: Callable[[int, int], int]) -> list[Step]:
    """Neighbours joined, then the results' neighbours, until one value is left."""
    steps, level = [], list(terms)
    while len(level) > 1:
        joined = []
        for a, b in zip(level[::2], level[1::2], strict=False):
            joined.append(join(a, b))
            steps.append(equation(written(a, b), joined[-1], "Two neighbours: {}."))
        level = joined + level[len(joined) * 2 :]
    return steps
