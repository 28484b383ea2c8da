"""The training section in a real browser: curves drawn from the records, other axes, runs overlaid."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from innerloop.report import page as report
from innerloop.report.data import collect
from innerloop.schema import Step
from innerloop.testing.trainings import made_up_steps, write_training

pytestmark = pytest.mark.browser
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><b>x</b>"

Open = Callable[..., Any]
Until = Callable[..., None]
STEPS = made_up_steps(steps=100, looks=5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.write(write_training(tmp_path_factory.mktemp("trained") / "R", STEPS))


def drawn(tab: Any, until: Until, key: str) -> list[dict[str, Any]]:
    """The lines of a chart as plotly holds them, bands left out; scrolls to it."""
    tab.locator(f"#training-{key}").scroll_into_view_if_needed()
    until(tab, f"document.querySelectorAll('#training-{key} .scatterlayer .trace').length > 0")
    lines = "({x: [...line.x], y: [...line.y], meta: line.meta, mode: line.mode})"
    found: list[dict[str, Any]] = json.loads(
        tab.evaluate(
            f"JSON.stringify(document.querySelector('#training-{key}').data.filter((line) => line.meta)"
            f".map((line) => {lines}))"
        )
    )
    return found


def numbers(name: str, kind: str = "train", steps: list[Step] = STEPS) -> list[float]:
    return [dict(step.metrics)[name] for step in steps if step.kind == kind]


def test_the_curves_are_the_records(trained: Path, open_page: Open, until: Until) -> None:
    tab = open_page(trained)
    tab.locator("#training-smooth").uncheck()
    for key, name, kind in (
        ("watch-pass", "watch_pass@1", "watch"),
        ("reward", "reward", "train"),
        ("entropy", "entropy", "train"),
        ("length", "completions/mean_length", "train"),
        ("flat", "frac_reward_zero_std", "train"),
        ("gradient", "grad_norm", "train"),
        ("rate", "learning_rate", "train"),
    ):
        (line,) = drawn(tab, until, key)
        assert line["meta"]["name"] == name
        assert line["x"] == [step.step for step in STEPS if step.kind == kind]
        assert line["y"] == pytest.approx(numbers(name, kind), rel=1e-5)
    assert tab.locator("#training-reward .scatterlayer .fills path, #training-reward .js-fill").count() > 0
    assert [line["meta"]["label"] for line in drawn(tab, until, "right")] == ["right answer", "right form"]


def test_another_axis(trained: Path, open_page: Open, until: Until) -> None:
    tab = open_page(trained)
    drawn(tab, until, "reward")
    for label, values in (
        ("minutes of training", [step.step / 60 for step in STEPS if step.kind == "train"]),
        ("tokens", [1000.0 * step.step for step in STEPS if step.kind == "train"]),
    ):
        tab.locator("#training-x").select_option(label=label)
        until(tab, f"Math.abs(document.querySelector('#training-reward').data.at(-1).x.at(-1) - {values[-1]}) < 1e-3")
        assert drawn(tab, until, "reward")[0]["x"] == pytest.approx(values, rel=1e-5)


def test_smoothing_keeps_the_steps_and_the_means(trained: Path, read_page: Open, until: Until) -> None:
    tab = read_page(trained)
    assert tab.locator("#training-smooth").is_checked()
    (line,) = drawn(tab, until, "reward")
    raw = numbers("reward")
    assert line["y"] != pytest.approx(raw, rel=1e-3)
    assert line["y"][0] == pytest.approx(raw[0], rel=1e-5)
    half = 3  # a fortieth on either side
    assert line["y"][50] == pytest.approx(sum(raw[50 - half : 51 + half]) / (2 * half + 1), rel=1e-4)
    everything = tab.evaluate("document.querySelector('#training-reward').data.map((one) => one.y.length)")
    assert everything == [100] * 4, "two ends of the band, the steps, the means"
    assert drawn(tab, until, "watch-pass")[0]["y"] == pytest.approx(numbers("watch_pass@1", "watch"), rel=1e-5)


def test_words_table_and_any_other_measure(trained: Path, open_page: Open, until: Until) -> None:
    tab = open_page(trained)
    said = collect(trained.parent).sections["training"]["statements"]
    assert tab.locator("#training .lead").inner_text() == said[0]
    assert tab.locator("#training .findings li").all_inner_texts() == said[1:]
    tab.locator("#training details summary").click()
    row = tab.locator("#training-table tr", has_text="Groups without a signal").inner_text().split("\t")
    assert row[1:3] == ["1 to 100", "0.005"]
    tab.locator("#training-any").select_option(label="step_time")
    assert drawn(tab, until, "other")[0]["meta"]["name"] in ("num_tokens", "step_time")
    until(tab, "document.querySelector('#training-other').data.at(-1).meta.name === 'step_time'")


def test_what_is_chosen_outlives_the_page_s_loading_itself_again(trained: Path, open_page: Open, until: Until) -> None:
    tab = open_page(trained)
    tab.locator("#training-x").select_option("tokens")
    tab.locator("#training-smooth").uncheck()
    tab.locator("#training-any").select_option("step_time")
    tab.reload()
    assert drawn(tab, until, "reward")[0]["x"] == [1000.0 * step.step for step in STEPS if step.kind == "train"]
    assert not tab.locator("#training-smooth").is_checked()
    assert drawn(tab, until, "other")[0]["meta"]["name"] == "step_time"
    assert open_page(trained).locator("#training-x").input_value() == "step", "another tab has choices of its own"


def test_a_hover_names_the_number(trained: Path, read_page: Open, until: Until) -> None:
    tab = read_page(trained)
    drawn(tab, until, "watch-pass")
    tab.locator("#training-watch-pass .nsewdrag").hover()
    until(tab, "!document.getElementById('popover').hidden")
    assert "step 50" in tab.locator("#popover").inner_text()
    assert "0.35" in tab.locator("#popover").inner_text()


def test_runs_side_by_side(tmp_path: Path, open_page: Open, until: Until) -> None:
    first = write_training(tmp_path / "A", STEPS)
    steps = made_up_steps(steps=30, looks=3, families=(HOSTILE,), seed=1)
    second = write_training(tmp_path / "B", steps, recipe="sft")
    tab = open_page(report.write(first, collect(first, [second])))
    tab.locator("#training-smooth").uncheck()
    lines = drawn(tab, until, "reward")
    assert [line["meta"]["run"] for line in lines] == [0, 1]
    assert lines[1]["y"] == pytest.approx(numbers("reward", steps=steps), rel=1e-5)
    assert len(drawn(tab, until, "watch-pass")) == 3
    assert HOSTILE in tab.locator("[data-lines='watch-pass']").inner_text()
    tab.locator("#training-legend button", has_text="A").click()
    until(tab, "document.querySelector('#training-reward').data.filter((one) => one.meta).length === 1")
    assert "owned" not in tab.title()
    assert tab.locator("main img").count() == 0


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.long)])
def test_a_phone_needs_no_sideways_scrolling(trained: Path, open_page: Open, until: Until, scheme: str) -> None:
    tab = open_page(trained, width=375, scheme=scheme)
    tab.locator("#training details summary").click()
    drawn(tab, until, "rate")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 375
