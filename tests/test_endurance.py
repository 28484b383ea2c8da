"""Long runs: more samples in the same folder, a full disk, a second process, kept verdicts, an engine that hangs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from innerloop.evaluate.verify.sandbox import bubblewrap, sandbox
from innerloop.rollout.engine import Completion
from innerloop.schema import Mode, Outcome, Status
from innerloop.store import Run
from innerloop.testing import ScriptedEngine
from innerloop.verbs.engine_settings import EngineSettings

Cli = Callable[..., Any]


class Speaker:
    """Prompts of bytes, without a model."""

    think_start, think_end, instruction = "<think>", "</think>", ""
    tokenizer_identity = system = None

    def prompt(self, question: Any, *, mode: Mode = Mode.PLAIN) -> list[int]:
        return list(question.question.encode())

    def decode(self, ids: Any) -> str:
        return bytes(ids).decode()

    def split_thinking(self, text: str, *, opened: bool = False) -> tuple[str | None, str]:
        return None, text


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> ScriptedEngine:
    """Every engine is one that says ``said``; by default right for even samples."""
    engine = ScriptedEngine(lambda request: engine.said(request))  # type: ignore[attr-defined]
    # As a function it may be exchanged.
    engine.said = lambda request: f"It is \\boxed{{{6 if request.id.endswith(('0', '2', '4')) else 1}}}."  # type: ignore[attr-defined]
    monkeypatch.setattr(EngineSettings, "open_engine", lambda *_, **options: (engine, Speaker()))
    return engine


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "q.jsonl"
    rows = [{"id": f"q-{i}", "question": f"What is {i} and {6 - i}?", "answer": "6"} for i in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def told(cli: Cli, *arguments: str | Path) -> dict[str, Any]:
    ran = cli(*arguments, "--json")
    assert ran.status == 0, ran.err
    return dict(json.loads(ran.out))


def asked(engine: ScriptedEngine) -> list[str]:
    """What was asked for since the last look."""
    ids = [request.id for request in engine.requests]
    engine.requests.clear()
    return ids


# More of the same


@pytest.mark.slow
def test_more_samples_and_questions_in_the_same_folder(
    cli: Cli, scripted: ScriptedEngine, questions: Path, tmp_path: Path
) -> None:
    out = tmp_path / "R"
    common = ("eval", "--questions", questions, "--out", out)
    first = told(cli, *common, "--n", "2", "--limit", "3")
    assert len(asked(scripted)) == first["samples"] == 6
    before = {entry.id: entry for entry in Run.open(out).trajectories()}

    more = told(cli, *common, "--n", "4", "--limit", "3", "--k", "1,4")
    assert sorted(asked(scripted)) == [f"q-{i}/sample-{j}" for i in range(3) for j in (2, 3)]
    assert (more["questions"], more["samples"]) == (3, 12)
    wider = told(cli, *common, "--n", "4")
    assert sorted(asked(scripted)) == [f"q-{i}/sample-{j}" for i in range(3, 6) for j in range(4)]
    assert (wider["questions"], wider["samples"]) == (6, 24)

    after = {entry.id: entry for entry in Run.open(out).trajectories()}
    assert {name: after[name] for name in before} == before, "what was there is as it was"
    assert {entry.seed for entry in after.values()} == {entry.seed for entry in _apart(cli, questions, tmp_path)}
    stage = Run.open(out).manifest["stages"]["rollout"]
    assert (stage["configuration"]["samples"], stage["configuration"]["limit"]) == (4, None)
    assert [(c["field"], c["from"], c["to"]) for c in stage["changes"]] == [("samples", 2, 4), ("limit", 3, None)]


def _apart(cli: Cli, questions: Path, tmp_path: Path) -> list[Any]:
    """The same samples, drawn at once."""
    told(cli, "eval", "--questions", questions, "--out", tmp_path / "apart", "--n", "4")
    return Run.open(tmp_path / "apart").trajectories()


def test_fewer_samples_and_questions_are_the_first_of_them(
    cli: Cli, scripted: ScriptedEngine, questions: Path, tmp_path: Path
) -> None:
    common = ("eval", "--questions", questions, "--out", tmp_path / "R")
    told(cli, *common, "--n", "4")
    asked(scripted)
    fewer = told(cli, *common, "--n", "1", "--limit", "2")
    assert asked(scripted) == []
    assert (fewer["questions"], fewer["samples"]) == (2, 2)
    assert fewer["rows"][0]["right"] == 2, "the first sample of each is the right one"
    scores = Run.open(tmp_path / "R").scores()
    assert [(score.question_id, score.samples) for score in scores] == [("q-0", 1), ("q-1", 1)]
    ran = cli(*common, "--n", "2", "--k", "4")
    assert (ran.status, ran.err.count("there will be 2 samples per question; raise --n")) == (2, 1)
    assert told(cli, *common, "--n", "4", "--k", "4")["samples"] == 24
    assert asked(scripted) == []


def test_another_temperature_is_another_run(
    cli: Cli, scripted: ScriptedEngine, questions: Path, tmp_path: Path
) -> None:
    common = ("rollout", "--questions", questions, "--out", tmp_path / "R", "--samples", "2")
    told(cli, *common)
    ran = cli(*common, "--temperature", "0.5")
    assert ran.status == 2
    assert "another configuration (temperature: 0.7 → 0.5)" in ran.err


def test_more_samples_without_out_go_on_in_the_same_folder(
    cli: Cli, scripted: ScriptedEngine, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = {told(cli, "rollout", "--questions", questions, "--samples", n)["run"] for n in ("1", "3")}
    assert len(runs) == 1
    assert len(asked(scripted)) == 18


# Verdicts


def test_samples_without_verdicts_get_theirs_at_the_next_start(
    cli: Cli, scripted: ScriptedEngine, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("rollout", "--questions", questions, "--out", tmp_path / "R", "--samples", "2")
    monkeypatch.setattr("innerloop.verbs.judging.Judging._judge", lambda self: self._coming.get())  # dies at once
    assert cli(*common).status == 0
    assert {entry.outcome for entry in Run.open(tmp_path / "R").trajectories()} == {None}
    monkeypatch.undo()
    told(cli, *common)
    outcomes = [entry.outcome for entry in Run.open(tmp_path / "R").trajectories()]
    assert (outcomes.count(Outcome.RIGHT), outcomes.count(Outcome.WRONG)) == (6, 6)


def test_an_accident_of_the_verifier_is_no_verdict(
    cli: Cli, scripted: ScriptedEngine, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.said = lambda request: f"It is \\boxed{{x^2 + {request.id[2]}x}}."  # type: ignore[attr-defined]
    common = ("rollout", "--questions", questions, "--out", tmp_path / "R", "--samples", "1")
    for reason in ("the worker process died (Killed)", "time limit of 10 s"):  # the second start judges again
        reply = {"outcome": "undecided", "reason": reason, "keep": "no"}
        with monkeypatch.context() as patch:
            patch.setattr("innerloop.evaluate.verify.pool.Pool.run", lambda _, jobs, reply=reply: [reply] * len(jobs))
            result = told(cli, *common)
        assert result["modes"][0]["undecided"] == 6
        assert {entry.outcome_reason for entry in Run.open(tmp_path / "R").trajectories()} == {reason}
    asked(scripted)
    assert told(cli, *common)["modes"][0]["undecided"] == 6, "a limit that was met stays"
    assert asked(scripted) == []


@pytest.fixture
def code_question(tmp_path: Path) -> Path:
    path = tmp_path / "code.jsonl"
    row = {"id": "c", "question": "Write double.", "answer": "-", "verifier": "code"}
    path.write_text(json.dumps(row | {"tests": "assert double(2) == 4"}) + "\n")
    return path


@pytest.fixture
def no_bubblewrap(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(bubblewrap, "find", lambda: None)
    for cached in (sandbox._fault, sandbox._gaps, sandbox._warn):
        cached.cache_clear()
    yield
    for cached in (sandbox._fault, sandbox._gaps, sandbox._warn):
        cached.cache_clear()


@pytest.mark.model  # worker processes
def test_code_is_judged_in_the_weaker_sandbox_only_where_it_is_allowed(
    cli: Cli, scripted: ScriptedEngine, code_question: Path, tmp_path: Path, no_bubblewrap: None
) -> None:
    scripted.said = lambda request: "```python\ndef double(x):\n    return 2 * x\n```"  # type: ignore[attr-defined]
    common = ("rollout", "--questions", code_question, "--out", tmp_path / "R", "--samples", "1")
    ran = cli(*common)
    assert ran.status == 0
    assert "code is not judged: no sandbox: bubblewrap is not installed" in ran.err
    assert "--weaker-sandbox" in ran.err
    (entry,) = Run.open(tmp_path / "R").trajectories()
    assert entry.outcome is Outcome.UNDECIDED
    assert (entry.outcome_reason or "").startswith("code was not run: bubblewrap is not installed")
    if sandbox.choose(weaker=True).kind is None:
        pytest.skip(sandbox.choose(weaker=True).reason)

    result = told(cli, *common, "--weaker-sandbox")
    assert result["sandbox"].startswith("weaker sandbox (bubblewrap is not installed); not guaranteed: ")
    assert result["modes"][0]["right"] == 1
    assert Run.open(tmp_path / "R").manifest["stages"]["rollout"]["notes"]["sandbox"] == result["sandbox"]
    assert "code to judge: weaker sandbox" in cli("eval", "--trajectories", tmp_path / "R", "--weaker-sandbox").out


@pytest.mark.model  # worker processes
def test_verdicts_kept_in_a_file_serve_the_next_run(
    cli: Cli, scripted: ScriptedEngine, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.said = lambda request: f"It is \\boxed{{x^2 + {request.id[2]}x}}."  # type: ignore[attr-defined]
    common = ("eval", "--questions", questions, "--n", "1", "--verdict-cache", tmp_path / "cache/verdicts.db")
    first = told(cli, *common, "--out", tmp_path / "A")
    assert (tmp_path / "cache/verdicts.db").stat().st_size > 0
    monkeypatch.setattr("innerloop.evaluate.verify.pool.Pool.run", lambda self, jobs: pytest.fail("judged anew"))
    second = told(cli, *common, "--out", tmp_path / "B")
    assert second["rows"][0]["wrong"] == first["rows"][0]["wrong"] == 6
    assert (first["cached_verdicts"], second["cached_verdicts"]) == (0, 6)


# Progress


@pytest.mark.slow
def test_progress_tells_speed_time_left_and_the_running_score(
    cli: Cli, scripted: ScriptedEngine, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("innerloop.progress.DELAY", 0.0)
    monkeypatch.setattr("innerloop.progress.INTERVAL", 0.0)
    monkeypatch.setattr("innerloop.progress.Lines._next", 0.0)
    real = scripted.said  # type: ignore[attr-defined]

    def slowly(request: Any) -> str:
        time.sleep(0.1)
        return str(real(request))

    scripted.said = slowly  # type: ignore[attr-defined]
    ran = cli("rollout", "--questions", questions, "--out", tmp_path / "R", "--samples", "2")
    lines = [line for line in ran.err.splitlines() if line.startswith("sampling: ")]
    assert any(line.startswith("sampling: 6/12 trajectories, ") and " left, " in line for line in lines)
    assert " tokens/s" in lines[5]
    assert lines[-1].startswith("sampling: 12/12 trajectories, ")
    assert "/s, 50 % [" in lines[-1]
    assert lines[-1].endswith("] right")


# An engine that hangs


def test_what_is_finished_is_on_disk_while_the_engine_hangs(
    cli: Cli, scripted: ScriptedEngine, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("innerloop.verbs.shards.SHARD_SECONDS", 0.5)
    found: list[int] = []
    real = scripted.said  # type: ignore[attr-defined]

    def hangs(request: Any) -> str:
        if len(scripted.requests) == 4:
            start = time.monotonic()
            while len(kept := Run.open(tmp_path / "R").trajectories()) < 3 and time.monotonic() < start + 30:
                time.sleep(0.05)
            found.append(len(kept))
            raise KeyboardInterrupt
        return str(real(request))

    scripted.said = hangs  # type: ignore[attr-defined]
    ran = cli("rollout", "--questions", questions, "--out", tmp_path / "R", "--samples", "2")
    assert (ran.status, found) == (130, [3])
    scripted.said = real  # type: ignore[attr-defined]
    told(cli, "rollout", "--questions", questions, "--out", tmp_path / "R", "--samples", "2")
    assert len(Run.open(tmp_path / "R").trajectories()) == 12


def test_a_failed_request_is_no_sample(cli: Cli, scripted: ScriptedEngine, questions: Path, tmp_path: Path) -> None:
    def fails(request: Any) -> Completion:
        return Completion(
            id=request.id, token_ids=(), text="", status=Status.ERROR, reason="the server is gone", seed=request.seed
        )

    scripted.said = fails  # type: ignore[attr-defined]
    result = told(cli, "rollout", "--questions", questions, "--out", tmp_path / "R", "--limit", "1")
    assert (result["modes"][0]["failed"], result["modes"][0]["undecided"]) == (1, 1)


# Real processes


SCRIPTED = """
import sys, time
sys.path.insert(0, {tests!r})
from test_endurance import Speaker
from innerloop.testing import ScriptedEngine
from innerloop.verbs import shards
from innerloop.verbs.engine_settings import EngineSettings

