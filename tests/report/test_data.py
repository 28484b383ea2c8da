"""From a run folder to page data: nothing is lost, invented or claimed beyond the intervals."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from innerloop.errors import InputError
from innerloop.evaluate.statistics import mean_interval
from innerloop.inner.summary import summarise
from innerloop.inner.written import gain_before, written
from innerloop.report.curves import curves
from innerloop.report.data import SECTIONS, collect
from innerloop.report.headline import headline
from innerloop.report.statements import statements
from innerloop.report.view import view
from innerloop.schema import Curve, Mode, Outcome, Question, Source, Status, Trajectory
from innerloop.testing.runs import KINDS, MODEL, curve, made_up

pytestmark = pytest.mark.slow  # each makes a whole page

MakeRun = Callable[..., Path]


def text_of(blocks: dict[str, Any], i: int) -> dict[str, Any]:
    """What the reader shows of trajectory i, found as the page's script finds it."""
    first = max(number for number in blocks["data-index"]["texts"] if number <= i)
    found: dict[str, Any] = blocks[f"data-t{first}"][i - first]
    return found


def test_blocks_hold_what_the_run_holds(make_run: MakeRun) -> None:
    asked, told, measured = made_up(questions=3, tokens=20)
    blocks = collect(make_run(asked, told, measured)).blocks
    index = blocks["data-index"]
    assert {row["id"] for row in index["rows"]} == {trajectory.id for trajectory in told}
    curve_by_id = {one.trajectory_id: one for one in measured}
    text_by_id = {trajectory.id: trajectory.text for trajectory in told}
    for i, row in enumerate(index["rows"]):
        block, exact = text_of(blocks, i), curve_by_id[row["id"]]
        assert "".join(block["curve"]["tokens"]) + block["rest"] == text_by_id[row["id"]]
        assert block["curve"]["loss"] == pytest.approx(exact.loss, abs=1e-5)
        assert block["curve"]["position"] is None  # 0, 1, 2, …
        assert row["gain"] == pytest.approx(summarise(exact).gain, abs=1e-4)
        assert index["questions"][row["question"]]["id"] == exact.question_id
    json.dumps(blocks, allow_nan=False)


def test_order_is_by_question_then_group(make_run: MakeRun) -> None:
    asked, told, measured = made_up(questions=2, tokens=5)
    rows = collect(make_run(asked, list(reversed(told)), measured)).blocks["data-index"]["rows"]
    assert [row["id"] for row in rows] == [trajectory.id for trajectory in told]


def test_headline_takes_its_numbers_from_the_statistics(make_run: MakeRun) -> None:
    run = make_run(*made_up(questions=4, tokens=30))
    seen = view(run)
    (row,) = (row for row in headline(seen)["groups"] if row["key"] == "sample-any-right")
    gains: dict[str, list[float]] = {}
    for entry in seen.entries:
        if entry.trajectory.source is Source.SAMPLE and entry.trajectory.outcome is Outcome.RIGHT:
            assert entry.curve is not None
            gains.setdefault(entry.question.id, []).append(summarise(entry.curve).gain)
    expected = mean_interval(gains)
    assert (row["gain"]["mean"], row["gain"]["low"], row["gain"]["high"]) == (
        expected.mean,
        expected.low,
        expected.high,
    )
    assert (row["questions"], row["trajectories"]) == (4, 4)


def test_right_is_compared_with_wrong_and_solutions_with_controls(make_run: MakeRun) -> None:
    labels = [row["label"] for row in headline(view(make_run(*made_up(questions=3, tokens=10))))["differences"]]
    assert labels == [
        "Samples, right − wrong",
        "Worked solutions − other question",
        "Worked solutions − shuffled",
    ]


def test_axis_holds_zero_and_every_interval(make_run: MakeRun) -> None:
    data = headline(view(make_run(*made_up(questions=4, tokens=30))))
    axis = data["axis"]
    for row in data["groups"] + data["differences"]:
        assert axis["low"] < row["gain"]["low"] <= row["gain"]["high"] < axis["high"]
    assert 0 in axis["ticks"]
    assert axis["low"] + axis["zero"] * (axis["high"] - axis["low"]) == pytest.approx(0)
    assert 3 <= len(axis["ticks"]) <= 12
    assert np.diff(axis["ticks"]) == pytest.approx(axis["ticks"][1] - axis["ticks"][0])


