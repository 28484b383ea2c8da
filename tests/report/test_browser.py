"""The page in a real browser: headless Chromium, driven by playwright."""

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
from innerloop.testing.runs import curve, made_up

pytestmark = pytest.mark.browser
HOSTILE = (
    "<script>document.title='owned'</script></script><!--<script><img src=x onerror=\"document.title='owned'\">"
    "{{7*7}}<b>bold</b>\x00\x07\u202etxet\u2066\x85&lt;"
)

MakeRun = Callable[..., Path]
Open = Callable[..., Any]
Until = Callable[..., None]


@pytest.fixture(scope="module")
def small(make_run: MakeRun) -> Path:
    asked, told, curves = made_up(questions=4, tokens=60)
    curves[0] = dataclasses.replace(
        curves[0],
        candidates=("7", "<b>8</b>"),
        candidate_tokens=(1, 1),
        candidate_losses=tuple((loss, 1.0) for loss in curves[0].loss),
    )
    return report.write(make_run(asked, told, curves))


def note(tab: Any) -> str:
    return tab.locator("#popover").inner_text()


def test_a_hover_shows_the_numbers_of_a_token(small: Path, read_page: Open) -> None:
    tab = read_page(small)
    _, _, curves = made_up(questions=4, tokens=60)
    before, after = curves[0].loss[11:13]
    assert tab.locator("#popover").is_hidden()
    tab.locator("#reader-text [data-k='12']").hover()
    shown = note(tab)
    assert "token 12 of 60" in shown
    assert f"{before:.3f} → {after:.3f}" in shown
    assert f"{abs(after - before):.3f} nats" in shown
    assert "p(answer)" in shown
    assert "belief in “<b>8</b>”" in shown
    assert tab.locator("#reader-plot .overlay circle").count() == 1
    tab.mouse.move(5, 5)
    assert tab.locator("#popover").is_hidden()


def test_the_keyboard_shows_them_too(small: Path, open_page: Open) -> None:
    tab = open_page(small)
    tab.locator("#reader-text [tabindex='0']").focus()
    assert "token 1 of 60" in note(tab)
    for _ in range(3):
        tab.keyboard.press("ArrowRight")
    assert "token 4 of 60" in note(tab)
    tab.keyboard.press("ArrowLeft")
    assert "token 3 of 60" in note(tab)
    tab.keyboard.press("End")
    assert "token 60 of 60" in note(tab)
    tab.keyboard.press("Home")
    tab.keyboard.press("ArrowDown")
    top = "document.activeElement.getBoundingClientRect().top"
    assert tab.evaluate(f"{top} > document.querySelector('#reader-text [data-k=\"1\"]').getBoundingClientRect().top")
    tab.keyboard.press("ArrowUp")
    assert "token 1 of 60" in note(tab)
    assert tab.locator("#reader-text [tabindex='0']").count() == 1


def test_colour_follows_the_sign_of_the_move(small: Path, read_page: Open) -> None:
    tab = read_page(small)
    _, _, curves = made_up(questions=4, tokens=60)
    loss = curves[0].loss
    for k in range(1, 61):
        classes = tab.locator(f"#reader-text [data-k='{k}']").get_attribute("class")
        if abs(loss[k] - loss[k - 1]) > 0.05:
            assert ("dn" if loss[k] < loss[k - 1] else "up") in classes.split()


def test_filtering(small: Path, open_page: Open) -> None:
    tab = open_page(small)
    rows = tab.locator("#table-grid tbody [data-i]")
    assert rows.count() == 20
    tab.locator("#table-text").fill("child NUMBER 2?")
    assert rows.count() == 5
    tab.locator("[data-filter='outcome']").select_option(label="wrong")
    assert rows.count() == 1
    assert tab.locator("#table-count").inner_text() == "1 of 20 trajectories"
    tab.locator("#table-text").fill("no such thing")
    assert "No trajectory passes" in tab.locator("#table-grid tbody").inner_text()
    tab.locator("#table-text").fill("")
    tab.locator("[data-filter='outcome']").select_option(label="not judged")
    assert rows.count() == 12


def test_sorting(small: Path, open_page: Open) -> None:
    tab = open_page(small)
    headers = tab.locator("#table-grid th")
    column = headers.all_inner_texts().index("Gain")

    def gains() -> list[float]:
        cells = tab.locator(f"#table-grid tbody [data-i] td:nth-child({column + 1})").all_inner_texts()
        return [float(cell.replace("−", "-")) for cell in cells]

    start = gains()
    headers.nth(column).locator("button").click()
    assert gains() == sorted(start, reverse=True)
    assert headers.nth(column).get_attribute("aria-sort") == "descending"
    tab.keyboard.press("Enter")  # the button has the focus
    assert gains() == sorted(start)
    assert headers.nth(column).get_attribute("aria-sort") == "ascending"
    tab.keyboard.press("Enter")
    assert gains() == start
    for i in range(headers.count()):
        headers.nth(i).locator("button").click()
        assert headers.nth(i).get_attribute("aria-sort") != "none"


