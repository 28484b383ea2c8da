"""``simple_equations``: a linear equation in one letter whose solution is a whole number."""

from __future__ import annotations

import re
from dataclasses import dataclass

from innerloop.questions.oracles.equation import equation, near
from innerloop.questions.oracles.oracle import Derivation, Oracle, Step
from innerloop.schema import Question

_RIGHT = re.compile(r"-?\d+")
_TERM = re.compile(r"(?P<sign>[+-]?)\s*(?:(?P<factor>\d+)\*)?(?P<rest>\d+|[a-z])\s*")


@dataclass(frozen=True, kw_only=True)
class Linear:
    """``slope * letter + shift = right``."""

    letter: str
    slope: int
    shift: int
    right: int

    @property
    def left(self) -> str:
        """The left side as it is written here: ``3*x - 5``."""
        shift = f" {'-' if self.shift < 0 else '+'} {abs(self.shift)}" if self.shift else ""
        return f"{self.slope}*{self.letter}{shift}"


def _read(question: Question) -> Linear | None:
    """None too where the letter has dropped out (``0 = 0``): then every number is a solution."""
    before, _, right = question.question.rstrip().rpartition(" = ")
    left = before.rpartition("\n")[2].partition(": ")[2]
    if not _RIGHT.fullmatch(right):
        return None
    slope = shift = place = 0
    letter = ""
    while term := _TERM.match(left, place):
        value = (-1 if term["sign"] == "-" else 1) * int(term["factor"] or 1)
        if term["rest"].isdigit():
            shift += value * int(term["rest"])
        else:
            slope, letter = slope + value, term["rest"]
        place = term.end()
    if place < len(left) or not slope or (int(right) - shift) % slope:
        return None
    return Linear(letter=letter, slope=slope, shift=shift, right=int(right))


def _isolate(task: Linear) -> Derivation:
    """What is added goes to the other side, then divide."""
    rest = task.right - task.shift
    steps = [Step(short="", long=f"Solve {task.left} = {task.right}.")]
    if task.shift:
        sign, moved = ("+", -task.shift) if task.shift < 0 else ("-", task.shift)
        left = f"{task.slope}*{task.letter} = {task.right} {sign} {moved}"
        says = f"{{}} after {'adding' if sign == '+' else 'subtracting'} {moved} on both sides."
        steps.append(equation(left, rest, says))
    return _ended(task, [*steps, *_divided(task, rest)])


def _other_side(task: Linear) -> Derivation | None:
    """The letter's term goes to the other side and changes its sign: right − slope * letter = shift."""
    if not task.shift:
        return None
    turned = f"{_signed(-task.slope)}*{task.letter}"
    start = f"{task.shift} = {task.right} {turned}"
    back = task.shift - task.right
    steps = [
        Step(short=start, long=f"Bring the letter to the other side: {start}."),
        equation(f"{-task.slope}*{task.letter} = {task.shift} {_signed(-task.right)}", back, "Subtract: {}."),
    ]
    value = back // -task.slope
    steps.append(equation(f"{task.letter} = {back} / {-task.slope}", value, "Divide: {}."))
    return _ended(task, steps)


def _two_trials(task: Linear) -> Derivation:
    """The values at 0 and at 1 tell how much each unit adds, and so how many units are needed."""
    zero, one = task.shift, task.slope + task.shift
    rest = task.right - zero
    steps = [
        _tried(task, 0, zero),
        _tried(task, 1, one),
        equation(f"{one} - {_bracketed(zero)}", task.slope, "One unit more changes it by {}."),
        equation(f"{task.right} - {_bracketed(zero)}", rest, "From the value at 0 it has to change by {}."),
        *_divided(task, rest),
    ]
    return _ended(task, steps)


def _search(task: Linear) -> Derivation | None:
    """Double a guess until it is too far, then halve the interval."""
    steps: list[Step] = []
    value = (task.right - task.shift) // task.slope
    if value < 1:
        return None
    low, high = 0, 1
    while high < value:
        steps += _guess(task, high, "too low" if task.slope > 0 else "too high")
        low, high = high, high * 2
    middle = high
    while middle != value:
        steps += _guess(task, middle, "too high" if (middle > value) == (task.slope > 0) else "too low")
        low, high = (low, middle) if middle > value else (middle, high)
        middle = (low + high) // 2
    steps.append(_tried(task, value, task.right))
    return _ended(task, steps)


def _guess(task: Linear, guess: int, says: str) -> list[Step]:
    result = task.slope * guess + task.shift
    return [_tried(task, guess, result), Step(short=f"{guess}: {says}", long=f"{task.right} is wanted: {says}.")]


def _tried(task: Linear, at: int, value: int) -> Step:
    shift = f" {_signed(task.shift)}" if task.shift else ""
    return equation(f"{task.slope} * {at}{shift}", value, f"With {task.letter} = {at}: {{}}.")


def _divided(task: Linear, rest: int) -> list[Step]:
    value = rest // task.slope
    if task.slope == 1:
        line = f"{task.letter} = {value}"
        return [Step(short=line, long=f"{line}.", slips=near(task.letter, value))]
    return [equation(f"{task.letter} = {rest} / {task.slope}", value, "Divide by what stands before the letter: {}.")]


def _signed(value: int) -> str:
    return f"- {-value}" if value < 0 else f"+ {value}"


def _bracketed(value: int) -> str:
    return f"({value})" if value < 0 else str(value)


def _ended(task: Linear, steps: list[Step]) -> Derivation:
    value = (task.right - task.shift) // task.slope
    line = f"{task.letter} = {value}"
    bare = "" if steps[-1].short == line else line
    return Derivation(steps=[*steps, Step(short=bare, long=f"So {line}.")], result=str(value))


ORACLE = Oracle(
    family="simple_equations",
    read=_read,
    methods={"isolate": _isolate, "other-side": _other_side, "two-trials": _two_trials, "search": _search},
)
