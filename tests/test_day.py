"""A chat template that writes the day: the day is an input that a run keeps, so that all who read it ask alike."""

from __future__ import annotations

import datetime
import json
import logging
from pathlib import Path

import pytest

from innerloop import ProbeSettings, RolloutSettings, load, probe, rollout
from innerloop.errors import InputError
from innerloop.rollout.server_engine import speaker_for
from innerloop.schema import Question
from innerloop.store import Run
from innerloop.testing import save_tiny
from innerloop.verbs import day
from innerloop.verbs.shared import check_day

pytestmark = pytest.mark.model

DATED = (
    "{{ bos_token }}{% set d = strftime_now('%d %b %Y') %}<user>Today: {{ d }}\n{% for m in messages %}{{ m.content }}"
    "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_tiny("llama", tmp_path_factory.mktemp("dated") / "m")
    (folder / "chat_template.jinja").write_text(DATED)
    return folder


@pytest.fixture
def questions(tmp_path: Path) -> str:
    file = tmp_path / "q.jsonl"
    file.write_text("".join(json.dumps({"id": f"q{i}", "question": f"{i}+2?", "answer": "4"}) + "\n" for i in range(2)))
    return str(file)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A calendar whose day of March a test sets."""
    today = [1]

    class Clock(datetime.date):
        @classmethod
        def today(cls) -> datetime.date:
            return datetime.date(2025, 3, today[0])

    monkeypatch.setattr(day, "date", Clock)
    return today


def sampled(model: Path, questions: str, out: Path, **options: object) -> Run:
    rollout(RolloutSettings(model=str(model), questions=questions, max_tokens=8, threads=1, out=out, **options))
    return Run.open(out)


def start(model: Path, run: Run, out: Path, **options: object) -> float:
    found = probe(ProbeSettings(model=str(model), trajectories=(str(run.path),), threads=1, out=out, **options))
    return found.groups[0]["start"]["mean"]


def test_the_prompt_has_the_day_that_is_given(model: Path) -> None:
    loaded = load(str(model), date="2024-02-29")
    assert "Today: 29 Feb 2024\n" in loaded.prompt_text("x")
    of_its_own = Question(id="q", question="x", answer="1", prompt_date="2023-12-01")
    assert "Today: 01 Dec 2023\n" in loaded.prompt_text(of_its_own)
    today = f"Today: {datetime.date.today():%d %b %Y}\n"
    assert today in load(str(model)).prompt_text("x")


def test_a_run_keeps_its_day_and_so_does_whoever_reads_it(
    model: Path, questions: str, clock: list[int], tmp_path: Path
) -> None:
    run = sampled(model, questions, tmp_path / "R", samples=1)
    assert {question.prompt_date for question in run.questions()} == {"2025-03-01"}
    first = start(model, run, tmp_path / "P1")
    clock[0] = 2
    assert start(model, run, tmp_path / "P2") == first
    assert start(model, run, tmp_path / "P3", date="2025-03-09") == first, "the samples' own day comes first"
    run = sampled(model, questions, tmp_path / "R", samples=2)
    assert {question.prompt_date for question in run.questions()} == {"2025-03-01"}
    assert run.manifest["stages"]["rollout"]["notes"]["date"] == "2025-03-01"
    other = sampled(model, questions, tmp_path / "R2", samples=1)
    assert {question.prompt_date for question in other.questions()} == {"2025-03-02"}
    assert start(model, other, tmp_path / "P4") != first, "or the day would not matter to this model"


def test_a_day_can_be_chosen_and_a_run_goes_on_with_no_other(
    model: Path, questions: str, clock: list[int], tmp_path: Path
) -> None:
    run = sampled(model, questions, tmp_path / "R", samples=1, date="2020-01-01")
    assert {question.prompt_date for question in run.questions()} == {"2020-01-01"}
    with pytest.raises(InputError, match="date"):
        sampled(model, questions, tmp_path / "R", samples=2, date="2021-01-01")


def test_where_nobody_knows_the_day_a_warning_names_the_option(
    model: Path, questions: str, clock: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As with samples of a file, or of a run of an older version."""
    run = sampled(model, questions, tmp_path / "R", samples=1)
    rows = [{"question_id": t.question_id, "text": t.text} for t in run.trajectories()]
    file = tmp_path / "t.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {"questions": questions, "trajectories": (str(file),)}
    settings = ProbeSettings(model=str(model), threads=1, out=tmp_path / "P", **given)
    with caplog.at_level(logging.WARNING, logger="innerloop"):
        probe(settings)
        assert "writes the day into every prompt" not in caplog.text, "nobody said that a model had sampled them"
        unknown = {question.id: Question(id=question.id, question="x", answer="1") for question in run.questions()}
        day.warn_of_unknown_days(load(str(model), date="2025-03-04"), unknown, run.trajectories())
    assert "they are read as on 2025-03-04; --date gives another day" in caplog.text


def test_other_templates_keep_no_day(questions: str, tmp_path: Path) -> None:
    run = sampled(save_tiny("llama", tmp_path / "plain"), questions, tmp_path / "R", samples=1)
    assert {question.prompt_date for question in run.questions()} == {None}
    assert "date" not in run.manifest["stages"]["rollout"]["notes"]


def test_a_chat_server_has_its_own_day() -> None:
    assert speaker_for("m", "chat", date=None, no_thinking="switch").decode(b"x") == "x"
    with pytest.raises(InputError, match="--date: the server's chat template makes the prompts"):
        speaker_for("m", "chat", date="2025-03-01")


@pytest.mark.parametrize("text", ["yesterday", "2025-02-30", "1 March", ""])
def test_what_is_no_day_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="write a day such as 2025-03-01"):
        check_day(text)