def test_rows_open_the_reader_by_mouse_and_keyboard(small: Path, open_page: Open) -> None:
    tab = open_page(small)
    name = tab.locator("#reader-name")
    tab.locator("#table-grid tbody tr").nth(2).click()
    assert name.inner_text() == "q-0/sample-2"
    tab.locator("#table-grid tbody tr[tabindex='0']").focus()
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    assert name.inner_text() == "q-0/solution-0/other-question"
    tab.keyboard.press("j")
    assert name.inner_text() == "q-0/solution-0/shuffled"
    tab.keyboard.press("k")
    tab.keyboard.press("k")
    assert name.inner_text() == "q-0/sample-2"
    assert "✗ wrong" in tab.locator("#reader-aside").inner_text()
    assert tab.evaluate("location.hash") == "#t=q-0%2Fsample-2"
    tab.locator("[data-filter='outcome']").select_option(label="wrong")
    tab.keyboard.press("Tab")
    tab.keyboard.press("j")
    assert name.inner_text() == "q-1/sample-2"  # the next one in the filtered table


def test_an_address_opens_its_trajectory(small: Path, open_page: Open) -> None:
    tab = open_page(small, hash="#t=q-3%2Fsolution-0")
    assert tab.locator("#reader-name").inner_text() == "q-3/solution-0"


def test_a_click_on_a_line_opens_it(small: Path, open_page: Open, until: Until) -> None:
    tab = open_page(small)
    tab.locator("#curves-means").uncheck()
    tab.locator("#curves").scroll_into_view_if_needed()
    spot = tab.evaluate(
        """() => {
          const plot = document.getElementById("curves-plot");
          plot.scrollIntoView({block: "center"});
          const {xaxis, yaxis} = plot._fullLayout, line = plot.data[1], box = plot.getBoundingClientRect();
          return {entry: line.customdata[50], x: box.left + xaxis._offset + xaxis.l2p(line.x[50]),
                  y: box.top + yaxis._offset + yaxis.l2p(line.y[50])};
        }"""
    )
    tab.mouse.move(spot["x"] - 3, spot["y"] - 3)
    tab.mouse.move(spot["x"], spot["y"])
    tab.locator("#popover").wait_for(state="visible")
    shown = note(tab).splitlines()[0]
    tab.mouse.click(spot["x"], spot["y"])
    until(tab, "location.hash.startsWith('#t=')")
    assert tab.locator("#reader-name").inner_text() == shown


def test_groups_can_be_hidden_and_lines_smoothed(small: Path, open_page: Open, until: Until) -> None:
    tab = open_page(small)
    count = "document.getElementById('curves-plot').data.length"
    rough = (
        "document.getElementById('curves-plot').data[0].y.map((v, i, all) => "
        "v === null || i === 0 || all[i - 1] === null ? 0 : Math.abs(v - all[i - 1])).reduce((a, b) => a + b)"
    )
    before, noise = tab.evaluate(count), tab.evaluate(rough)
    tab.locator("#curves-legend button").first.click()
    until(tab, f"{count} === {before - 3}")  # its lines, its band, its mean
    assert tab.locator("#curves-legend button").first.get_attribute("aria-pressed") == "false"
    tab.locator("#curves-legend button").first.click()
    until(tab, f"{count} === {before}")
    tab.locator("#curves-smooth").check()
    until(tab, f"{rough} < {noise / 2}")
    tab.locator("#curves-change").check()
    until(tab, "Math.abs(document.getElementById('curves-plot').data[0].y[0]) < 0.5")


@pytest.mark.parametrize("figure", ["headline", "curves", "reader"])
@pytest.mark.parametrize("kind", ["png", "svg"])
def test_figures_can_be_saved(small: Path, read_page: Open, figure: str, kind: str) -> None:
    tab = read_page(small)
    with tab.expect_download() as waiting:
        tab.locator(f"[data-export='{figure}'] button", has_text=kind.upper()).click()
    assert waiting.value.suggested_filename == f"innerloop-{figure}.{kind}"
    content = Path(waiting.value.path()).read_bytes()
    assert content.startswith(b"\x89PNG" if kind == "png" else b"<svg")


def test_hostile_text_shows_as_text(make_run: MakeRun, open_page: Open) -> None:
    question = Question(id=HOSTILE, question=HOSTILE, answer=HOSTILE)
    told = Trajectory(
        id=f"{HOSTILE}/s",
        question_id=HOSTILE,
        text=HOSTILE,
        source=Source.SOLUTION,
        model=HOSTILE,
        final=HOSTILE,
        answer=HOSTILE,
        outcome_reason=HOSTILE,
    )
    measured = curve(
        told,
        list(HOSTILE),
        [1.0] * (len(HOSTILE) + 1),
        candidates=(HOSTILE,),
        candidate_tokens=(1,),
        candidate_losses=((1.0,),) * (len(HOSTILE) + 1),
    )
    settings = {"questions": HOSTILE}
    tab = open_page(report.write(make_run([question], [told], [measured], configuration=settings)))
    expected = visible(HOSTILE)
    assert tab.locator("#reader-text .chunk").first.text_content() == expected
    assert expected in tab.locator("#reader-aside").text_content()
    assert expected in tab.locator("#table-grid tbody").text_content()
    assert expected in tab.locator("h1").text_content()
    assert "owned" not in tab.title().split("'")[0]
    assert tab.locator("img, #reader-text b, #table-grid b").count() == 0
    tab.locator("#reader-text [data-k='3']").hover()
    assert "<script>" in note(tab)
    assert tab.evaluate("document.body.innerText").count("\x00") == 0


