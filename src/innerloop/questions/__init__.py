"""Questions from files, the Hugging Face hub, reasoning-gym families and named benchmarks."""

from __future__ import annotations

from innerloop.questions.sources import load, load_all

__all__ = ["load", "load_all"]
