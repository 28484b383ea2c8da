"""``base_conversion``: a number from one base to another, through its decimal value or through its bits."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from innerloop.questions.oracles.equation import equation, running_sum
from innerloop.questions.oracles.oracle import Derivation, Oracle, Step
from innerloop.schema import Question

_ASKED = re.compile(r"convert the (\S+) number ([0-9a-z]+) to (\S+)")
_NAMES = {"binary": 2, "hexadecimal": 16}
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"

Into = Callable[["Conversion"], tuple[list[Step], int]]
Out = Callable[[int, int], tuple[list[Step], str]]


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What is asked: the digits, most significant first, and the two bases."""

    digits: str
    source: int
    target: int

    @property
    def values(self) -> list[int]:
        """The digits' values."""
        return [_DIGITS.index(digit) for digit in self.digits]


def _read(question: Question) -> Conversion | None:
    found = _ASKED.search(question.question)
    if found is None:
        return None
    source, target = (_NAMES.get(name) or int(name.removeprefix("base-")) for name in (found[1], found[3]))
    task = Conversion(digits=found[2], source=source, target=target)
    known = all(2 <= base <= len(_DIGITS) for base in (source, target)) and max(task.values) < source
    return task if known else None


def _by_powers(task: Conversion) -> tuple[list[Step], int]:
    """Each digit times its power of the base, then the sum."""
    steps, parts = [], []
    for place, value in reversed(list(enumerate(task.values[::-1]))):
        power = task.source**place
        parts.append(value * power)
        says = f"The digit {_DIGITS[value]} has the value {value} and counts {power}: {{}}."
        steps.append(equation(f"{value} * {power}", parts[-1], says))
    summed, total = running_sum(parts, "Added: {}.")
    return [*steps, *summed], total


def _by_horner(task: Conversion) -> tuple[list[Step], int]:
    """Digit by digit: what there is times the base, plus the next digit."""
    first, *rest = task.values
    steps: list[Step] = []
    for value in rest:
        says = f"Times the base, plus the next digit {_DIGITS[value]}: {{}}."
        steps.append(equation(f"{first} * {task.source} + {value}", first * task.source + value, says))
        first = first * task.source + value
    return steps, first


def _by_remainders(value: int, base: int) -> tuple[list[Step], str]:
    """Divide by the base again and again; the rests are the digits from the last to the first."""
    steps: list[Step] = []
    digits = ""
    while value or not digits:
        whole, rest = divmod(value, base)
        line = f"{value} = {whole} * {base} + {rest}"
        digits = _DIGITS[rest] + digits
        slips = tuple(f"{value} = {whole} * {base} + {rest + off}" for off in (1, 2))
        says = f"Divide by {base}: {line}, the digit {_DIGITS[rest]} goes to the front: {digits}."
        steps.append(Step(short=f"{line}; {digits}", long=says, slips=slips))
        value = whole
    return steps, digits


def _by_highest(value: int, base: int) -> tuple[list[Step], str]:
    """From the highest power that fits downwards: how often, and what is left."""
    power = 1
    while power * base <= value:
        power *= base
    steps: list[Step] = []
    digits = ""
    while power:
        times, rest = divmod(value, power)
        line = f"{value} - {times} * {power} = {rest}"
        digits += _DIGITS[times]
        slips = tuple(f"{value} - {times} * {power} = {rest + off}" for off in (1, 10))
        says = f"{power} fits {times} times: {line}, so the next digit is {_DIGITS[times]}: {digits}."
        steps.append(Step(short=f"{line}; {digits}", long=says, slips=slips))
        value, power = rest, power // base
    return steps, digits


def _through_decimal(into: Into, out: Out) -> Callable[[Conversion], Derivation]:
    def method(task: Conversion) -> Derivation:
        steps, value = into(task) if task.source != 10 else ([], int(task.digits))
        steps.append(Step(short=f"value {value}", long=f"The value of {task.digits} is {value} in decimal."))
        if task.target == 10:
            return Derivation(steps=steps, result=str(value))
        more, digits = out(value, task.target)
        end = Step(short="", long=f"In base {task.target} that is {digits}.")
        return Derivation(steps=[*steps, *more, end], result=digits)

    return method


def _through_bits(task: Conversion) -> Derivation | None:
    """Between powers of two: each digit is a group of bits, and the bits are grouped anew."""
    widths = [base.bit_length() - 1 for base in (task.source, task.target)]
    if any(2**width != base for width, base in zip(widths, (task.source, task.target), strict=True)):
        return None
    steps: list[Step] = []
    bits = ""
    for value in task.values:
        group = f"{value:0{widths[0]}b}"
        bits += group
        slip = f"{_DIGITS[value]} -> {value ^ 1:0{widths[0]}b}"
        says = f"The digit {_DIGITS[value]} is {group} in bits."
        steps.append(Step(short=f"{_DIGITS[value]} -> {group}", long=says, slips=(slip,)))
    bits = bits.lstrip("0") or "0"
    bits = bits.zfill(-(-len(bits) // widths[1]) * widths[1])
    steps.append(Step(short=f"bits {bits}", long=f"All bits: {bits}."))
    digits = ""
    for start in range(0, len(bits), widths[1]):
        group = bits[start : start + widths[1]]
        digit = _DIGITS[int(group, 2)]
        digits += digit
        slip = f"{group} -> {_DIGITS[int(group, 2) ^ 1]}"
        steps.append(Step(short=f"{group} -> {digit}", long=f"The group {group} is the digit {digit}.", slips=(slip,)))
    steps.append(Step(short=digits, long=f"Put together: {digits}."))
    return Derivation(steps=steps, result=digits)


ORACLE = Oracle(
    family="base_conversion",
    read=_read,
    methods={
        "powers-remainders": _through_decimal(_by_powers, _by_remainders),
        "powers-highest": _through_decimal(_by_powers, _by_highest),
        "horner-remainders": _through_decimal(_by_horner, _by_remainders),
        "horner-highest": _through_decimal(_by_horner, _by_highest),
        "bits": _through_bits,
    },
)
