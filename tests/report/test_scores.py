"""The scores section's data: the numbers of the tables, the lines, the sentences, and who a sample belongs to."""

from __future__ import annotations

import csv
import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from innerloop.evaluate.compare import Difference, differences
from innerloop.evaluate.metrics import g_pass_at_k, pass_at_k
from innerloop.evaluate.statistics import Interval
from innerloop.evaluate.summary import summarise
from innerloop.report.data import collect
from innerloop.report.evaluated import Disagreement, Evaluated, evaluated
from innerloop.report.page import write
from innerloop.report.score_questions import _majority
from innerloop.report.score_statements import _difference, score_statements
from innerloop.report.view import View, view
from innerloop.schema import Mode, Outcome, Question, Score, Source, Trajectory
from innerloop.store import Run
from innerloop.testing.evaluations import write_evaluation
from innerloop.testing.runs import made_up
from innerloop.verbs.eval import EvalResult, EvalSettings, eval

pytestmark = pytest.mark.slow  # each makes a whole page


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    return write_evaluation(tmp_path / "R", questions=20, samples=6, configuration={"k": [1, 4, 6]})


def found_in(run: Path) -> Evaluated:
    found = evaluated(view(run))
    assert found is not None
    return found


def section(run: Path) -> dict[str, Any]:
    return collect(run).sections["scores"]


