"""Replies kept by content."""

from __future__ import annotations

import json
import sqlite3

import pytest

from innerloop.evaluate.verify import Verifier, cache
from innerloop.evaluate.verify.cache import Cache, key
from innerloop.evaluate.verify.job import Job, Program, Reply
from innerloop.schema import Outcome, Question

pytestmark = pytest.mark.model  # servers and worker processes: second tier

WORK = Job(module="m", answer="a", payload={"reference": "1", "answer": "2"})


def question(answer: str) -> Question:
    return Question(id="q", question="?", answer=answer)


def test_the_key_is_the_content():
    surroundings = {"limits": {"time": 1}}
    same = Job(module="m", answer="written otherwise", payload={"answer": "2", "reference": "1"})
    assert key(WORK, surroundings) == key(same, surroundings)
    others = [
        Job(module="n", answer="a", payload=WORK.payload),
        Job(module="m", answer="a", payload={"reference": "1", "answer": "3"}),
        Job(module="m", answer="a", payload={"reference": "\ud800", "answer": "3"}),
        Program(sources=("1", "2"), answer="a"),
        Program(sources=("12",), answer="a"),
    ]
    keys = [key(work, surroundings) for work in (WORK, *others)]
    assert len(set(keys)) == len(keys)


def test_limits_belong_to_programs_and_versions_to_all(monkeypatch):
    program = Program(sources=("1",), answer="a")
    assert key(program, {"limits": 1}) != key(program, {"limits": 2})
    before = key(WORK, {})
    monkeypatch.setattr(cache, "_versions", lambda: ("another sympy",))
    assert key(WORK, {}) != before


def test_accidents_are_not_kept_and_limits_only_for_the_run(tmp_path):
    file = tmp_path / "sub" / "verdicts.sqlite"
    replies = {
        "good": Reply(outcome="wrong", reason="why"),
        "limit": Reply(outcome="undecided", reason="time limit", keep="run"),
        "accident": Reply(outcome="undecided", reason="died", keep="no"),
    }
    first = Cache(file)
    first.put(replies)
    assert [first.get(name) for name in replies] == [replies["good"], replies["limit"], None]
    first.close()
    second = Cache(file)
    assert [second.get(name) for name in replies] == [replies["good"], None, None]
    second.close()


def test_two_may_share_a_file(tmp_path):
    file = tmp_path / "verdicts.sqlite"
    one, other = Cache(file), Cache(file)
    one.put({"a": Reply(outcome="right")})
    other.put({"b": Reply(outcome="wrong"), "a": Reply(outcome="right")})
    assert (one.get("b"), other.get("a")) == (Reply(outcome="wrong"), Reply(outcome="right"))
    one.close()
    other.close()


@pytest.mark.parametrize("content", [b"no database", b""])
def test_a_file_of_another_kind_is_done_without(tmp_path, content, caplog):
    file = tmp_path / "verdicts.sqlite"
    file.write_bytes(content)
    kept = Cache(file)
    kept.put({"a": Reply(outcome="right")})
    assert kept.get("a") == Reply(outcome="right")
    kept.close()
    if content:
        assert "verdicts are not kept there" in caplog.text
        assert file.read_bytes() == content, "what is not ours is left alone"


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    kept = Cache(tmp_path / "file" / "verdicts.sqlite")
    assert kept.get("a") is None
    assert "verdicts are not kept there" in caplog.text


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(cache, "_MOST", 3)
    kept = Cache()
    for i in range(5):
        kept.put({str(i): Reply(outcome="right")})
    assert [kept.get(str(i)) is not None for i in range(5)] == [False, False, True, True, True]


def test_the_same_answer_is_judged_once(monkeypatch):
    with Verifier() as verifier:
        asked = []

        def run(jobs):
            asked.extend(job.payload["answer"] for job in jobs)
            return [Reply(outcome="right" if "y" in job.payload["answer"] else "wrong") for job in jobs]

        monkeypatch.setattr(verifier._pool, "run", run)
        items = [(question("x + y"), rf"\boxed{{{answer}}}") for answer in ("y+x", "x-1", "y+x")]
        right, wrong = Outcome.RIGHT, Outcome.WRONG
        assert [v.outcome for v in verifier.verify(items)] == [right, wrong, right]
        assert [v.outcome for v in verifier.verify(items[::-1])] == [right, wrong, right]
        assert asked == ["y+x", "x-1"]
        assert verifier.verify([(question("x + z"), r"\boxed{y+x}")])[0].outcome is right
        assert asked == ["y+x", "x-1", "y+x"], "another reference is another content"


def test_a_file_spares_the_next_run_its_workers(tmp_path, monkeypatch):
    file = tmp_path / "verdicts.sqlite"
    items = [(question("x^2-1"), r"\boxed{(x-1)(x+1)}"), (question("x^2-1"), r"\boxed{x}")]
    with Verifier(cache_file=file) as first:
        verdicts = first.verify(items)
    assert [v.outcome for v in verdicts] == [Outcome.RIGHT, Outcome.WRONG]
    with Verifier(cache_file=file) as second:
        assert second.verify(items) == verdicts
        assert all(worker._process is None for worker in second._pool.workers)
    with sqlite3.connect(file) as connection:
        rows = connection.execute("SELECT reply FROM replies").fetchall()
    connection.close()
    assert sorted(json.loads(row[0])["outcome"] for row in rows) == ["right", "wrong"]
