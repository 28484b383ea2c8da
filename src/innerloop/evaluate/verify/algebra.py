"""What our own reader does not know, judged by math-verify in a worker process.

math-verify wants the reference first; its own time limits are off, because they need a main thread and signals, and
nothing but a kill stops sympy once it hangs.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from innerloop.evaluate.verify.job import Reply


def prepare() -> None:
    """Imports what ``run`` needs, before the item's time begins; the first formula takes sympy longer than others."""
    _warm()


@lru_cache
def _warm() -> None:
    run({"reference": r"\frac{1}{2} x + \sqrt{2}", "answer": r"\sqrt{2} + x/2"})


def run(payload: dict[str, Any]) -> Reply:
    """In the worker: the comparison itself. Raises whatever math-verify and sympy raise."""
    from math_verify import verify

    reference, answer = _parsed(payload["reference"]), _parsed(payload["answer"])
    if not reference:
        return Reply(outcome="undecided", reason="math-verify cannot read the reference answer")
    same = bool(answer) and verify(reference, answer, timeout_seconds=None, raise_on_error=True)
    return Reply(outcome="right" if same else "wrong")


def _parsed(text: str) -> list[Any]:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    config = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())
    parsed: list[Any] = parse(rf"\boxed{{{text}}}", extraction_config=config, parsing_timeout=None, raise_on_error=True)
    return parsed
