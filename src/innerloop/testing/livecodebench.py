"""Rows as LiveCodeBench has them, for tests: made by hand, with packed private tests."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from collections.abc import Sequence
from typing import Any


def pack(text: str) -> str:
    """A text pickled, compressed and in base64, as the private tests are."""
    return base64.b64encode(zlib.compress(pickle.dumps(text))).decode()


def row(
    name: str,
    public: Sequence[tuple[str, str]],
    private: Sequence[tuple[str, str]],
    *,
    function: str | None = None,
    starter: str = "",
) -> dict[str, Any]:
    """A row with tests (input, output): of a program, or of the ``function`` of that name."""
    kind = "functional" if function else "stdin"
    listed = [
        json.dumps([{"input": given, "output": wanted, "testtype": kind} for given, wanted in tests])
        for tests in (public, private)
    ]
    return {
        "question_title": f"Title of {name}",
        "question_content": f"What to do in {name}.",
        "platform": "leetcode" if function else "atcoder",
        "question_id": name,
        "contest_id": "contest",
        "contest_date": "2024-10-01T00:00:00",
        "starter_code": starter,
        "difficulty": "easy",
        "public_test_cases": listed[0],
        "private_test_cases": pack(listed[1]),
        "metadata": json.dumps({"func_name": function} if function else {}),
    }
