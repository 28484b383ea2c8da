"""The update and the landscape section in a real browser."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from innerloop.report import page as report
from innerloop.report.embed import visible
from innerloop.schema import Question, Source, Trajectory
from innerloop.testing.runs import curve, made_up, made_up_landscapes, made_up_updates

pytestmark = pytest.mark.browser

HOSTILE = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"><b>bold</b>\u202etxet&lt;"
)

MakeRun = Callable[..., Path]
Open = Callable[..., Any]
Until = Callable[..., None]


@pytest.fixture(scope="module")
def story() -> Any:
    asked, told, curves = made_up(questions=3, tokens=60)
    updates = made_up_updates(told, curves)
    return asked, told, curves, updates, made_up_landscapes(asked, updates)


@pytest.fixture(scope="module")
def small(make_run: MakeRun, story: Any) -> Path:
    asked, told, curves, updates, landscapes = story
    return report.write(make_run(asked, told, curves, updates=updates, landscapes=landscapes))


@pytest.fixture(scope="module")
def flat(make_run: MakeRun, story: Any) -> Path:
    """Without the landscapes, whose drawing takes longer than all the rest."""
    asked, told, curves, updates, _ = story
    return report.write(make_run(asked, told, curves, updates=updates))


def scrolled(tab: Any, until: Until) -> Any:
    """Down to each of the two sections, whose figures are drawn when one comes near."""
    for section, figure in (("update", "update-heat"), ("landscape", "landscape-contour")):
        if tab.locator(f"#{section}").count():
            tab.locator(f"#{section}").evaluate("section => section.scrollIntoView()")
            until(tab, f"Boolean(document.getElementById('{figure}').on)", seconds=30)
    return tab


@pytest.fixture
def open_inner(open_page: Open, until: Until) -> Open:
    """`open_page`, with the figures of both sections drawn."""
    return lambda file, **more: scrolled(open_page(file, **more), until)


@pytest.fixture
def read_inner(read_page: Open, until: Until) -> Open:
    """`read_page`, with the figures of both sections drawn."""
    return lambda file, **more: scrolled(read_page(file, **more), until)


def note(tab: Any) -> str:
    return tab.locator("#popover").inner_text()


def place(tab: Any, chart: str, x: float, y: float) -> tuple[float, float]:
    """Pixels of a point of a chart, given in its coordinates, after the chart was brought into view."""
    spot = tab.evaluate(
        """([chart, x, y]) => {
          const plot = document.getElementById(chart);
          plot.scrollIntoView({block: "center"});
          const {xaxis, yaxis} = plot._fullLayout, box = plot.getBoundingClientRect();
          return [box.left + xaxis._offset + xaxis.l2p(x), box.top + yaxis._offset + yaxis.l2p(y)];
        }""",
        [chart, x, y],
    )
    return spot[0], spot[1]


def hover(tab: Any, chart: str, x: float, y: float) -> None:
    at = place(tab, chart, x, y)
    tab.mouse.move(at[0] - 3, at[1] - 3)
    tab.mouse.move(*at)
    tab.locator("#popover").wait_for(state="visible")


def test_the_sections_stand_in_the_navigation_where_the_run_has_them(small: Path, flat: Path, read_page: Open) -> None:
    assert read_page(small).locator(".bar nav a").all_inner_texts()[-2:] == ["Update", "Landscape"]
    tab = read_page(flat)
    assert tab.locator(".bar nav a").all_inner_texts()[-1] == "Update"
    assert tab.locator("#landscape").count() == 0


def test_a_hover_over_the_map_shows_the_step_and_the_text_read(flat: Path, read_inner: Open, story: Any) -> None:
    tab = read_inner(flat)
    update = story[3][2]  # q-0/solution-0 at position 30
    hover(tab, "update-heat", 25, 2)
    shown = note(tab)
    text = "".join(piece or "" for piece in story[2][0].token[21:31])
    assert text.replace(" ", "␣").replace("\n", "↵") in shown
    assert "layer 2, tokens 21–30 of 60" in shown
    step = float(re.search(r"step\s+([\d.]+)", shown)[1])  # type: ignore[index]
    assert step == pytest.approx(update.layer_step[2], rel=0.01)
    assert tab.locator("#update-heat .overlay rect").count() == 1
    tab.mouse.move(5, 5)
    assert tab.locator("#popover").is_hidden()


def test_the_map_answers_the_arrow_keys(flat: Path, open_inner: Open) -> None:
    tab = open_inner(flat)
    tab.locator("#update-heat").focus()
    tab.keyboard.press("ArrowRight")
    assert "layer 0, tokens 11–20 of 60" in note(tab)  # the first stored position has no step
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowUp")
    assert "layer 1, tokens 21–30 of 60" in note(tab)
    tab.keyboard.press("Escape")
    assert tab.locator("#popover").is_hidden()


def test_other_numbers_by_layer(flat: Path, open_inner: Open, until: Until) -> None:
    tab = open_inner(flat)
    columns = "document.getElementById('update-heat').data[0].z[0].length"
    assert tab.evaluate(columns) == 5
    tab.locator("#update-show").select_option("layer_norm")
    until(tab, f"{columns} === 6")  # the first position has a distance from θ too
    tab.locator("#update-log").check()
    until(tab, "document.getElementById('update-heat').data[0].z[3][5] < Math.log10(3)")
    tab.locator("#update-show").select_option("layer_predicted")
    until(tab, "document.getElementById('update-heat').data[0].zmin < 0")
    assert tab.locator("#update-log").is_hidden()
    assert "error of the approximation" not in tab.locator("#update-show").inner_text()  # of the paper's gauge alone


def test_the_scatter_shows_predicted_and_actual_change(flat: Path, open_inner: Open, until: Until, story: Any) -> None:
    tab = open_inner(flat)
    update = min((one for one in story[3] if not one.untrained), key=lambda one: one.loss - one.base_loss)
    hover(tab, "update-scatter", update.predicted, update.loss - update.base_loss)
    shown = note(tab)
    assert update.trajectory_id in shown
    assert f"{abs(update.predicted):.3f} nats" in shown
    assert f"{abs(update.loss - update.base_loss):.3f} nats" in shown
    count = "document.getElementById('update-scatter').data.length"
    before = tab.evaluate(count)
    assert before == 1 + 6 + 1  # the line of agreement, the groups, the ring
    tab.locator("#update-legend button").first.click()
    until(tab, f"{count} === {before - 1}")


def test_a_click_on_a_point_opens_its_trajectory(flat: Path, open_inner: Open, until: Until, story: Any) -> None:
    tab = open_inner(flat)
    update = min(
        (one for one in story[3] if one.question_id == "q-2" and not one.untrained),
        key=lambda one: one.loss - one.base_loss,
    )
    at = (update.predicted, update.loss - update.base_loss)
    hover(tab, "update-scatter", *at)
    shown = note(tab).splitlines()[0]
    tab.mouse.click(*place(tab, "update-scatter", *at))
    until(tab, f"document.getElementById('reader-name').textContent === {shown!r}")
    assert tab.locator("#update-pick option:checked").inner_text() == shown


def test_the_picker_walks_and_follows_the_reader(flat: Path, open_inner: Open) -> None:
    tab = open_inner(flat)
    chosen = tab.locator("#update-pick option:checked")
    assert chosen.inner_text() == tab.locator("#reader-name").inner_text() == "q-0/solution-0"
    tab.locator("#update-next").click()
    assert chosen.inner_text() == tab.locator("#reader-name").inner_text() == "q-0/sample-1"
    tab.keyboard.press("j")  # within the section the keys walk through the updates
    assert chosen.inner_text() == "q-0/sample-2"
    tab.keyboard.press("k")
    assert chosen.inner_text() == "q-0/sample-1"
    tab.locator("#reader-next").click()
    assert chosen.inner_text() == "q-0/sample-2"
    tab.locator("#update-pick").select_option(label="q-1/solution-0, untrained model")
    assert tab.locator("#reader-name").inner_text() == "q-1/solution-0"
    assert chosen.inner_text() == "q-1/solution-0, untrained model"
    assert "Untrained model" in tab.locator("#update-facts").inner_text()
    assert tab.locator("#update-next").is_enabled()


def test_one_stored_position_is_a_profile(make_run: MakeRun, open_inner: Open, story: Any) -> None:
    asked, told, curves, *_ = story
    updates = made_up_updates(told, curves, every=1000, aligned=False)
    tab = open_inner(report.write(make_run(asked, told, curves, updates=updates)))
    assert tab.evaluate("document.getElementById('update-heat').data[0].type") == "bar"
    assert tab.locator("#update-scatter, .alignment").count() == 0
    assert "not measured" in tab.locator("#update .cautions").inner_text()
    tab.locator("#update-heat").focus()
    tab.keyboard.press("ArrowRight")
    assert "layer 0" in note(tab)
    assert "predicted" not in note(tab)


def test_surface_and_contours_show_the_same_data(small: Path, open_inner: Open, until: Until, story: Any) -> None:
    tab = open_inner(small)
    tab.locator("#landscape").scroll_into_view_if_needed()
    until(tab, "document.querySelector('#landscape-surface canvas') !== null", seconds=30)
    for chart in ("surface", "contour"):
        first = tab.evaluate(
            f"(({{type, x, y, z}}) => ({{type, x, y, z}}))(document.getElementById('landscape-{chart}').data[0])"
        )
        assert first["type"] == chart
        assert first["z"][0] == pytest.approx(story[4][0].loss[::11], rel=1e-4)  # β fixed at its first value
        assert first["x"] == pytest.approx(story[4][0].alpha, abs=1e-4)
    assert "the plane holds 90 % of the path" in tab.locator("#landscape-facts").inner_text()
    assert "highest eigenvalue" in tab.locator("#landscape-sharpness").inner_text()
    assert "310 ± 12" in tab.locator("#landscape-sharpness").inner_text()
    eye = "document.getElementById('landscape-surface')._fullLayout.scene.camera.eye.x"
    before = tab.evaluate(eye)
    tab.locator("#landscape-surface").focus()
    tab.keyboard.press("ArrowLeft")
    until(tab, f"Math.abs({eye} - {before}) > 0.05")


def test_the_path_answers_the_pointer(small: Path, read_inner: Open, story: Any) -> None:
    tab = read_inner(small)
    path = story[4][0]
    hover(tab, "landscape-contour", path.path_alpha[3], path.path_beta[3])
    assert f"position {path.position[3]}" in note(tab)
    assert f"{path.path_loss[3]:.3f} nats" in note(tab)


def test_the_papers_drawing_is_a_switch(small: Path, open_inner: Open, until: Until) -> None:
    tab = open_inner(small)
    count = "document.getElementById('landscape-contour').data.length"
    before = tab.evaluate(count)
    assert not tab.locator("#landscape-overlay").is_checked()
    tab.locator("#landscape-overlay").check()
    until(tab, f"{count} === {before + 1}")
    assert "the paper's drawing" in tab.locator("#landscape-note").inner_text()
    tab.locator("#landscape-path").uncheck()
    until(tab, f"{count} === {before - 1}")  # the path and its rim


def test_questions_and_figures_can_be_chosen(small: Path, open_inner: Open, until: Until) -> None:
    tab = open_inner(small)
    question, figure = tab.locator("#landscape-question"), tab.locator("#landscape-plane")
    figure.select_option(label="lines along the path and along −∇L")
    until(tab, "document.getElementById('landscape-lines').data?.length === 2")
    assert tab.locator("#landscape-planes").is_hidden()
    tab.locator("#landscape-next").click()
    assert question.locator("option:checked").inner_text().startswith("q-1")
    assert figure.locator("option:checked").inner_text().startswith("lines along")
    figure.select_option(label="random directions, per filter")
    assert "seed 3" in tab.locator("#landscape-facts").inner_text()
    assert "trajectory" not in tab.locator("#landscape-facts").inner_text()  # a random plane has none
    assert tab.locator("#landscape-path").is_hidden()
    tab.locator("#table-grid tbody tr").last.click()
    assert question.locator("option:checked").inner_text().startswith("q-2")  # it follows the reader


@pytest.mark.parametrize("kind", [pytest.param("png", marks=pytest.mark.long), "svg"])
def test_figures_can_be_saved(small: Path, read_inner: Open, until: Until, kind: str) -> None:
    tab = read_inner(small)
    for figure in ("update-scatter", "update-heat", "landscape-surface", "landscape-contour"):
        tab.locator(f"#{figure}").scroll_into_view_if_needed()
        until(tab, f"Boolean(document.getElementById('{figure}').data)", seconds=30)
        with tab.expect_download() as waiting:
            tab.locator(f"[data-export='{figure}'] button", has_text=kind.upper()).click()
        assert waiting.value.suggested_filename == f"innerloop-{figure}.{kind}"
        content = Path(waiting.value.path()).read_bytes()
        assert content.startswith(b"\x89PNG" if kind == "png" else b"<svg")
        assert len(content) > 5000


def test_the_lines_can_be_saved(small: Path, open_inner: Open, until: Until) -> None:
    tab = open_inner(small)
    tab.locator("#landscape-plane").select_option(index=1)
    until(tab, "Boolean(document.getElementById('landscape-lines').data)")
    with tab.expect_download() as waiting:
        tab.locator("[data-export='landscape-lines'] button", has_text="SVG").click()
    assert "along −∇L" in Path(waiting.value.path()).read_text(encoding="utf-8")


def test_without_webgl_the_contours_stand_alone(
    small: Path, open_inner: Open, start_browser: Callable[..., Any]
) -> None:
    tab = open_inner(small, browser=start_browser("--disable-3d-apis"))
    tab.locator("#landscape").scroll_into_view_if_needed()
    assert tab.locator("#landscape-contour .main-svg").first.is_visible()
    assert tab.locator("#landscape-solid").is_hidden()
    assert "needs WebGL" in tab.locator("#landscape-note").inner_text()


def test_hostile_text_shows_as_text(make_run: MakeRun, open_inner: Open, until: Until) -> None:
    question = Question(id=HOSTILE, question=HOSTILE, answer="1")
    told = Trajectory(id=f"{HOSTILE}/s", question_id=HOSTILE, text=HOSTILE, source=Source.SOLUTION)
    measured = curve(told, list(HOSTILE), [1.0] * (len(HOSTILE) + 1))
    updates = [
        dataclasses.replace(one, gauge=HOSTILE, scope=HOSTILE, placement=HOSTILE)
        for one in made_up_updates([told], [measured])
    ]
    landscapes = [
        dataclasses.replace(one, sharpness_weights=HOSTILE, plane=HOSTILE if one.seed else one.plane)
        for one in made_up_landscapes([question], updates)
    ]
    tab = open_inner(report.write(make_run([question], [told], [measured], updates=updates, landscapes=landscapes)))
    expected = visible(HOSTILE)
    for place_of_text in ("#update .facts", "#update-pick", "#landscape-question", "#landscape-plane"):
        assert expected[:80] in tab.locator(place_of_text).first.text_content()
    assert expected in tab.locator("#landscape-sharpness").text_content()
    assert expected in tab.locator("#landscape-facts").text_content()
    hover(tab, "update-heat", 35, 2)
    assert "</script><" in note(tab)
    hover(tab, "update-scatter", updates[0].predicted, updates[0].loss - updates[0].base_loss)
    assert "<script>" in note(tab)
    tab.locator("#landscape-overlay").check()
    until(tab, f"document.getElementById('landscape-note').textContent.includes({expected!r})")
    assert tab.locator("#update img, #update b b, #landscape img, #popover img, #popover b").count() == 0
    assert not tab.title().startswith("owned")


@pytest.mark.parametrize("width", [400, 1280])
def test_no_sideways_scrolling_of_the_page(small: Path, open_inner: Open, width: int) -> None:
    tab = open_inner(small, width=width)
    for summary in tab.locator("summary").all():
        summary.click()
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.locator("#landscape-plane").select_option(index=1)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_every_control_has_a_name_and_nothing_offers_the_network(small: Path, read_inner: Open) -> None:
    tab = read_inner(small)
    nameless = tab.evaluate(
        """() => [...document.querySelectorAll("button, select, input, a, [tabindex='0'][role=img]")].filter((node) =>
          !(node.getAttribute("aria-label") || node.textContent.trim() || node.closest("label")?.textContent.trim())
        ).map((node) => node.outerHTML)"""
    )
    assert nameless == []
    assert tab.locator(".modebar-btn[data-title*='hare'], .modebar-btn[data-title*='loud']").count() == 0


def test_the_theme_reaches_the_new_figures(small: Path, open_inner: Open, until: Until) -> None:
    tab = open_inner(small, scheme="dark")
    tab.locator("#theme").click()
    paper = "getComputedStyle(document.body).backgroundColor"
    for figure in ("update-heat", "update-scatter", "landscape-contour"):
        until(tab, f"document.getElementById('{figure}').layout.paper_bgcolor === {paper}")
