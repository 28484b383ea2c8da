"""Ids of parts: no two different choices of parts make the same one, and nothing is lost where names look alike."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from innerloop.errors import InputError
from innerloop.evaluate.tally import tally
from innerloop.ids import apart, file_names, joined, prefixes
from innerloop.report.data import collect
from innerloop.schema import Outcome, Source, Trajectory
from innerloop.store import Run

Cli = Callable[..., Any]
_PART = st.text(st.sampled_from("ab|/\\%F2"), max_size=5)


@given(_PART, _PART, _PART, _PART)
@example("A", "B|q1", "A|B", "q1")
@example("A\\", "B|q1", "A\\|B", "q1")
def test_joined_ids_are_the_same_for_the_same_parts_alone(a: str, b: str, c: str, d: str) -> None:
    assert (joined(a, b, "|") == joined(c, d, "|")) == ((a, b) == (c, d))


def test_ids_of_ordinary_names_are_what_they_always_were() -> None:
    assert joined("org/model-1 thinking", "gsm8k|7", "|") == "org/model-1 thinking|gsm8k|7"
    assert prefixes(["org/model", "other", "R1"]) == {"org/model": "org/model/", "other": "other/", "R1": "R1/"}
    [score] = tally(
        "A", [Trajectory(id="q/sample-0", question_id="q", text="", source=Source.FILE, outcome=Outcome.RIGHT)], {}
    )
    assert score.id == "A|q"


@given(st.lists(_PART, unique=True, max_size=5), _PART, _PART)
@example(["A", "A/B"], "B/q", "q")
@example(["a/b", "a%2Fb", "a"], "b/q", "q")
def test_no_prefix_begins_another_ones_ids(names: list[str], one: str, other: str) -> None:
    begins = prefixes(names)
    for first, second in itertools.permutations(names, 2):
        assert begins[first] + one != begins[second] + other
        assert not (begins[first] + one).startswith(begins[second])


def test_an_id_that_somebody_chose_may_not_be_one_of_ours() -> None:
    apart(["x/shuffled"], {"x", "y"}, "a control")
    with pytest.raises(InputError, match="trajectory 'x/shuffled' has the id of a control here; give its row an id"):
        apart(["y/shuffled", "x/shuffled"], {"x", "x/shuffled"}, "a control")


@given(st.lists(st.text(max_size=30), max_size=6, unique=True))
@example(["con", "CON.txt", "nul", "lpt1.x", "..", "../..", ".", "", "/etc/passwd", "-rf", ".hidden", "a\x00b"])
@example(["A", "a", "\u00e9", "e\u0301", "x" * 300, "x" * 301, "ü" * 200, "x" * 100])
def test_names_of_files_are_safe_and_each_another_one(names: list[str]) -> None:
    made = list(file_names(names, "adapter"))
    assert len({name.casefold() for name in made}) == len(names)
    for name in made:
        assert Path(name).name == name
        assert name not in (".", "..", "")
        assert name[0] not in ".-"
        assert name[-1] not in ". "
        assert len(name.encode()) <= 110
        assert name.partition(".")[0].lower() not in ("con", "prn", "aux", "nul", "com1", "lpt1")
        assert name.isprintable()


def _files(folder: Path, questions: list[str], rows: list[dict[str, Any]]) -> None:
    asked = [{"id": name, "question": f"{name}?", "answer": "1", "solution": "It is 1."} for name in questions]
    for file, content in (("q.jsonl", asked), ("t.jsonl", rows)):
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in content))


def test_every_score_of_every_model_is_kept(cli: Cli, tmp_path: Path) -> None:
    """Of models and questions whose names meet in the middle."""
    questions, models = ["q", "B|q", "B/q", "C|B|q"], ["A", "A|B", "A\\", "A\\|B", "A/B", "A%2FB", "A|C"]
    rows = [
        {"question_id": question, "model": model, "correct": model == "A", "text": f"{model} says"}
        for model in models
        for question in questions
    ]
    _files(tmp_path, questions, rows)
    run = tmp_path / "E"
    common = ["eval", "--questions", tmp_path / "q.jsonl", "--compare", tmp_path / "t.jsonl", "--k", "1", "--out", run]
    for _ in range(2):  # and the second start finds them all
        ran = cli(*common, "--json")
        assert ran.status == 0, ran.err
        scores = Run.open(run).scores()
        assert {(score.series, score.question_id) for score in scores} == set(itertools.product(models, questions))
        assert {score.series for score in scores if score.right} == {"A"}
        held = Run.open(run).trajectories()
        assert len(held) == len(rows)
    page = collect(run)
    shown = page.blocks["data-scores-questions"]["questions"]
    series = [entry["name"] for entry in page.sections["scores"]["series"]]
    texts = {row: page.blocks["data-index"]["rows"][row]["id"] for row in range(len(rows))}
    for question in shown:
        for name, samples in zip(series, question["samples"], strict=True):
            assert len(samples) == 1, (name, question["id"], texts)


def test_models_without_a_name_are_not_one_with_that_name(cli: Cli, tmp_path: Path) -> None:
    rows = [
        {"question_id": "q", "model": model, "correct": model is None, "text": "x"} for model in (None, "unnamed model")
    ]
    _files(tmp_path, ["q"], rows)
    ran = cli("eval", "--compare", tmp_path / "t.jsonl", "--k", "1", "--out", tmp_path / "E", "--json")
    assert ran.status == 0, ran.err
    assert len({score.series for score in Run.open(tmp_path / "E").scores()}) == 2


def test_a_model_named_as_our_verdicts_is_refused_and_nothing_is_lost(cli: Cli, tmp_path: Path) -> None:
    rows = [{"question_id": "q", "model": model, "correct": True, "text": "x"} for model in ("A", "A, our verdicts")]
    _files(tmp_path, ["q"], rows)
    ran = cli("eval", "--compare", tmp_path / "t.jsonl", "--k", "1", "--out", tmp_path / "E")
    assert ran.status == 2
    assert "rename its model" in ran.err
    assert not (tmp_path / "E").exists()


@pytest.mark.parametrize(
    ("verb", "option", "second"),
    [
        ("probe", ["--controls", "shuffled"], "x/shuffled"),
        ("update", ["--controls", "filler"], "x/filler"),
        ("update", ["--untrained"], "x@untrained"),
    ],
)
def test_a_trajectory_that_has_the_id_of_ours_is_refused(
    cli: Cli, tmp_path: Path, verb: str, option: list[str], second: str
) -> None:
    rows = [{"question_id": "q", "id": name, "text": f"{name} is 1.", "correct": True} for name in ("x", second)]
    _files(tmp_path, ["q"], rows)
    given = ["--questions", tmp_path / "q.jsonl", "--trajectories", tmp_path / "t.jsonl", "--out", tmp_path / "R"]
    ran = cli(verb, *given, *option)
    assert ran.status == 2
    assert f"trajectory '{second}' has the id of" in ran.err
