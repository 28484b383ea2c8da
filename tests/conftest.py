"""Fixtures that several test folders share."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import hypothesis
import pytest

if TYPE_CHECKING:
    from innerloop.models import LoadedModel

# A shell that starts the tests in the background has them ignore Ctrl-C, and every process that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says more about the machine's other work than about the code.
hypothesis.settings.register_profile("steady", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("steady")


def pytest_configure() -> None:
    """An engine that ``INNERLOOP_ENGINES`` names must be installed: its tests are not to be skipped without a word."""
    from importlib.util import find_spec

    packages = {"llamacpp": "xllamacpp", "vllm": "vllm"}
    for engine in filter(None, os.environ.get("INNERLOOP_ENGINES", "").split(",")):
        if engine not in packages or find_spec(packages[engine]) is None:
            raise pytest.UsageError(f"INNERLOOP_ENGINES names {engine}, which is not installed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Half characters that a test logged or printed on purpose cannot travel from a worker of xdist to its master."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real questions and trajectories, kept outside the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("INNERLOOP_DATA", default))
    if not (folder / "gsm8k_test.jsonl").exists():
        pytest.skip(f"no real data at {folder} (set INNERLOOP_DATA to the folder that holds gsm8k_test.jsonl)")
    return folder


@pytest.fixture(scope="session")
def smollm2() -> LoadedModel:
    """The bundled real model, in float32."""
    from innerloop.models import load

    return load("smollm2", dtype="float32", device="cpu")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a fresh model of 0.9 million weights that reads characters; nobody writes into it."""
    from innerloop.outer.init import fresh, save

    folder = tmp_path_factory.mktemp("fresh") / "m"
    save(*fresh("tiny", "characters", 0), folder)
    return folder


class Ran(NamedTuple):
    """What a command line left: exit status, standard output, standard error."""

    status: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run a command line in this process."""
    from innerloop.cli import main

    def run(*arguments: str | Path) -> Ran:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return Ran(status, *capsys.readouterr())

    return run


@pytest.fixture
def questions_file(tmp_path: Path) -> Path:
    """Six questions with worked solutions, some of several sentences."""
    rows = [
        {
            "id": f"q-{i}",
            "question": f"What is {i} and {i}?",
            "answer": str(2 * i),
            "solution": f"We add {i} and {i}. That gives {2 * i}.",
        }
        for i in range(6)
    ]
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random Llama and the byte tokenizer."""
    from innerloop.testing import save_tiny

    return save_tiny("llama", tmp_path_factory.mktemp("models") / "tiny-llama")
