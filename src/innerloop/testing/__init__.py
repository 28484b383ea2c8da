"""Fakes for tests, ours and yours: tiny random models of every architecture, a byte tokenizer, a scripted engine."""

from __future__ import annotations

from innerloop.testing.byte_tokenizer import byte_tokenizer
from innerloop.testing.engine import ScriptedEngine
from innerloop.testing.tiny import ARCHITECTURES, Architecture, save_tiny, tiny

__all__ = ["ARCHITECTURES", "Architecture", "ScriptedEngine", "byte_tokenizer", "save_tiny", "tiny"]
