"""Oracles: step-by-step derivations of the answers of reasoning-gym families, one family a file.

``traces(question)`` gives trajectories of different methods; see `innerloop.questions.oracles.oracle`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from innerloop.errors import InputError
from innerloop.nearest import nearest
from innerloop.questions.oracles.oracle import PREFIX, Derivation, Oracle, Step, Style, Trace
from innerloop.schema import Question

__all__ = ["FAMILIES", "Derivation", "Oracle", "Step", "Style", "Trace", "oracle", "oracle_of", "traces"]

FAMILIES = (
    "base_conversion",
    "chain_sum",
    "count_bits",
    "gcd",
    "gsm_symbolic",
    "lcm",
    "modular_chain",
    "number_sorting",
    "products",
    "simple_equations",
    "spell_backward",
    "string_manipulation",
)


def oracle(family: str) -> Oracle[Any]:
    """The oracle of a family. ``InputError`` for one that has none."""
    if family not in FAMILIES:
        raise InputError(
            f"gym:{family}: no oracle for this family (there is one for {', '.join(FAMILIES)})"
            f"{nearest(family, FAMILIES)}"
        )
    found: Oracle[Any] = import_module(f"{__name__}.{family}").ORACLE
    return found


def oracle_of(question: Question) -> Oracle[Any]:
    """The oracle of a question's family. ``InputError`` for questions that are not from the gym."""
    if not (question.verifier or "").startswith(PREFIX):
        raise InputError(
            f"question '{question.id}' is not from the gym (its verifier is {question.verifier or 'math'}): oracles "
            f"know gym:FAMILY questions only, with FAMILY one of {', '.join(FAMILIES)}"
        )
    return oracle((question.verifier or "").removeprefix(PREFIX))


def traces(question: Question, *, style: Style | str = Style.SHORT, seed: int = 0) -> list[Trace]:
    """The traces of a question by the oracle of its family, in an order drawn from the seed; see `Oracle.traces`."""
    return oracle_of(question).traces(question, style=style, seed=seed)
