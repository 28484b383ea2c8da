"""The update section's data: what is stored is shown, what is null is absent, and nothing is claimed beyond it."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from innerloop.evaluate.alignment import summarise
from innerloop.report import page
from innerloop.report.data import collect
from innerloop.report.updates import CAUTIONS, update_blocks, updates
from innerloop.report.view import significant, view
from innerloop.schema import Curve, Question, Source, Trajectory, Update
from innerloop.testing.runs import curve, made_up, made_up_updates

pytestmark = pytest.mark.slow  # each makes a whole page

MakeRun = Callable[..., Path]


def section(run: Path) -> dict[str, Any]:
    """The section's data, without the rest of the page."""
    found = updates(view(run))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def story() -> Any:
    asked, told, curves = made_up(questions=4, tokens=45)
    return asked, told, curves, made_up_updates(told, curves)


def test_a_run_without_updates_has_no_section(make_run: MakeRun, story: Any) -> None:
    asked, told, curves, _ = story
    data = collect(make_run(asked, told, curves))
    assert "update" not in data.sections
    assert not [name for name in data.blocks if name.startswith("data-u")]


def test_each_trajectory_has_a_block_with_its_numbers(make_run: MakeRun, story: Any) -> None:
    asked, told, curves, found = story
    blocks = collect(make_run(asked, told, curves, updates=list(reversed(found)))).blocks
    items, rows = blocks["data-update"]["items"], blocks["data-index"]["rows"]
    assert len(items) == len(told) + 4  # and the worked solutions under the untrained model
    for i, item in enumerate(items):
        name = item["id"] + ("@untrained" if item["untrained"] else "")
        own = sorted((update for update in found if update.id == name), key=lambda update: update.position)
        block = blocks[f"data-u{i}"]
        assert rows[item["row"]]["id"] == item["id"]
        assert block["position"] == [update.position for update in own] == [10, 20, 30, 40, 45]
        for name in ("loss", "residual", "relative", "norm", "predicted"):
            assert block[name] == pytest.approx([getattr(update, name) for update in own], rel=1e-3)
        assert block["step_norm"][0] is None  # the first stored position has no step
        assert block["layer_step"][0] is None
        assert block["layer_step"][2] == pytest.approx(own[2].layer_step, rel=1e-2)
        assert block["layer_norm"][2] == pytest.approx(own[2].layer_norm, rel=1e-2)
        assert block["layer_error"] == [None] * 5  # this gauge has none
    json.dumps(blocks, allow_nan=False)


def test_a_column_holds_the_text_read_since_the_position_before(make_run: MakeRun, story: Any) -> None:
    asked, told, curves, found = story
    blocks = update_blocks(view(make_run(asked, told, curves, updates=found)))
    text = {trajectory.id: trajectory.text for trajectory in told}
    assert "".join(blocks["data-u0"]["tokens"]) == text[curves[0].trajectory_id]
    assert blocks["data-u0"]["tokens"][1] == "".join(piece or "" for piece in curves[0].token[11:21])
    without = update_blocks(view(make_run(asked, told, updates=found)))
    assert without["data-u0"]["tokens"] == [None] * 5
    assert without["data-u0"]["last"] == 45


def test_text_is_shown_only_where_the_measured_positions_allow(make_run: MakeRun) -> None:
    told = Trajectory(id="q/s", question_id="q", text="ab cd ef", source=Source.SOLUTION)
    full = curve(told, ["ab", " cd", " ef"], [3.0, 2.0, 1.0, 1.0])
    (last, *_) = reversed(made_up_updates([told], [full], every=1, untrained=False))
    sparse = Curve(
        question_id="q",
        trajectory_id="q/s",
        position=(0, 2, 3),
        token_id=(None, 1, 2),
        token=(None, "ab cd", " ef"),
        loss=(3.0, 1.0, 1.0),
        answer_tokens=1,
    )
    found = [dataclasses.replace(last, position=position) for position in (1, 2, 3)]
    question = Question(id="q", question="?", answer="1")
    block = update_blocks(view(make_run([question], [told], [sparse], updates=found)))["data-u0"]
    assert block["tokens"] == [None, None, " ef"]


def test_actual_change_leaves_out_the_shift_of_positions(make_run: MakeRun, story: Any) -> None:
    asked, told, curves, found = story
    built = section(make_run(asked, told, curves, updates=found))
    points, items = built["points"], built["items"]
    exact = {(update.id, update.position): update for update in found}
    assert points["all"] == len(points["item"]) == len(found)
    for item, position, predicted, actual in zip(
        *(points[name] for name in ("item", "position", "predicted", "actual")), strict=True
    ):
        suffix = "@untrained" if items[item]["untrained"] else ""
        update = exact[items[item]["id"] + suffix, position]
        assert actual == pytest.approx(update.loss - update.base_loss, rel=1e-3, abs=1e-6)
        assert predicted == pytest.approx(update.predicted, rel=1e-3)


def test_position_zero_and_what_was_not_measured_are_no_points(make_run: MakeRun, story: Any) -> None:
    asked, told, curves, found = story
    first = dataclasses.replace(found[0], position=0)
    without = dataclasses.replace(found[1], predicted=None)
    points = section(make_run(asked, told, curves, updates=[first, without, found[2]]))["points"]
    assert points["position"] == [found[2].position]
    none = made_up_updates(told, curves, aligned=False)
    built = section(make_run(asked, told, curves, updates=none))
    assert (built["points"], built["table"]) == (None, [])