def test_modes_are_kept_apart_where_both_exist(make_run: MakeRun) -> None:
    question = Question(id="q", question="?", answer="1")
    told = [
        Trajectory(id=f"q/{mode}", question_id="q", text="a", source=Source.SAMPLE, mode=mode, outcome=Outcome.RIGHT)
        for mode in (Mode.NO_THINKING, Mode.THINKING)
    ]
    groups = view(make_run([question], told)).groups
    assert [group.label for group in groups] == ["Samples, thinking, right", "Samples, no-thinking, right"]
    assert [group.label for group in view(make_run([question], told[:1])).groups] == ["Samples, right"]


def test_missing_verdicts_are_neither_right_nor_wrong(make_run: MakeRun) -> None:
    question = Question(id="q", question="?", answer="1")
    told = [
        Trajectory(id="q/a", question_id="q", text="a", source=Source.SAMPLE, status=Status.TRUNCATED, tokens=5),
        Trajectory(id="q/b", question_id="q", text="b", source=Source.SAMPLE, outcome=Outcome.UNDECIDED, tokens=7),
    ]
    (row,) = headline(view(make_run([question], told)))["verdicts"]
    assert row["outcomes"] == {"unjudged": 1, "undecided": 1}
    assert (row["truncated"], row["failed"], row["tokens"]) == (1, 0, 6)


def test_short_texts_share_a_block_and_long_ones_do_not(make_run: MakeRun) -> None:
    asked, told, _ = made_up(questions=40, tokens=10)
    told = [dataclasses.replace(t, text=f"{i} " + "x" * (10_000 if i % 7 else 200_000)) for i, t in enumerate(told)]
    blocks = collect(make_run(asked, told)).blocks
    sizes = [len(blocks[f"data-t{first}"]) for first in blocks["data-index"]["texts"]]
    assert sum(sizes) == len(told) == 200
    assert sum(name.startswith("data-t") for name in blocks) - ("data-table" in blocks) == len(sizes) < 100
    longest = max(sum(len(one["rest"]) for one in blocks[f"data-t{i}"]) for i in blocks["data-index"]["texts"])
    assert longest < 65_536 + 200_010, "one more text at most behind the limit"
    text = {trajectory.id: trajectory.text for trajectory in told}
    for i, row in enumerate(blocks["data-index"]["rows"]):
        assert text_of(blocks, i)["rest"] == text[row["id"]]


def test_without_curves_there_is_no_chart_but_a_table(make_run: MakeRun) -> None:
    asked, told, _ = made_up(questions=2, tokens=5)
    data = collect(make_run(asked, told))
    assert [section.key for section in data.shown] == ["headline", "table", "reader"]
    assert data.sections["headline"]["groups"] == []
    assert text_of(data.blocks, 0)["rest"] == told[0].text
    assert "curve" not in text_of(data.blocks, 0)


def test_an_empty_run_has_a_page(make_run: MakeRun) -> None:
    data = collect(make_run())
    assert [section.key for section in data.shown] == ["headline"]
    assert data.blocks["data-index"]["rows"] == []


def test_a_folder_that_is_no_run_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match=r"run\.json"):
        collect(tmp_path)


def test_one_question_has_no_interval_and_says_why(make_run: MakeRun) -> None:
    data = headline(view(make_run(*made_up(questions=1, tokens=30, kinds=KINDS[:1]))))
    gain = data["groups"][0]["gain"]
    assert gain["mean"] > 1
    assert (gain["low"], gain["high"]) == (None, None)
    assert "at least 2 questions" in gain["reason"]
    assert "no interval, because" in data["statements"][0]


def test_a_trajectory_of_a_lost_question_is_still_shown(make_run: MakeRun) -> None:
    _, told, measured = made_up(questions=1, tokens=5, kinds=KINDS[:1])
    rows = collect(make_run([], told, measured)).blocks["data-index"]["rows"]
    assert len(rows) == 1


