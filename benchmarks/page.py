"""How long the page takes to open and to scroll, in headless Chromium.

    python benchmarks/page.py            # 200 trajectories of 300 tokens; one trajectory of 6,000 tokens
    python benchmarks/page.py --scores   # two series on 2,000 questions, 8 samples of 300 words each: 32,000 texts

Opening is the time from navigation until text is usable (text) and until the charts are drawn (open); scrolling is the
time of a frame while the reader's text moves. Targets: open within 3 seconds, frames within 50 milliseconds. Of scores
a click that opens a question's samples and a sort of all questions are timed as well.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from innerloop.report import page as report
from innerloop.schema import Source
from innerloop.testing.evaluations import write_evaluation
from innerloop.testing.runs import made_up, write_run
from measure import show, spread

SCROLL = """async () => {
  const box = document.getElementById("reader-text"), times = [];
  let before = performance.now();
  for (let i = 0; i < 120; i++) {
    box.scrollTop += 120;
    await new Promise(requestAnimationFrame);
    times.push(performance.now() - before);
    before = performance.now();
  }
  return times;
}"""

CLICKS = """async () => {
  const timed = async (selector) => {
    const start = performance.now();
    document.querySelector(selector).click();
    await new Promise(requestAnimationFrame);
    return performance.now() - start;
  };
  return [await timed("#scores-grid [data-i]"), await timed("#scores-grid [data-column='gap'] button")];
}"""


MARKS = """window.marks = {};
new MutationObserver(() => {
  const { ready } = document.documentElement?.dataset ?? {};
  if (ready) window.marks[ready] ??= performance.now() / 1000;
}).observe(document, { attributes: true, subtree: true, attributeFilter: ["data-ready"] });"""


def opened(browser: Browser, file: Path) -> tuple[Page, float, float]:
    """The page with its charts drawn, and the seconds until its text could be used and until then."""
    tab = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    tab.add_init_script(MARKS)
    tab.goto(file.as_uri())
    tab.wait_for_selector("html[data-ready='charts']", state="attached")
    marks = tab.evaluate("window.marks")
    return tab, marks["text"], marks["charts"]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scores", action="store_true", help="the page of a large evaluation instead")
    arguments = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        sys.exit("needs Chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        (scores if arguments.scores else texts)(browser, Path(folder), arguments.rounds)
        browser.close()


def texts(browser: Browser, folder: Path, rounds: int) -> None:
    """Pages of trajectories with curves."""
    runs = {
        "200 trajectories of 300 tokens": made_up(questions=40, tokens=300),
        "2 trajectories of 6,000 tokens": made_up(questions=2, tokens=6000, kinds=((Source.SOLUTION, None, 0.5),)),
    }
    rows = []
    for number, (name, run) in enumerate(runs.items()):
        file, cells = written(write_run(folder / str(number), *run))
        usable, seconds, frames = [], [], []
        for _ in range(rounds):
            tab, text, taken = opened(browser, file)
            usable.append(text)
            seconds.append(taken)
            frames.append(sorted(tab.evaluate(SCROLL))[60])
            tab.context.close()
        rows.append([name, *cells, spread(usable, 2), spread(seconds, 2), spread(frames, 0)])
    show("the page in Chromium", ["run", "writing, s", "MiB", "text, s", "open, s", "median frame, ms"], rows)


def scores(browser: Browser, folder: Path, rounds: int) -> None:
    """The page of an evaluation of two series."""
    file, cells = written(write_evaluation(folder / "R", questions=2000, samples=8, words=300))
    usable, seconds, clicks = [], [], []
    for _ in range(rounds):
        tab, text, taken = opened(browser, file)
        usable.append(text)
        seconds.append(taken)
        clicks.append(tab.evaluate(CLICKS))
        tab.context.close()
    row = [
        "2 × 2,000 questions × 8",
        *cells,
        spread(usable, 2),
        spread(seconds, 2),
        *(spread(list(own), 0) for own in zip(*clicks, strict=True)),
    ]
    columns = ["run", "writing, s", "MiB", "text, s", "open, s", "open a question, ms", "sort, ms"]
    show("the page of an evaluation", columns, [row])


def written(run: Path) -> tuple[Path, list[str]]:
    """The page of a run, the seconds that writing it took, and its size in MiB."""
    start = time.perf_counter()
    file = report.write(run)
    return file, [f"{time.perf_counter() - start:.1f}", f"{file.stat().st_size / 2**20:.1f}"]


if __name__ == "__main__":
    main()
