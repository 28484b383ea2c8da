"""The code in an answer: what is found stands in the text, and the program to run is one of the ways to read it."""

from __future__ import annotations

import json
import time

from innerloop.evaluate.verify import code
from innerloop.evaluate.verify.job import Program
from innerloop.schema import Question, Verdict

INSTRUMENT = ("innerloop.evaluate.verify.code",)
_AT_LEAST = 0.5  # seconds of the processor that any text may take


def one(data: bytes) -> None:
    """The first byte says how the question asks; the last line of the input may be its tests."""
    how, text = (data[0], data[1:].decode(errors="replace")) if data else (0, "")
    text, _, tests = text.rpartition("\n") if how & 1 else (text, "", "assert f(1) == 2")
    parts = {"tests": tests} | ({"entry_point": "f"} if how & 2 else {}) | ({"setup": "import f"} if how & 4 else {})
    question = Question(id="q", question="def f(x):\n", answer="", verifier="code", metadata=json.dumps(parts))
    start = time.process_time()
    found = code.judge(question, text, complete=not how & 8)
    defined = code._defined(text)
    assert time.process_time() - start < _AT_LEAST
    assert all(name and not any(letter.isspace() for letter in name) for name in defined)
    if isinstance(found, Program):
        assert found.answer.strip()
        assert any(found.answer in source for source in found.sources)
        lines = {line.strip() for line in text.splitlines()}
        assert (
            how & 8
            or "`" in text
            or "<" in text
            or "[" in text
            or {line.strip() for line in found.answer.splitlines()} <= lines | {""}
        )
    else:
        assert isinstance(found, Verdict)