def test_positions_between_measurements_are_kept(make_run: MakeRun) -> None:
    question = Question(id="q", question="?", answer="1")
    told = Trajectory(id="q/s", question_id="q", text="one two three four five", source=Source.SOLUTION)
    measured = Curve(
        question_id="q",
        trajectory_id="q/s",
        position=(0, 2, 4),
        token_id=(None, 1, 2),
        token=(None, "one two", " three four"),
        loss=(3.0, math.inf, 1.0),
        answer_tokens=1,
    )
    block = collect(make_run([question], [told], [measured])).blocks["data-t0"][0]
    assert tuple(block["curve"]["position"]) == (0, 2, 4)
    assert block["curve"]["loss"] == [3.0, None, 1.0]  # an infinite loss is no number in JSON
    assert block["rest"] == " five"


def test_what_follows_the_last_measured_position_of_a_thinking_text(make_run: MakeRun) -> None:
    """The line break after the opening delimiter is measured, and is no part of the text."""
    trajectory = Trajectory(
        id="q/thinking-0", question_id="q", text="one two five", source=Source.SAMPLE, mode=Mode.THINKING
    )
    measured = curve(trajectory, ["\n", "one", " two"], [3.0, 3.0, 2.0, 1.0])
    asked = Question(id="q", question="?", answer="9")
    blocks = collect(make_run([asked], [trajectory], [measured])).blocks
    assert text_of(blocks, 0)["rest"] == " five"
    whole = curve(trajectory, ["\n", "one", " two", " five", "\n", "</think>"], [3.0] * 7)
    assert text_of(collect(make_run([asked], [trajectory], [whole])).blocks, 0)["rest"] == ""


def test_beliefs_are_probabilities_of_whole_answers(make_run: MakeRun) -> None:
    question = Question(id="q", question="?", answer="1")
    told = Trajectory(id="q/s", question_id="q", text="x", source=Source.SOLUTION)
    measured = curve(
        told,
        ["x"],
        [2.0, 1.0],
        candidates=("1", "22"),
        candidate_tokens=(1, 2),
        candidate_losses=((2.0, 1.0), (1.0, 1.0)),
    )
    beliefs = collect(make_run([question], [told], [measured])).blocks["data-t0"][0]["curve"]["beliefs"]
    assert beliefs[0] == pytest.approx([0.5, 0.5])  # e⁻² each
    assert beliefs[1] == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))], abs=1e-4)


@pytest.mark.parametrize(
    ("answer", "pieces", "place"),
    [
        ("18", ["x =", " $1", "8", " a day"], (1, 3)),
        ("8", ["18", " 8.5", " 0.8", " 88"], None),
        ("8", ["18", " then", " 8", "."], (2, 3)),
        ("8", ["so", ".8"], (1, 2)),
        ("a+b", ["aab", " a+b"], (1, 2)),
        ("a", ["a"], (0, 1)),
        ("", ["a"], None),
    ],
)
def test_where_the_answer_stands_in_the_text(answer: str, pieces: list[str], place: tuple[int, int] | None) -> None:
    told = Trajectory(id="q/s", question_id="q", text="".join(pieces), source=Source.SOLUTION)
    loss = [3.0 - 0.25 * k for k in range(len(pieces) + 1)]
    measured = curve(told, pieces, loss)
    assert written(answer, measured) == place
    assert gain_before(answer, measured) == 0.25 * (place[0] if place else len(pieces))


def test_lines_are_the_curves_on_a_common_axis(make_run: MakeRun) -> None:
    asked, told, measured = made_up(questions=2, tokens=50, kinds=KINDS[:1])
    data = curves(view(make_run(asked, told, measured)))
    assert data is not None
    for line, exact in zip(data["lines"], measured, strict=True):
        assert line["loss"][::2] == pytest.approx(exact.loss, abs=1e-4)  # 50 steps at 101 points: every second is exact
    (mean,) = data["means"]
    expected = np.mean([line["loss"] for line in data["lines"]], axis=0)
    for band, baseline in ((mean["loss"], 0.0), (mean["change"], expected[0])):
        assert band["mean"][0] == pytest.approx(expected[0] - baseline, abs=1e-3)
        assert band["mean"][-1] == pytest.approx(expected[-1] - baseline, abs=1e-3)
        assert all(
            low <= middle <= high for low, middle, high in zip(band["low"], band["mean"], band["high"], strict=True)
        )
    assert mean["change"]["low"][0] == mean["change"]["high"][0] == 0  # all start from where they start