def test_many_points_are_thinned(make_run: MakeRun, story: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, told, curves, found = story
    monkeypatch.setattr(sys.modules[updates.__module__], "MOST_POINTS", 7)
    points = section(make_run(asked, told, curves, updates=found))["points"]
    assert (len(points["item"]), points["all"]) == (7, len(found))


def test_the_table_takes_its_numbers_from_the_statistics(make_run: MakeRun, story: Any) -> None:
    asked, told, _, found = story
    seen = view(make_run(asked, told, updates=found))
    built = updates(seen)
    assert built is not None
    groups = {entry.trajectory.id: entry.group for entry in seen.entries}
    expected = summarise(seen.updates, {name: group.key for name, group in groups.items()})
    assert [row["key"] for row in built["table"]] == [row.group for row in expected]
    assert [row["untrained"] for row in built["table"]] == [False] * 5 + [True]
    for row, exact in zip(built["table"], expected, strict=True):
        assert (row["questions"], row["points"]) == (exact.questions, exact.points) == (4, 20)
        for name in ("correlation", "slope", "sign_agreement", "z", "step_correlation", "causal_cosine"):
            interval = getattr(exact, name)
            assert row[name]["mean"] == significant(interval.mean)
            assert row[name]["low"] == significant(interval.low)


def test_groups_are_kinds_of_trajectory(make_run: MakeRun, story: Any) -> None:
    asked, told, curves, found = story
    groups = section(make_run(asked, told, curves, updates=found))["groups"]
    assert [group["label"] for group in groups] == [
        "Worked solutions",
        "Samples, right",
        "Samples, wrong",
        "Control: other question",
        "Control: shuffled tokens",
        "Untrained model: worked solutions",
    ]
    assert [group["control"] for group in groups] == [False, False, False, True, True, True]


def test_an_update_whose_trajectory_was_lost_is_still_shown(make_run: MakeRun, story: Any) -> None:
    asked, _, _, found = story
    built = section(make_run(asked, updates=found[:3]))
    assert [item["row"] for item in built["items"]] == [None]
    assert built["groups"][0]["label"] == "Not in this run"
    assert built["table"][0]["points"] == 3


def test_the_largest_residual_is_named_with_its_place(make_run: MakeRun, story: Any) -> None:
    asked, told, curves, found = story
    worst = dataclasses.replace(found[2], residual=0.25, deficient=2)
    exact = section(make_run(asked, told, curves, updates=[*found[:2], worst, *found[3:]]))["exact"]
    assert (exact["residual"], exact["id"], exact["position"]) == (0.25, worst.trajectory_id, worst.position)
    assert (exact["positions"], exact["trajectories"], exact["deficient"]) == (100, 20, 1)  # of the model itself
    fresh = [update for update in found if update.untrained]
    assert exact["untrained"] == pytest.approx(max(update.residual for update in fresh), rel=0.05)
    assert section(make_run(asked, told, updates=fresh))["exact"]["positions"] == len(fresh) == 20
    undefined = dataclasses.replace(worst, residual=math.nan)
    exact = section(make_run(asked, told, curves, updates=[*found[:2], undefined]))["exact"]
    assert (exact["residual"], exact["id"]) == (None, worst.trajectory_id)  # no number is worse than any number


def test_the_paper_gauge_shows_its_own_error(make_run: MakeRun, story: Any) -> None:
    asked, told, curves, found = story
    assert section(make_run(asked, told, curves, updates=found))["exact"]["error"] is None
    paper = made_up_updates(told, curves, gauge="paper")
    run = make_run(asked, told, updates=paper)
    errors = [error for update in paper for error in update.layer_error or ()]
    shown = section(run)["exact"]["error"]
    assert shown["most"] == pytest.approx(max(errors), rel=0.01)
    assert shown["layer"] in (2, 3)  # the middle of six
    assert update_blocks(view(run))["data-u0"]["layer_error"][0] == pytest.approx(paper[0].layer_error, rel=1e-2)
    assert "Error of the approximation" in page.write(run).read_text(encoding="utf-8")


def test_the_page_says_what_the_numbers_cannot_show_in_three_sentences(make_run: MakeRun, story: Any) -> None:
    asked, told, _, found = story
    assert len(CAUTIONS) == 3
    for caution in CAUTIONS:
        assert re.findall(r"[.!?]", caution) == ["."]
        assert caution.endswith(".")
    html = page.render(collect(make_run(asked, told, updates=found)))
    for word in ("attention", "weights", "kept", "same position ids"):
        assert word in html


def test_without_the_kept_positions_there_is_no_shift_to_explain(make_run: MakeRun, story: Any) -> None:
    asked, told, _, found = story
    moved = [dataclasses.replace(update, placement="contiguous") for update in found]
    html = page.render(collect(make_run(asked, told, updates=moved)))
    assert "follow the question directly" in html
    assert "same position ids" not in html


@pytest.mark.parametrize(
    ("value", "shown"), [(1.23456e-7, 1.235e-7), (0.0, 0.0), (math.nan, None), (math.inf, None), (None, None)]
)
def test_numbers_of_any_size_keep_their_digits(value: float | None, shown: float | None) -> None:
    assert significant(value) == shown


def test_stored_nulls_come_back_as_nulls(make_run: MakeRun, story: Any) -> None:
    asked, told, curves, _ = story
    bare: list[Update] = made_up_updates(told, curves, aligned=False)
    block = update_blocks(view(make_run(asked, told, curves, updates=bare)))["data-u0"]
    for name in ("predicted", "cosine", "layer_predicted", "layer_cosine", "layer_error"):
        assert block[name] == [None] * 5
