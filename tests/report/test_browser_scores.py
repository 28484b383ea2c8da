"""The scores section in a real browser: numbers, charts, the table of questions, the samples behind a click."""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from innerloop.evaluate.tables import interval, p_value
from innerloop.report import page as report
from innerloop.report.embed import visible
from innerloop.report.evaluated import Disagreement, evaluated
from innerloop.report.view import view
from innerloop.schema import Question, Score, Trajectory
from innerloop.store import Run
from innerloop.testing.evaluations import write_evaluation

pytestmark = pytest.mark.browser
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">{{7*7}}\x00\u202etxet"

Open = Callable[..., Any]
Until = Callable[..., None]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = {"k": [1, 4, 16], "verdicts": "compare"}
    run = write_evaluation(
        tmp_path_factory.mktemp("scored") / "R",
        questions=16,
        samples=20,
        undecided=0.05,
        configuration=settings,
        notes={"compared": 640},
    )
    row = {"series": "B", "question_id": "q-3", "trajectory_id": "q-3/sample-17", "answer": "10", "reference": "10"}
    with (run / "disagreements.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [entry.name for entry in dataclasses.fields(Disagreement)])
        writer.writeheader()
        writer.writerow(row | {"recorded": "wrong", "verdict": "right", "reason": ""})
    return report.write(run)


def rows_of(tab: Any) -> Any:
    return tab.locator("#scores-grid tbody [data-i]")


def column(tab: Any, label: str) -> list[str]:
    place = tab.locator("#scores-grid th").all_inner_texts().index(label) + 1
    return [
        text.strip() for text in tab.locator(f"#scores-grid tbody [data-i] td:nth-child({place})").all_inner_texts()
    ]


def test_the_numbers_are_those_of_the_tables_to_the_last_digit(scored: Path, open_page: Open) -> None:
    tab = open_page(scored)
    found = evaluated(view(scored.parent))
    assert found is not None
    rows = [row for row in found.rows if row.group == "all"]
    for column, cell in enumerate(rows[0].cells):
        tab.locator("#scores-measure").select_option(label=cell.measure)
        drawn = tab.locator("#scores-forest tbody tr").all_inner_texts()
        assert len(drawn) == 2
        for text, row in zip(drawn, rows, strict=True):
            mean, ends = interval(row.cells[column].score, cell.measure).split(" ", 1)
            assert [mean, ends.strip("[]").replace(", ", " to ")] == text.split("\t")[-2:]
        for one in found.differences:
            if one.measure == cell.measure and one.benchmark is None:
                mean, ends = interval(one.difference, one.measure, sign="+").split(" ", 1)
                text = tab.locator("#scores-differences tbody tr").inner_text().replace("−", "-").split("\t")
                shown = [mean, ends.strip("[]").replace(", ", " to "), p_value(one.p_holm).replace("<", "< ")]
                assert text[-3:] == [re.sub(r"[+-](0\.0)\b", r"\1", part) for part in shown]
    assert tab.locator("#scores-forest .bounds").count() == 0, "of the last measure, the tokens"
    tab.locator("#scores-measure").select_option(label="Pass@4")
    assert tab.locator("#scores-forest .bounds").count() == 2


def test_groups_and_charts(scored: Path, open_page: Open, until: Until) -> None:
    tab = open_page(scored)
    tab.locator("#scores-by").select_option(label="by domain")
    assert tab.locator("#scores-forest tbody").count() == 2
    assert "counting" in tab.locator("#scores-forest").inner_text()
    for name in ("growth", "stability"):
        assert tab.locator(f"#scores-{name} .scatterlayer .trace").count() > 2
    tab.locator("#scores-stability-figure").select_option(label="G-Pass@4")
    until(tab, "document.querySelector('#scores-stability').data.at(-1).x.length === 5")
    tab.locator("#scores-growth-figure").select_option(label="all of k right")
    until(tab, "document.querySelector('#scores-growth').data.at(-1).y.at(-1) < 30")
    area = tab.locator("#scores-growth .nsewdrag")
    area.scroll_into_view_if_needed()
    area.hover()
    until(tab, "!document.getElementById('popover').hidden")
    note = tab.locator("#popover").inner_text()
    assert "k = " in note
    assert "with the undecided" in note


def test_within_and_across_domains(tmp_path: Path, open_page: Open) -> None:
    run = write_evaluation(tmp_path / "R", questions=20, samples=4, configuration={"trained_on": ["algebra"]})
    tab = open_page(report.write(run))
    tab.locator("#scores-by").select_option(label="within and across domains")
    titles = tab.locator("#scores-forest .of").all_inner_texts()
    assert titles == ["cross domain", "within domain"]
    found = evaluated(view(run))
    assert found is not None
    rows = {(row.value, row.series): row for row in found.rows if row.group == "generalisation"}
    drawn = tab.locator("#scores-forest tbody tr:not(.of)").all_inner_texts()
    for text, (side, name) in zip(drawn, [(side, name) for side in titles for name in "AB"], strict=True):
        cell = next(cell for cell in rows[side, name].cells if cell.measure == section_measure(tab))
        assert text.split("\t")[-2] == f"{100 * cell.score.mean:.1f}"
    assert "each counting once" in tab.locator("#scores-forest caption").inner_text()
    named = tab.locator("#scores-differences tbody th").all_inner_texts()
    assert [name.partition(", ")[2] for name in named] == ["", "within domain", "cross domain"]


def section_measure(tab: Any) -> str:
    name: str = tab.evaluate("document.querySelector('#scores-measure').selectedOptions[0].textContent")
    return name


def test_disagreements_come_first_and_can_be_asked_for(scored: Path, open_page: Open) -> None:
    tab = open_page(scored)
    gaps = [abs(float(text.replace("−", "-"))) for text in column(tab, "Difference")]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > gaps[-1]
    tab.locator("#scores-show").select_option(label="A right more often than B")
    assert rows_of(tab).count() == 0
    assert "No question passes" in tab.locator("#scores-grid tbody").inner_text()
    tab.locator("#scores-show").select_option(label="B sometimes right, A never")
    never = rows_of(tab).count()
    assert 0 < never < 16
    assert all(text.startswith("0/20") for text in column(tab, "A"))
    tab.locator("#scores-show").select_option(label="all questions")
    tab.locator("#scores-text").fill("NUMBER 12?")
    assert rows_of(tab).count() == 1
    assert tab.locator("#scores-count").inner_text() == "1 of 16 questions"


def test_sorting(scored: Path, open_page: Open) -> None:
    tab = open_page(scored)
    head = tab.locator("#scores-grid th[data-column='id']")
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert tab.locator("#scores-grid").get_attribute("aria-rowcount") == "17"
    names = tab.locator("#scores-grid td:first-child").all_inner_texts()
    assert [int(name.rstrip("?").split()[-1]) for name in names] == list(range(16))


def test_one_click_opens_the_samples_side_by_side(scored: Path, open_page: Open) -> None:
    tab = open_page(scored)
    assert tab.locator("#scores-samples").is_hidden()
    rows_of(tab).nth(1).click()
    panel = tab.locator("#scores-samples")
    assert panel.locator(".series > div").count() == 2
    left, right = (panel.locator(".series > div").nth(i).bounding_box() for i in range(2))
    assert left["y"] == right["y"]
    assert left["x"] < right["x"]
    assert panel.locator(".series > div").first.locator("li").count() == 16
    panel.get_by_text("4 more samples").first.click()
    assert panel.locator(".series > div").first.locator("li").count() == 20
    card = panel.locator("li").first
    assert "The answer is" in card.locator(".sample-text").inner_text()
    assert "30 tokens" in card.inner_text()
    assert panel.locator("output").inner_text() == "2 of 16"
    before = panel.locator("h3").inner_text()
    panel.locator("[data-step='1']").click()
    assert panel.locator("h3").inner_text() != before
    card = panel.locator("li").first
    number = int(card.get_attribute("data-sample"))
    card.locator("[data-read]").click()
    assert tab.evaluate("location.hash").startswith("#t=")
    assert tab.locator("#reader-name").inner_text() == tab.evaluate(
        f"JSON.parse(document.getElementById('data-index').textContent).rows[{number}].id"
    )


def test_the_keyboard_opens_them_too(scored: Path, open_page: Open) -> None:
    tab = open_page(scored)
    tab.locator("#scores-grid tbody [tabindex='0']").focus()
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    assert tab.locator("#scores-samples output").inner_text() == "3 of 16"
    assert tab.evaluate("document.activeElement.id") == "scores-samples"
    for key in ("Tab", "Tab"):
        tab.keyboard.press(key)
    tab.keyboard.press("Enter")
    assert tab.locator("#scores-samples output").inner_text() == "4 of 16"


def test_a_disagreement_opens_its_sample(scored: Path, open_page: Open) -> None:
    tab = open_page(scored)
    assert tab.locator(".badge", has_text="1 of 640 differ").count() == 1
    tab.locator("[data-disagreement]").click()
    panel = tab.locator("#scores-samples")
    assert panel.locator("h3").inner_text() == "q-3"
    assert panel.locator("li .badge").all_inner_texts() == ["recorded as wrong"]
    tab.locator("#scores-show").select_option(label="recorded and our verdicts differ")
    assert rows_of(tab).count() == 1


def test_hostile_text_stays_text(tmp_path: Path, open_page: Open) -> None:
    run = write_evaluation(tmp_path / "R", questions=2, samples=2, skills={HOSTILE: 0.5, "B": 0.5})
    with Run.start(run, "again", {}) as held:
        stored = held.trajectories()
        changed = [dataclasses.replace(t, text=HOSTILE + t.text * 100, final=HOSTILE, answer=HOSTILE) for t in stored]
        held.write("trajectories", Trajectory.to_table(changed))
        asked = [dataclasses.replace(q, question=HOSTILE, answer=HOSTILE, domain=HOSTILE) for q in held.questions()]
        held.write("questions", Question.to_table(asked))
    tab = open_page(report.write(run))
    rows_of(tab).first.click()
    panel = tab.locator("#scores-samples")
    assert visible(HOSTILE) in panel.locator(".sample-text").first.inner_text()
    assert visible(HOSTILE) in panel.locator("h4").first.inner_text()
    panel.locator("button", has_text="characters").first.click()
    assert len(panel.locator(".sample-text").first.inner_text()) > 10_000
    assert visible(HOSTILE) in tab.locator("#scores-grid").inner_text()
    tab.locator("#scores-growth .nsewdrag").hover()
    assert "owned" not in tab.title() or "document.title" in tab.title()
    assert tab.locator("main img").count() == 0


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.long)])
def test_a_phone_needs_no_sideways_scrolling(scored: Path, open_page: Open, scheme: str) -> None:
    tab = open_page(scored, width=375, scheme=scheme)
    rows_of(tab).first.click()
    tab.locator("#scores details summary").first.click()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 375
    left, right = (tab.locator("#scores-samples .series > div").nth(i).bounding_box() for i in range(2))
    assert left["x"] == right["x"]
    assert left["y"] < right["y"]


