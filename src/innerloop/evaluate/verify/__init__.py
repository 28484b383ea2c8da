"""Is a final answer right? One file per verifier; ``Verifier`` runs them, in worker processes where they may hang."""

from __future__ import annotations

from innerloop.evaluate.verify.extract import DELIMITERS, extract_answer
from innerloop.evaluate.verify.verifier import Attempt, Verifier

__all__ = ["DELIMITERS", "Attempt", "Verifier", "extract_answer"]
