"""One answer that is written to take long to judge keeps no other from the disk, and Ctrl-C ends the run as ever."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from innerloop.evaluate.verify import Attempt, Verifier, extract, literal
from innerloop.schema import Outcome, Question
from innerloop.store import Run
from innerloop.testing import Asked, Reply, serving

BLANK_LINES = "```python\nx=1\n" + "\n" * 19_000 + "y=1\n```"
MANY_NAMES = json.dumps({"tests": "\n".join(f"assert name_{i}(1) == 1" for i in range(2000))})
HOSTILE = {
    "spaces": ("math", "The answer is a" + " " * 100_000 + "b"),
    "line breaks": ("math", "The answer is a," + "\n" * 100_000 + "b"),
    "open braces": ("math", "{" * 1_000_000),
    "boxes in boxes": ("math", "\\boxed{" * 100_000),
    "values": ("math", "\\boxed{" + "1 = " * 4_000 + "2}"),
    "names": ("literal", "[ANSWER]" + "f(" * 9_000),
    "digits": ("literal", "[ANSWER]" + "a" * 19_000),
    "blank lines": ("code", BLANK_LINES),
    "marks": ("code", "~" * 19_000 + "`"),
    "units": ("quantity", "\\boxed{5 " + " " * 19_000 + "☃}"),
}


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_no_answer_takes_a_second_to_judge(name: str) -> None:
    kind, text = HOSTILE[name]
    question = Question(id="q", question="?", answer="5", verifier=kind, metadata=MANY_NAMES)
    verifier = Verifier()
    start = time.process_time()
    verifier._judge(Attempt(question=question, text=text))
    literal.without_front(text)
    assert time.process_time() - start < 4


def test_of_an_endless_text_the_end_is_searched() -> None:
    noise = "so it goes. " * (extract._SEARCHED // 10)
    assert extract.extract_answer(f"{noise}\nThe answer is 7.") == "7"
    assert extract.extract_answer(f"The answer is 7.\n{noise}") is None
    assert extract.extract_answer(f"\\boxed{{7}} <think>{noise}</think> \\boxed{{8}}") == "8"


@pytest.mark.model
@pytest.mark.slow
def test_the_others_are_written_and_an_interrupt_ends_it(tmp_path: Path) -> None:
    rows = [{"id": f"q{i}", "question": f"number {i}?", "answer": "4"} for i in range(21)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def script(asked: Asked) -> Reply:
        said = json.dumps(asked.body)
        if "number 20?" in said:
            return Reply(hang=600)  # so that the run is still busy
        return Reply(text=HOSTILE["spaces"][1] if "number 3?" in said else "The answer is 4", whole=True)

    out = tmp_path / "R"
    with serving(script) as server:
        command = [
            *(sys.executable, "-m", "innerloop", "rollout", "--engine", "server", "--server", server.url),
            *("--api", "chat", "--questions", str(tmp_path / "q.jsonl"), "--samples", "1", "--out", str(out)),
            *("--max-tokens", "200000"),  # or so long an answer would not get in
        ]
        process = subprocess.Popen(
            command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True
        )
        try:
            end = time.monotonic() + 120
            found: dict[str, Outcome | None] = {}
            while len(found) < 20 and process.poll() is None and time.monotonic() < end:
                time.sleep(0.3)
                found = {t.id: t.outcome for t in Run.open(out).trajectories()} if (out / "run.json").exists() else {}
            assert len(found) == 20, (found, process.poll())
            process.send_signal(signal.SIGINT)
            start = time.monotonic()
            _, told = process.communicate(timeout=60)
        finally:
            process.kill()
    assert time.monotonic() - start < 15, "far less on an idle machine"
    assert process.returncode == 130, told
    held = {t.id: t.outcome for t in Run.open(out).trajectories()}
    assert held.pop("q3/sample-0") is Outcome.WRONG
    assert set(held.values()) == {Outcome.RIGHT}
