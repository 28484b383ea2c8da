"""Fakes for tests, ours and yours: tiny random models, a byte tokenizer, a scripted engine, a scripted server."""

from __future__ import annotations

from innerloop.testing.engine import ScriptedEngine
from innerloop.testing.server import Asked, Reply, ScriptedServer, serving
from innerloop.testing.tiny import ARCHITECTURES, Architecture, save_tiny, tiny
from innerloop.tokenizers import byte_tokenizer

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "Asked",
    "Reply",
    "ScriptedEngine",
    "ScriptedServer",
    "byte_tokenizer",
    "save_tiny",
    "serving",
    "tiny",
]