def said(request):
    time.sleep({seconds})
    return "padding " * 20 + str(hash(request.id)) * 200 + " so it is \\\\boxed{{6}}."

engine = ScriptedEngine(said)
EngineSettings.open_engine = lambda *_, **options: (engine, Speaker())
shards.SHARD_SECONDS = 0.1
from innerloop.cli import main
sys.exit(main(sys.argv[1:]))
"""


def start(seconds: float, *arguments: str | Path) -> subprocess.Popen[str]:
    code = SCRIPTED.format(tests=str(Path(__file__).parent), seconds=seconds)
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root on Linux")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.model  # processes of its own
def test_a_disk_that_really_fills_up(cli: Cli, small_disk: Path, questions: Path, scripted: ScriptedEngine) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(360 << 10))
    arguments = ("rollout", "--questions", questions, "--samples", "40", "--out", small_disk / "R")
    process = start(0.02, *arguments)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (2, ""), err
    last = err.splitlines()[-1]
    assert last.startswith(f"innerloop: {small_disk}/R/trajectories/"), err
    assert last.endswith(
        "No space left on device; free some space and run the same command again, what was finished is kept"
    )
    assert "Traceback" not in err
    kept = {entry.id for entry in Run.open(small_disk / "R").trajectories()}
    assert 0 < len(kept) < 240
    assert Run.open(small_disk / "R").manifest["stages"]["rollout"]["status"] in ("failed", "running")
    ballast.unlink()
    result = told(cli, *arguments)
    assert result["new_trajectories"] == 240 - len(kept)
    found = [entry.id for entry in Run.open(small_disk / "R").trajectories()]
    assert len(found) == len(set(found)) == 240


@pytest.mark.model  # processes of its own
def test_a_second_process_on_the_same_folder_is_refused(cli: Cli, questions: Path, tmp_path: Path) -> None:
    arguments = ("eval", "--questions", questions, "--n", "40", "--out", tmp_path / "R")
    process = start(0.2, *arguments)
    try:
        deadline = time.monotonic() + 60
        while not list((tmp_path / "R").glob("trajectories/*.parquet")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        ran = cli(*arguments)
        assert (ran.status, ran.out) == (2, "")
        assert ran.err == (
            f"innerloop: {tmp_path / 'R'}: in use by another innerloop process (pid {process.pid}); "
            "wait for it or choose another --out\n"
        )
    finally:
        process.kill()
        process.communicate()