def test_the_numbers_are_those_of_the_command(tmp_path: Path) -> None:
    """Scored by ``eval`` itself from two files, and read back from the folder alone."""
    for name, right in (("a", 2), ("b", 3)):
        rows = [
            f'{{"question_id": "q-{i}", "correct": {str(j < (right * i) % 5).lower()}}}'
            for i in range(9)
            for j in range(4)
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    sources = (str(tmp_path / "b.jsonl"), str(tmp_path / "a.jsonl"))
    result = eval(EvalSettings(compare=sources, k=(1, 2, 4), tau=(0.5, 1.0), out=tmp_path / "R", seed=3))
    assert isinstance(result, EvalResult)
    found = found_in(tmp_path / "R")
    assert list(found.series) == ["b", "a"]
    assert tuple(found.rows) == result.rows
    assert tuple(found.differences) == result.differences
    data = section(tmp_path / "R")
    drawn = {
        (value["value"], row["series"]): row
        for part in data["groups"]
        for value in part["values"]
        for row in value["rows"]
    }
    for row in result.rows:
        cells = drawn[row.value, list(found.series).index(row.series)]["cells"]
        assert [cell["mean"] for cell in cells] == [cell.score.mean for cell in row.cells]
        assert [(cell["low"], cell["high"]) for cell in cells] == [(c.score.low, c.score.high) for c in row.cells]
    assert [(one["mean"], one["p_holm"]) for one in data["differences"]] == [
        (one.difference.mean, one.p_holm) for one in result.differences
    ]


def test_within_and_across_domains_as_the_command_has_them(tmp_path: Path) -> None:
    """The page makes the same rows and tests again from the folder, where ``--trained-on`` was asked for."""
    run = write_evaluation(tmp_path / "R", questions=24, samples=4, configuration={"trained_on": ["algebra", "no"]})
    found = found_in(run)
    assert found.trained_on == ("algebra",)
    assert tuple(found.rows) == tuple(summarise(found.series, found.measures, trained_on=("algebra",)))
    sides = {row.value for row in found.rows if row.group == "generalisation"}
    assert sides == {"within domain", "cross domain"}
    data = section(run)
    assert "generalisation" in [part["group"] for part in data["groups"]]
    assert {one["benchmark"] for one in data["differences"]} == {None, *sides}
    assert any("within domain" in said and "cross domain" in said for said in data["statements"])
    assert not any("within domain" in said for said in section_without(tmp_path)["statements"])


def section_without(tmp_path: Path) -> dict[str, Any]:
    return section(write_evaluation(tmp_path / "without", questions=24, samples=4))


def test_another_reference_is_the_first_series(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text(
            '{"question_id": "q", "correct": true}\n{"question_id": "r", "correct": false}'
        )
    sources = (str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"))
    for reference in (None, "b"):
        eval(EvalSettings(compare=sources, reference=reference, out=tmp_path / "R"))
        first, *_ = section(tmp_path / "R")["series"]
        assert (first["name"], first["reference"]) == (reference or "a", True)


def test_lines_hold_the_numbers_of_the_tables(scored: Path) -> None:
    data, found = section(scored), found_in(scored)
    growth = {figure["label"]: figure for figure in data["growth"]}
    assert growth["Pass@k"]["x"] == [1, 2, 3, 4, 5, 6]
    assert growth["mG-Pass@k"]["x"] == [2, 4, 6]
    names = [measure.name for measure in found.measures]
    for i, row in enumerate(row for row in found.rows if row.group == "all"):
        for k in (1, 4, 6):
            cell, line = row.cells[names.index(f"Pass@{k}")], growth["Pass@k"]["lines"][i]
            at = growth["Pass@k"]["x"].index(k)
            assert (line["mean"][at], line["low"][at], line["high"][at]) == (
                cell.score.mean,
                cell.score.low,
                cell.score.high,
            )
        for figure in data["stability"]:
            k, line = round(1 / figure["x"][0]), figure["lines"][i]["mean"]
            at = names.index(f"G-Pass@{k} (τ=0.5)")
            assert line[math.ceil(k / 2) - 1] == row.cells[at].score.mean
            assert line == sorted(line, reverse=True)
            assert line[0] == row.cells[names.index(f"Pass@{k}")].score.mean


def test_lines_are_exact(scored: Path) -> None:
    scores = found_in(scored).series["A"]
    data = section(scored)
    every = [sum(pass_at_k(6, score.right, k) for score in scores) / 20 for k in range(1, 7)]
    assert data["growth"][0]["lines"][0]["mean"] == pytest.approx(every, abs=1e-12)
    last = [sum(g_pass_at_k(6, score.right, 6, j / 6) for score in scores) / 20 for j in range(1, 7)]
    assert data["stability"][-1]["lines"][0]["mean"] == pytest.approx(last, abs=1e-12)


def test_many_samples_are_thinned_to_some_k(tmp_path: Path) -> None:
    run = write_evaluation(tmp_path / "R", questions=4, samples=90, words=1)
    x = section(run)["growth"][0]["x"]
    assert (x[0], x[-1]) == (1, 90)
    assert len(x) <= 40
    assert x == sorted(set(x))


def test_one_sample_draws_no_lines(tmp_path: Path) -> None:
    data = section(write_evaluation(tmp_path / "R", questions=4, samples=1))
    assert (data["growth"], data["stability"]) == ([], [])


def test_undecided_samples_bound_every_point(tmp_path: Path) -> None:
    run = write_evaluation(tmp_path / "R", questions=12, samples=4, skills={"A": 0.5, "B": 0.6}, undecided=0.2)
    data = section(run)
    for cell in data["groups"][0]["values"][0]["rows"][0]["cells"][:-1]:
        assert cell["if_wrong"] < cell["if_right"]
    for figure in data["growth"]:
        for line in figure["lines"]:
            assert all(low <= high for low, high in zip(line["if_wrong"], line["if_right"], strict=True))
            assert any(low < high for low, high in zip(line["if_wrong"], line["if_right"], strict=True))
    assert any("counted neither way" in said for said in data["statements"])


def interval(mean: float, low: float, high: float) -> Interval:
    return Interval(mean=mean, low=low, high=high, questions=80, values=80, level=0.95)


@pytest.mark.parametrize(
    ("span", "p", "said"),
    [
        (
            (0.062, 0.01, 0.113),
            0.03,
            "B beats A by 6.2 points [1.0, 11.3] on Pass@8 over 80 questions, p (Holm) 0.030.",
        ),
        (
            (-0.062, -0.113, -0.01),
            0.03,
            "A beats B by 6.2 points [1.0, 11.3] on Pass@8 over 80 questions, p (Holm) 0.030.",
        ),
        ((0.062, 0.01, 0.113), 0.08, "Undecided between B and A"),
        ((0.062, -0.01, 0.113), 0.03, "Undecided between B and A"),
        ((0.0, math.nan, math.nan), math.nan, "no interval"),
        ((math.nan, math.nan, math.nan), math.nan, "cannot be compared"),
    ],
)
def test_a_winner_is_named_only_where_interval_and_test_say_so(span: tuple, p: float, said: str) -> None:
    one = Difference(
        series="B", reference="A", benchmark=None, measure="Pass@8", difference=interval(*span), p=p, p_holm=p
    )
    assert said in _difference(one)
    assert ("beats" in said) == ("beats" in _difference(one))


def test_the_lead_of_a_comparison_and_of_a_single_series(scored: Path, tmp_path: Path) -> None:
    assert section(scored)["statements"][0].startswith("B beats A by ")
    single = write_evaluation(tmp_path / "S", questions=20, samples=4, skills={"A": 0.4})
    lead = section(single)["statements"][0]
    assert lead.startswith("A, over 20 questions: avg@4 ")
    assert "beats" not in lead
    few = write_evaluation(tmp_path / "F", questions=4, samples=4)
    assert "first look" in section(few)["statements"][-1]


def test_a_page_of_scores_alone_has_no_empty_parts(scored: Path, tmp_path: Path) -> None:
    assert [part.key for part in collect(scored).shown] == ["scores", "table", "reader"]
    html = write(scored).read_text(encoding="utf-8")
    assert "no answer-loss curves" not in html
    assert "B beats A by" in html
    assert "| " not in html.split('<table class="shape">')[1].split("</table>")[0]
    rows = '{"question_id": "q", "correct": true, "answer": "3"}\n{"question_id": "r", "correct": false}'
    (tmp_path / "s.jsonl").write_text(rows)
    eval(EvalSettings(trajectories=(str(tmp_path / "s.jsonl"),), out=tmp_path / "N"))
    data = collect(tmp_path / "N")
    assert [part.key for part in data.shown] == ["scores"], "there is no text to read"
    assert data.facts["title"] == "s"
    assert dict(data.facts["short"])["Questions"] == "2"
    (first, second) = data.blocks["data-scores-questions"]["questions"]
    assert first["majority"][0]["answer"] == "3"
    assert (first["samples"], second["majority"]) == ([[0]], [None])


def test_scores_stand_beside_curves(tmp_path: Path, make_run: Any) -> None:
    asked, told, curves = made_up(questions=3, tokens=10)
    run = make_run(asked, told, curves)
    assert "scores" not in collect(run).sections
    eval(EvalSettings(trajectories=(str(run),), out=run, k=(1,)))
    assert [part.key for part in collect(run).shown] == ["headline", "scores", "curves", "table", "reader"]


def test_the_same_folder_gives_the_same_bytes(scored: Path) -> None:
    before = write(scored).read_bytes()
    assert write(scored).read_bytes() == before


def test_samples_and_counts_of_a_question_belong_together(scored: Path) -> None:
    data = collect(scored)
    rows = data.blocks["data-index"]["rows"]
    for question in data.blocks["data-scores-questions"]["questions"]:
        for series, name in enumerate("AB"):
            own = [rows[i] for i in question["samples"][series]]
            assert [row["id"] for row in own] == [f"{name}/{question['id']}/sample-{j}" for j in range(6)]
            assert [row["outcome"] for row in own].count("right") == question["counts"][series][0]


def trajectory(number: int = 0, **fields: Any) -> Trajectory:
    base = {"id": f"q/sample-{number}", "question_id": "q", "text": "x", "source": Source.SAMPLE, "sample": number}
    return Trajectory(**(base | fields))


def empty(*names: str) -> Evaluated:
    score = Score(id="s", series="s", question_id="q", right=1, wrong=0, undecided=0)
    return Evaluated({name: [score] for name in names}, [], len(names) > 1, 0, None, ())


@pytest.mark.parametrize(
    ("names", "fields", "series"),
    [
        (("a", "a/b"), {"id": "a/b/q/sample-0"}, "a/b"),
        (("a", "a/b"), {"id": "a/q/sample-0"}, "a"),
        (("run",), {}, "run"),
        (("run thinking", "run plain"), {"mode": Mode.PLAIN}, "run plain"),
        (("m1", "m2"), {"model": "m2"}, "m2"),
        (("m1 plain", "m1 thinking", "m2 plain"), {"model": "m1", "mode": Mode.PLAIN}, "m1 plain"),
        (("m1", "m2"), {"model": "m3"}, None),
        (("run",), {"source": Source.SHUFFLED}, None),
        (("run",), {"source": Source.SOLUTION}, None),
        (("run", "run, our verdicts"), {}, "run"),
    ],
)
def test_who_a_sample_belongs_to(names: tuple[str, ...], fields: dict[str, Any], series: str | None) -> None:
    assert empty(*names).series_of(trajectory(**fields)) == series


def test_the_most_frequent_answer() -> None:
    def told(*answers: tuple[str | None, Outcome]) -> list[Trajectory]:
        return [trajectory(i, answer=answer, outcome=outcome) for i, (answer, outcome) in enumerate(answers)]

    right, wrong = Outcome.RIGHT, Outcome.WRONG
    found = _majority(told(("0.5", right), (r"\frac12", right), ("3", wrong), (None, wrong)), None)
    assert found == {"answer": "0.5", "votes": 2, "tied": 0, "outcome": right}
    assert _majority(told(("1", right), ("2", wrong)), None) == {"answer": "1", "votes": 1, "tied": 1, "outcome": right}
    assert _majority(told((None, wrong), (" ", wrong)), None) is None
    options = Question(id="q", question="?", answer="B", verifier="choice")
    found = _majority(told(("(B)", right), ("B. Paris", right), ("C", wrong)), options)
    assert found == {"answer": "(B)", "votes": 2, "tied": 0, "outcome": right}
    mixed = _majority(told(("1", right), ("1", wrong)), None)
    assert mixed is not None
    assert mixed["outcome"] is None


def disagreement_csv(run: Path, *rows: dict[str, str]) -> None:
    with (run / "disagreements.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [entry.name for entry in dataclasses.fields(Disagreement)])
        writer.writeheader()
        writer.writerows(rows)


def test_disagreements_with_recorded_verdicts(tmp_path: Path) -> None:
    run = write_evaluation(
        tmp_path / "R",
        questions=3,
        samples=2,
        skills={"A": 0.5},
        configuration={"verdicts": "compare"},
        notes={"compared": 6},
    )
    fields = {
        "series": "A",
        "question_id": "q-1",
        "answer": "8",
        "reference": "8",
        "recorded": "wrong",
        "verdict": "right",
    }
    disagreement_csv(run, fields | {"trajectory_id": "q-1/sample-1", "reason": ""}, fields | {"recorded": "nonsense"})
    data = collect(run)
    (found,) = data.sections["scores"]["disagreements"]
    assert data.blocks["data-index"]["rows"][found["sample"]]["id"] == "A/q-1/sample-1"
    assert "Of 6 recorded verdicts, 1 is other than ours; listed below." in data.sections["scores"]["statements"]
    (run / "disagreements.csv").unlink()
    assert "Our verdicts equal all of the 6 recorded verdicts." in section(run)["statements"]


def test_a_folder_without_notes_is_shown_as_it_was_written(scored: Path) -> None:
    seen = view(scored)
    seen.manifest["stages"]["eval"]["notes"] = {}
    found = evaluated(seen)
    assert found is not None
    assert list(found.series) == ["A", "B"]
    seen.manifest["stages"]["eval"]["configuration"]["k"] = [999]
    again = evaluated(seen)
    assert again is not None
    assert again.measures[1].k == 1, "a k that no longer fits falls back to the default"


def test_no_scores_no_section(tmp_path: Path) -> None:
    with Run.start(tmp_path / "R", "eval", {}) as run:
        pass
    assert evaluated(view(run.path)) is None
    assert isinstance(view(run.path), View)


def test_numbers_equal_the_functions_that_make_the_tables(scored: Path) -> None:
    found = found_in(scored)
    assert found.rows == summarise(found.series, found.measures, seed=0)
    assert found.differences == differences(found.own, found.measures, seed=0)
    assert score_statements(found) == section(scored)["statements"]
