"""``count_bits``: how many ones the binary form of a number has."""

from __future__ import annotations

import re

from innerloop.questions.oracles.oracle import Derivation, Oracle, Step
from innerloop.schema import Question

_ASKED = re.compile(r"the number (\d+)\?")


def _read(question: Question) -> int | None:
    found = _ASKED.search(question.question)
    return int(found[1]) if found else None


def _halving(number: int) -> Derivation:
    """Halve; each rest of 1 is a bit."""
    steps, count = [], 0
    while number:
        half, rest = divmod(number, 2)
        count += rest
        line = f"{number} = 2 * {half} + {rest}"
        slip = f"{number} = 2 * {half} + {1 - rest}"
        says = f"Halve: {line}, so there are {count} ones so far."
        steps.append(Step(short=f"{line}; {count}", long=says, slips=(f"{slip}; {count + 1 - 2 * rest}",)))
        number = half
    return _ended(steps, count)


def _highest(number: int) -> Derivation:
    """Take away the highest power of two again and again."""
    steps, count = [], 0
    while number:
        power = 1 << (number.bit_length() - 1)
        count += 1
        steps.append(_taken(number, power, count, "highest"))
        number -= power
    return _ended(steps, count)


def _lowest(number: int) -> Derivation:
    """Take away the lowest power of two that is in it."""
    steps, count = [], 0
    while number:
        power = number & -number
        count += 1
        steps.append(_taken(number, power, count, "lowest"))
        number -= power
    return _ended(steps, count)


def _taken(number: int, power: int, count: int, which: str) -> Step:
    left = f"{number} - {power}"
    line = f"{left} = {number - power}"
    return Step(
        short=f"{line}; {count}",
        long=f"The {which} power of two in {number} is {power}: {line}, {count} so far.",
        slips=tuple(f"{left} = {number - power + off}; {count}" for off in (1, 2, 10)),
    )


def _hexadecimal(number: int) -> Derivation:
    """Divide by 16 and count the ones of each of the sixteen rests."""
    steps, count = [], 0
    while number:
        whole, rest = divmod(number, 16)
        ones = rest.bit_count()
        line = f"{number} = 16 * {whole} + {rest}"
        steps.append(
            Step(
                short=line,
                long=f"Divide by 16: {line}.",
                slips=tuple(f"{number} = 16 * {whole} + {rest + off}" for off in (1, 2)),
            )
        )
        added = f"{rest} is {rest:04b}: {count} + {ones} = {count + ones}"
        slip = f"{rest} is {rest:04b}: {count} + {ones + 1} = {count + ones + 1}"
        says = f"The rest {rest} is {rest:04b}, with {ones} ones: {count} + {ones} = {count + ones}."
        steps.append(Step(short=added, long=says, slips=(slip,)))
        count, number = count + ones, whole
    return _ended(steps, count)


def _ended(steps: list[Step], count: int) -> Derivation:
    end = Step(short=f"ones {count}", long=f"Nothing is left, so there are {count} ones.")
    return Derivation(steps=[*steps, end], result=str(count))


ORACLE = Oracle(
    family="count_bits",
    read=_read,
    methods={"halving": _halving, "highest-power": _highest, "lowest-power": _lowest, "hexadecimal": _hexadecimal},
)