def test_the_colours_follow_the_theme(scored: Path, open_page: Open) -> None:
    tab = open_page(scored, scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(document.querySelector('#scores-forest circle')).fill"
    dark = tab.evaluate(f"[{ground}, {ink}]")
    assert dark != open_page(scored).evaluate(f"[{ground}, {ink}]")


def test_thousands_of_questions_are_drawn_where_they_are_looked_at(
    tmp_path: Path, open_page: Open, until: Until
) -> None:
    run = write_evaluation(tmp_path / "R", questions=3, samples=1)
    with Run.start(run, "again", {}) as held:
        more = [
            Score(id=f"{name}|m-{i}", series=name, question_id=f"m-{i}", right=i % 2, wrong=1 - i % 2, undecided=0)
            for name in "AB"
            for i in range(2000)
        ]
        held.write("scores", Score.to_table(more))
    tab = open_page(report.write(run))
    assert rows_of(tab).count() < 100
    assert tab.locator("#scores-count").inner_text() == "2003 questions"
    start = tab.evaluate("performance.now()")
    tab.locator("#scores-text").fill("m-1999")
    assert rows_of(tab).count() == 1
    assert tab.evaluate("performance.now()") - start < 2000
    rows_of(tab).first.click()
    assert "holds the counts of these samples" in tab.locator("#scores-samples").inner_text()


def test_without_scripts_the_numbers_stand_in_the_page(scored: Path, browser: Any) -> None:
    context = browser.chromium.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(scored.as_uri())
    assert tab.locator("#scores-charts").is_hidden()
    assert tab.locator("#scores-grid").is_hidden()
    tab.locator("#scores details summary").first.click()
    assert "Pass@16" in tab.locator("#scores table.shape").first.inner_text()
    assert "differences, question by question" in tab.locator("#scores").inner_text()
    context.close()