def test_scripts_show_symbols_like_the_library(small: Path, open_page: Open, make_run: MakeRun) -> None:
    everything = "".join(map(chr, [*range(0x100), 0x61C, *range(0x200B, 0x2070), 0xFEFF]))
    question = Question(id="q", question=everything, answer="1")
    told = Trajectory(id="q/s", question_id="q", text="x", source=Source.SOLUTION)
    tab = open_page(report.write(make_run([question], [told])))
    assert tab.locator("#reader-aside .quote").text_content() == visible(everything)


def test_a_long_trajectory_can_be_skipped_where_it_is_off_the_screen(make_run: MakeRun, open_page: Open) -> None:
    """How long pages take is measured by benchmarks/page.py."""
    tab = open_page(report.write(make_run(*made_up(questions=2, tokens=6000, kinds=((Source.SOLUTION, None, 0.5),)))))
    assert tab.locator("#reader-text [data-k]").count() == 6000
    assert tab.locator("#reader-text .chunk").count() > 10


def test_thousands_of_rows_are_drawn_where_one_looks(make_run: MakeRun, open_page: Open) -> None:
    tab = open_page(report.write(make_run(*made_up(questions=300, tokens=2))))
    rows = tab.locator("#table-grid tbody [data-i]")
    assert rows.count() < 200
    tab.locator("#table-box").evaluate("box => { box.scrollTop = box.scrollHeight; }")
    tab.locator("#table-grid tbody [data-i='1499']").wait_for()
    tab.locator("#table-grid tbody [data-i='1499']").focus()
    tab.keyboard.press("Home")
    assert tab.evaluate("document.activeElement.dataset.i") == "0"


@pytest.mark.parametrize("width", [400, 1280])
def test_no_sideways_scrolling_of_the_page(small: Path, open_page: Open, width: int) -> None:
    tab = open_page(small, width=width)
    for summary in tab.locator("summary").all():
        summary.click()
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(small: Path, open_page: Open, scheme: str) -> None:
    tab = open_page(small, scheme=scheme)
    for summary in tab.locator("summary").all():
        summary.click()
    worst = tab.evaluate(CONTRAST)
    assert worst["ratio"] >= 4.5, worst


def test_the_theme_button_overrides_the_system(small: Path, open_page: Open, until: Until) -> None:
    tab = open_page(small, scheme="dark")
    paper = "getComputedStyle(document.body).backgroundColor"
    dark = tab.evaluate(paper)
    tab.locator("#theme").click()
    assert tab.evaluate(paper) != dark
    tab.locator("#theme").click()
    assert tab.evaluate(paper) == dark
    until(tab, f"document.getElementById('curves-plot').layout.paper_bgcolor === {paper}")


def test_focus_is_seen_and_the_first_stop_skips_ahead(small: Path, open_page: Open) -> None:
    tab = open_page(small)
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    assert tab.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    for _ in range(8):
        tab.keyboard.press("Tab")
        assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_every_control_has_a_name(small: Path, read_page: Open) -> None:
    tab = read_page(small)
    nameless = tab.evaluate(
        """() => [...document.querySelectorAll("button, select, input, a")].filter((node) =>
          !(node.getAttribute("aria-label") || node.textContent.trim() || node.closest("label")?.textContent.trim())
        ).map((node) => node.outerHTML)"""
    )
    assert nameless == []


def test_empty_runs_open_without_complaint(make_run: MakeRun, open_page: Open) -> None:
    asked, told, _ = made_up(questions=2, tokens=5)
    open_page(report.write(make_run()))
    tab = open_page(report.write(make_run(asked, told)))
    assert tab.locator("#reader-text").inner_text().split() == told[0].text.split()
    assert tab.locator("#reader-measured").is_hidden()
    assert re.search(r"not probed", tab.locator("#reader-note").inner_text())


# The smallest contrast between a text and what lies behind it (WCAG 2.1), over every element that holds text itself.
CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const parse = (text) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return {rgb: [r, g, b], a: a / 255};
  };
  const over = (top, under) => top.rgb.map((v, i) => top.a * v + (1 - top.a) * under[i]);
  const behind = (node) => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let worst = {ratio: 99};
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || node.closest("script, svg, noscript, :disabled, [aria-pressed=false]")) continue;
    if (!node.checkVisibility()) continue;
    const paper = behind(node);
    const [a, b] = [light(over(parse(getComputedStyle(node).color), paper)), light(paper)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst.ratio) worst = {ratio, text: node.textContent.slice(0, 40), class: node.className};
  }
  return worst;
}"""
