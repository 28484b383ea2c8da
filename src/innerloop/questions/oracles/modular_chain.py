"""``modular_chain`` (ours, `innerloop.questions.modular_chain`): left to right, modulo m after each operation."""

from __future__ import annotations

import re
from dataclasses import dataclass

from innerloop.questions.oracles.oracle import Derivation, Oracle, Step
from innerloop.schema import Question

_ASKED = re.compile(r"(\d+)((?:[+*-]\d+)+)=\? mod (\d+), left to right")
_OPERATION = re.compile(r"([+*-])(\d+)")


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The first operand, then operators with their operands."""

    first: int
    operations: tuple[tuple[str, int], ...]
    modulus: int


def _read(question: Question) -> Chain | None:
    found = _ASKED.fullmatch(question.question)
    if found is None or not int(found[3]):
        return None
    operations = tuple((sign, int(operand)) for sign, operand in _OPERATION.findall(found[2]))
    return Chain(first=int(found[1]), operations=operations, modulus=int(found[3]))


def _apply(sign: str, a: int, b: int) -> int:
    return a + b if sign == "+" else a - b if sign == "-" else a * b


def _running(chain: Chain) -> Derivation:
    """The running value, reduced after every operation."""
    steps, value = [], chain.first
    for sign, operand in chain.operations:
        left, whole = f"{value}{sign}{operand}", _apply(sign, value, operand)
        value = whole % chain.modulus
        steps.append(
            Step(
                short=f"{left}={value}",
                long=f"{left} is {whole}, and {whole} mod {chain.modulus} is {value}.",
                slips=_others(left, value, chain.modulus),
            )
        )
    return _ended(steps, value)


def _reduce_last(chain: Chain) -> Derivation:
    """Whole numbers all along, one remainder at the end."""
    steps, value = [], chain.first
    for sign, operand in chain.operations:
        left = f"{value}{sign}{operand}"
        value = _apply(sign, value, operand)
        slips = tuple(f"{left}={value + off}" for off in (1, -1, 10))
        steps.append(Step(short=f"{left}={value}", long=f"Without reducing, {left} is {value}.", slips=slips))
    result = value % chain.modulus
    left = f"{value}%{chain.modulus}"
    says = f"At last, {value} mod {chain.modulus} is {result}."
    steps.append(Step(short=f"{left}={result}", long=says, slips=_others(left, result, chain.modulus)))
    return _ended(steps, result)


def _from_the_end(chain: Chain) -> Derivation:
    """The operations behind a place as one: times f, plus s. Joined from the last to the first, then applied."""
    steps, factor, shift, m = [], 1, 0, chain.modulus
    for sign, operand in reversed(chain.operations):
        if sign == "*":
            factor = factor * operand % m
        else:
            shift = _apply(sign, shift, factor * operand) % m
        line = f"{sign}{operand}:*{factor}+{shift}"
        says = f"From {sign}{operand} on, everything together is: times {factor}, plus {shift}."
        steps.append(
            Step(short=line, long=says, slips=tuple(f"{sign}{operand}:*{factor}+{(shift + off) % m}" for off in (1, 2)))
        )
    result = (chain.first * factor + shift) % m
    left = f"{chain.first}*{factor}+{shift}"
    says = f"The first number, {chain.first}, times {factor} plus {shift} is {result} mod {m}."
    steps.append(Step(short=f"{left}={result}", long=says, slips=_others(left, result, m)))
    return _ended(steps, result)


def _others(left: str, value: int, modulus: int) -> tuple[str, ...]:
    """Neighbouring residues."""
    return tuple(f"{left}={(value + off) % modulus}" for off in (1, modulus - 1))


def _ended(steps: list[Step], value: int) -> Derivation:
    return Derivation(steps=[*steps, Step(short="", long=f"The result is {value}.")], result=str(value))


ORACLE = Oracle(
    family="modular_chain",
    read=_read,
    methods={"running": _running, "reduce-last": _reduce_last, "from-the-end": _from_the_end},
    joint=";",
)
