"""Plain formulas and plain values, read without evaluating anything.

Some scorers of reasoning-gym hand text to sympy's ``parse_expr`` or to ``eval``, which run whatever Python stands
there. They get what ``read`` gives back instead: the text goes through Python's parser, which runs nothing, every node
of the tree has to be one that a formula needs, and the formula is written anew from these nodes. So no name, no
attribute, no string, no call of anything but ``FUNCTIONS`` gets that far. What has powers too large for any answer is
refused too, because nothing but a kill ends their computation.
"""

from __future__ import annotations

import ast
import math
import re
import string
import warnings
from collections.abc import Callable
from typing import Any

_ROOTS = ("sin", "cos", "tan", "sec", "csc", "cot")
FUNCTIONS = frozenset(
    {*_ROOTS, *(f"a{name}" for name in _ROOTS), *(f"{way}{name}h" for way in ("", "a") for name in _ROOTS[:3])}
    | {"exp", "log", "ln", "sqrt", "Abs"}
)
# sympy reads these letters as its own classes and registries
_NAMES = frozenset(string.ascii_letters) - set("NOQS") | {"pi"}
# the functions that sympy replaces by a number, which may be large
_FOLDED: dict[str, Callable[[float], float]] = {
    "sqrt": math.sqrt,
    "exp": math.exp,
    "log": lambda size: max(abs(math.log(size)), 1.0),  # the size of a variable is 1, its logarithm is not 0
    "ln": lambda size: max(abs(math.log(size)), 1.0),
    "Abs": abs,
}
_LONGEST = 20_000  # characters
_EXPONENT = 1000.0  # the largest exponent, and the most digits that a power may have
_UNREADABLE = (SyntaxError, ValueError, TypeError, MemoryError, RecursionError, OverflowError, ZeroDivisionError)

_FRACTION = re.compile(r"\\[dtc]?frac\{([^{}]*)\}\{([^{}]*)\}")
_BRACES = re.compile(r"(\\sqrt|\*\*)\{([^{}]*)\}")
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_NESTED = 10  # levels of fractions and roots that are read
_SIGNS_OF = (("\\left", ""), ("\\right", ""), ("\\,", ""), ("\\!", ""), ("\\;", " "), ("$", ""), ("^", "**"))
_WORDS = {"times": "*", "cdot": "*", "div": "/", "pi": " pi "}
_WRITTEN = str.maketrans({"×": "*", "·": "*", "⋅": "*", "∗": "*", "÷": "/", "−": "-", "{": "(", "}": ")"})


def read(text: str) -> str | None:
    """The formula in Python's signs, written anew; None where the text is anything else."""
    if len(text) > _LONGEST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "1(2)": 'int' object is not callable
            tree = ast.parse(_in_python(text), mode="eval").body
        _size(tree)
        return ast.unparse(tree)
    except _UNREADABLE:
        return None


def literal(text: str) -> Any:
    """The value of a Python literal. ``ValueError`` where the text is anything else."""
    try:
        return ast.literal_eval(text.strip())
    except _UNREADABLE as error:
        raise ValueError(f"no plain value ({type(error).__name__})") from error


def _in_python(text: str) -> str:
    """LaTeX's operators, fractions, roots and functions in Python's signs."""
    for old, new in _SIGNS_OF:
        text = text.replace(old, new)
    for _ in range(_NESTED):
        inner = _BRACES.sub(r"\1(\2)", _FRACTION.sub(r"((\1)/(\2))", text))
        if inner == text:
            break
        text = inner
    text = _COMMAND.sub(lambda found: _WORDS.get(found[1], found[1]), text)
    return " ".join(text.translate(_WRITTEN).split())


def _size(node: ast.expr) -> float:
    """About how large the numbers in a formula can get, with 1 for a variable.

    ``ValueError`` for a node that no formula needs, ``OverflowError`` for a power that is too large.
    """
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool) and not math.isinf(value):
            return float(value)
        case ast.Name(id=name) if name in _NAMES:
            return 1.0
        case ast.UnaryOp(op=ast.UAdd() | ast.USub(), operand=operand):
            return _size(operand)
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in FUNCTIONS:
            return _FOLDED.get(name, lambda _: 1.0)(_size(argument))
        case ast.BinOp(left=left, op=op, right=right):
            return _operated(_size(left), op, _size(right))
    raise ValueError(type(node).__name__)


def _operated(left: float, op: ast.operator, right: float) -> float:
    match op:
        case ast.Add() | ast.Sub():
            return left + right
        case ast.Mult():
            return left * right
        case ast.Div() | ast.FloorDiv():
            return left * max(right, 1 / right)
        case ast.Pow():
            base = max(left, 1 / left) if left else 1.0
            if right * max(math.log10(base), 1.0) > _EXPONENT:
                raise OverflowError
            return math.pow(base, right)
    raise ValueError(type(op).__name__)
