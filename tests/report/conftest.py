"""Run folders for the page's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from innerloop.testing.runs import write_run


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`innerloop.testing.runs.write_run` in a folder of its own."""

    def make(*records: Any, **more: Any) -> Path:
        return write_run(tmp_path_factory.mktemp("run") / "R", *records, **more)

    return make