def test_many_lines_are_thinned_but_all_are_averaged(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[curves.__module__], "MOST_LINES", 7)
    asked, told, measured = made_up(questions=20, tokens=2, kinds=KINDS[:1])
    data = curves(view(make_run(asked, told, measured)))
    assert data is not None
    assert (len(data["lines"]), data["drawable"]) == (7, 20)
    assert [data["lines"][at]["entry"] for at in (0, -1)] == [0, 19]
    assert data["means"][0]["loss"]["mean"][0] == pytest.approx(np.mean([one.loss[0] for one in measured]), abs=1e-3)


def test_header_says_what_was_run(make_run: MakeRun) -> None:
    header = collect(make_run(*made_up(questions=2, tokens=5))).facts
    short = dict(header["short"])
    assert header["title"] == "tiny on made-up.jsonl"
    assert short["Model"] == f"tiny · 135M parameters · float32 · weights {MODEL['fingerprint'][:8]}"
    assert (short["Seed"], short["Trajectories"]) == ("5", "6 and 4 controls")
    assert header["warnings"] == []
    assert header["stages"][0]["command"] == "innerloop probe --model tiny"


def test_an_unfinished_run_is_marked(make_run: MakeRun) -> None:
    run = make_run(*made_up(questions=2, tokens=5))
    manifest = json.loads((run / "run.json").read_text())
    manifest["stages"]["probe"]["status"] = "interrupted"
    (run / "run.json").write_text(json.dumps(manifest))
    (warning,) = collect(run).facts["warnings"]
    assert "interrupted" in warning


def test_sections_have_keys_of_their_own() -> None:
    keys = [section.key for section in SECTIONS]
    assert len(set(keys)) == len(keys)


def _row(
    mean: float | None,
    low: float | None,
    high: float | None,
    source: Source = Source.SOLUTION,
    *,
    before: dict | None = None,
) -> dict:
    away = low is not None and high is not None and (low > 0 or high < 0)
    gain = {"mean": mean, "low": low, "high": high, "away_from_zero": away, "questions": 9, "reason": "few"}
    level = {"mean": 1.0}
    return {
        "key": str(source),
        "source": source,
        "outcome": None,
        "mode": None,
        "of": None,
        "control": source.is_control,
        "gain": gain,
        "before": before or gain,
        "written": int(before is not None),
        "trajectories": 9,
        "start": level,
        "end": level,
    }


@pytest.mark.parametrize(
    ("gain", "said", "unsaid"),
    [
        ((1.0, 0.5, 1.5), "lower the answer loss", "includes zero"),
        ((-1.0, -1.5, -0.5), "raise the answer loss", "includes zero"),
        ((0.2, -0.1, 0.5), "do not clearly move", "away from zero"),
        ((1.0, None, None), "no interval, because few", "away from zero"),
        ((None, None, None), "undefined", "away from zero"),
    ],
)
def test_the_lead_claims_what_the_interval_allows(gain: tuple, said: str, unsaid: str) -> None:
    lead = statements([_row(*gain)], [])[0]
    assert said in lead
    assert unsaid not in lead


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        ((0.1, -0.2, 0.4), "no clear effect"),
        ((0.5, 0.2, 0.8), "needs no reasoning"),
        ((-0.5, -0.8, -0.2), "leads away"),
    ],
)
def test_a_control_is_not_explained_away(gain: tuple, said: str) -> None:
    sentences = statements([_row(1.0, 0.5, 1.5), _row(*gain, source=Source.SHUFFLED)], [])
    assert said in sentences[1]


@pytest.mark.parametrize(
    ("before", "said"), [((0.5, 0.2, 0.8), "does not explain"), ((0.1, -0.2, 0.4), "cannot be told from copying")]
)
def test_a_gain_by_copying_is_called_so(before: tuple, said: str) -> None:
    sentences = statements([_row(1.0, 0.5, 1.5, before=_row(*before)["gain"])], [])
    assert said in sentences[1]
