"""``gsm_symbolic``: the worked solution that the family writes for each question.

There is one way only, the family's own. The long style is its text; the bare styles are the calculations in it, and
exist where every calculation can be read and comes out as the text says, the last one as the answer.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from fractions import Fraction

from innerloop.questions.oracles.oracle import Derivation, Oracle, Step
from innerloop.schema import Question

_TOKEN = re.compile(
    r"(?P<number>(?<!\d)\d[\d,]*(?:\.\d+)?(?!\w))|(?P<sign>[-+*/x×=])(?![A-Za-z])|(?P<word>[^\W\d]+)|(?P<other>\S)"
)
_LONG = re.compile(r"(?<![\d,.])[\d,.]{101}")  # a number that no solution works with
_MOST_NUMBERS = 100  # in one calculation
_SILENT = frozenset("$€£")  # between a sign and its number
_SIGNS: dict[str, tuple[int, Callable[[Fraction, Fraction], Fraction]]] = {
    "+": (1, operator.add),
    "-": (1, operator.sub),
    "*": (2, operator.mul),
    "/": (2, operator.truediv),
}


def _read(question: Question) -> tuple[str, str] | None:
    """The worked solution and the number that its last line has to hold."""
    if not question.solution or _LONG.search(question.solution):
        return None
    return question.solution, question.answer


def _worked(task: tuple[str, str]) -> Derivation | None:
    text, answer = task
    lines = text.splitlines()
    numbers = [_value(match["number"]) for match in _TOKEN.finditer(lines[-1]) if match["number"]]
    if _value(answer) not in numbers:
        return None
    found = [_calculations(line) for line in lines]
    known = [one for line in found for one in line or ()]
    whole = all(line is not None for line in found) and known and known[-1][1] == _value(answer)
    steps = [
        _step(line, own) if whole and own else Step(short="", long=line) for line, own in zip(lines, found, strict=True)
    ]
    return Derivation(steps=steps, result=answer)


def _step(line: str, calculations: list[tuple[str, Fraction]]) -> Step:
    """A line of the text; its slips have the last calculation one off."""
    *before, (left, value) = calculations
    start = "".join(f"{own} = {_written(result)}; " for own, result in before) + left
    slips = tuple(f"{start} = {_written(value + off)}" for off in (1, -1, 10))
    return Step(short=f"{start} = {_written(value)}", long=line, slips=slips)


def _calculations(line: str) -> list[tuple[str, Fraction]] | None:
    """``2 beds * 3 = 6 beds`` as 2 * 3 and 6, units left out; None where one cannot be read or is not true."""
    tokens = [match for match in _TOKEN.finditer(line) if match.group() not in _SILENT]
    kinds = [(match.lastgroup or "", match.group().replace("x", "*").replace("×", "*")) for match in tokens]
    found = []
    for place, (kind, text) in enumerate(kinds):
        if (kind, text) != ("sign", "="):
            continue
        after = kinds[place + 1] if place + 1 < len(kinds) else ("", "")
        left = _before(kinds, place)
        if after[0] != "number" or left is None or _evaluated(left) != _value(after[1]):
            return None
        found.append((" ".join(left), _value(after[1])))
    return found


def _before(tokens: list[tuple[str, str]], place: int) -> list[str] | None:
    """The calculation that ends before a place: numbers and signs in turn, with the words of units between them."""
    parts: list[str] = []
    for kind, text in map(tokens.__getitem__, range(place - 1, -1, -1)):
        wanted = "number" if not parts or parts[-1] in _SIGNS else "sign"
        if kind == wanted and text != "=":
            parts.append(text.replace(",", "") if kind == "number" else text)
        elif kind != "word":
            break
    if (parts and parts[-1] in _SIGNS) or len(parts) > 2 * _MOST_NUMBERS:
        return None
    return parts[::-1] if len(parts) > 1 else None


def _evaluated(parts: list[str]) -> Fraction | None:
    """Products before sums; None where something is divided by 0."""
    values = [_value(parts[0])]
    signs: list[str] = []
    for sign, number in zip(parts[1::2], parts[2::2], strict=True):
        if _SIGNS[sign][0] == 1:
            signs.append(sign)
            values.append(_value(number))
        elif sign == "/" and _value(number) == 0:
            return None
        else:
            values[-1] = _SIGNS[sign][1](values[-1], _value(number))
    total = values[0]
    for sign, value in zip(signs, values[1:], strict=True):
        total = _SIGNS[sign][1](total, value)
    return total


def _value(number: str) -> Fraction:
    return Fraction(number.replace(",", ""))


def _written(value: Fraction) -> str:
    return str(value) if value.denominator == 1 else str(float(value))


ORACLE = Oracle(family="gsm_symbolic", read=_read, methods={"worked": _worked})
