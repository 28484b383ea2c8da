"""The landscape section's data: grids the right way round, paths as stored, and the paper's drawing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.report.data import collect
from innerloop.report.landscapes import landscape_blocks, landscapes, overlay
from innerloop.report.view import view
from innerloop.schema import Landscape
from innerloop.testing.runs import made_up, made_up_landscapes, made_up_updates

pytestmark = pytest.mark.slow  # each makes a whole page

MakeRun = Callable[..., Path]


@pytest.fixture(scope="module")
def story() -> Any:
    asked, told, curves = made_up(questions=3, tokens=30)
    return asked, told, curves, made_up_landscapes(asked, made_up_updates(told, curves))


def bowl(**changes: Any) -> Landscape:
    """L = α + 10 β on a grid of 3 × 2."""
    alpha, beta = (0.0, 1.0, 2.0), (0.0, 1.0)
    made = Landscape(
        id="q/x",
        question_id="q",
        plane="random-tensor",
        alpha=alpha,
        beta=beta,
        loss=tuple(a + 10 * b for a in alpha for b in beta),
    )
    return dataclasses.replace(made, **changes)


def test_a_run_without_landscapes_has_no_section(make_run: MakeRun, story: Any) -> None:
    assert "landscape" not in collect(make_run(*story[:3])).sections


def test_a_row_of_the_page_runs_along_alpha(make_run: MakeRun) -> None:
    block = landscape_blocks(view(make_run(landscapes=[bowl()])))["data-l0"]
    assert block["loss"] == [[0, 1, 2], [10, 11, 12]]
    assert (block["alpha"], block["beta"]) == ([0, 1, 2], [0, 1])
    assert block["path_alpha"] == []
    assert block["captured"] is None
    assert block["overlay"] is None  # there is no loss in time to draw


def test_figures_per_question_and_lines_together(make_run: MakeRun, story: Any) -> None:
    asked, told, curves, found = story
    seen = view(make_run(asked, told, curves, landscapes=list(reversed(found))))
    section = landscapes(seen)
    assert section is not None
    assert [question["id"] for question in section["questions"]] == [question.id for question in asked]
    own = [item for item in section["items"] if item["question"] == 1]
    assert [item["label"] for item in own] == [
        "the trajectory's own plane",
        "lines along the path and along −∇L",
        "random directions, per filter",
    ]
    assert [item["seed"] for item in own] == [None, None, "3"]
    assert own[0]["trajectory"] == "q-1/solution-0"
    assert seen.entries[own[0]["row"]].trajectory.id == "q-1/solution-0"
    lines = landscape_blocks(seen)[f"data-l{section['items'].index(own[1])}"]["lines"]
    assert [line["plane"] for line in lines] == ["path-line", "gradient-line"]
    stored = {one.id: one for one in found}
    assert lines[1]["loss"] == pytest.approx(stored["q-1/gradient-line"].loss, rel=1e-4)


def test_the_path_stands_at_its_stored_coordinates(make_run: MakeRun, story: Any) -> None:
    asked, told, curves, found = story
    block = landscape_blocks(view(make_run(asked, told, curves, landscapes=found)))["data-l0"]
    assert block["path_alpha"] == pytest.approx(found[0].path_alpha, rel=1e-4)
    assert block["path_beta"] == pytest.approx(found[0].path_beta, rel=1e-4, abs=1e-12)
    assert block["path_loss"] == pytest.approx(found[0].path_loss, rel=1e-4)
    assert block["position"] == list(found[0].position)
    assert block["captured"] == 0.9


def test_undefined_losses_are_gaps(make_run: MakeRun) -> None:
    block = landscape_blocks(view(make_run(landscapes=[bowl(loss=(0, math.nan, 1, math.inf, 2, 12))])))["data-l0"]
    assert block["loss"] == [[0, 1, 2], [None, None, 12]]


def test_sharpness_belongs_to_the_question_and_null_is_absent(make_run: MakeRun) -> None:
    measured = {"sharpness_weights": "all", "top_eigenvalue": 0.0, "trace": 4.0}
    found = [bowl(), bowl(id="q/y", plane="path", **measured), bowl(id="r/x", question_id="r")]
    section = landscapes(view(make_run(landscapes=found)))
    assert section is not None
    (row,) = section["questions"][0]["sharpness"]
    assert row == {"weights": "all", "top_eigenvalue": 0, "low_eigenvalue": None, "trace": 4, "trace_error": None}
    assert section["questions"][1]["sharpness"] == []


def test_a_random_plane_can_show_the_papers_drawing_of_a_probed_trajectory(make_run: MakeRun, story: Any) -> None:
    asked, told, curves, found = story
    seen = view(make_run(asked, told, curves, landscapes=found))
    section = landscapes(seen)
    assert section is not None
    at = next(i for i, item in enumerate(section["items"]) if item["plane"] == "random-filter")
    drawing = landscape_blocks(seen)[f"data-l{at}"]["overlay"]
    assert drawing["of"] == "q-0/solution-0"
    assert len(drawing["alpha"]) == len(curves[0].loss)


def test_the_papers_drawing_by_hand() -> None:
    assert overlay(bowl(), [0.2, 9.0, 4.0]) == {"alpha": [0, 1, 2], "beta": [0, 1, 0], "loss": [0, 11, 2]}


@given(
    st.lists(st.floats(0, 20), min_size=2, max_size=12),
    st.integers(2, 6),
    st.integers(2, 6),
    st.randoms(use_true_random=False),
)
def test_no_grid_point_of_its_column_is_nearer(losses: list[float], rows: int, columns: int, draw: Any) -> None:
    grid = [[draw.uniform(0, 20) for _ in range(columns)] for _ in range(rows)]
    made = bowl(
        alpha=tuple(np.linspace(-1, 1, rows)),
        beta=tuple(np.linspace(-2, 2, columns)),
        loss=tuple(value for row in grid for value in row),
    )
    found = overlay(made, losses)
    assert found["alpha"] == pytest.approx(np.linspace(-1, 1, len(losses)), abs=1e-4)
    for time, loss in enumerate(losses):
        column = grid[round(time / (len(losses) - 1) * (rows - 1))]
        assert abs(found["loss"][time] - loss) <= min(abs(value - loss) for value in column) + 1e-3
