"""How long the page takes to open and to scroll, in headless Chromium.

    python benchmarks/page.py            # 200 trajectories of 300 tokens; one trajectory of 6,000 tokens

Opening is the time from navigation until text is usable and until the charts are drawn; scrolling is the time of a
frame while the reader's text moves. Targets: open within 3 seconds, frames within 50 milliseconds.
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


def opened(browser: Browser, file: Path) -> tuple[Page, float]:
    """The page with its charts drawn, and how many seconds that took."""
    tab = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    tab.goto(file.as_uri())
    tab.wait_for_selector("html[data-ready='charts']", state="attached")
    return tab, tab.evaluate("performance.now()") / 1000


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        sys.exit("needs Chromium: apt-get install chromium")
    runs = {
        "200 trajectories of 300 tokens": made_up(questions=40, tokens=300),
        "2 trajectories of 6,000 tokens": made_up(questions=2, tokens=6000, kinds=((Source.SOLUTION, None, 0.5),)),
    }
    rows = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        for number, (name, run) in enumerate(runs.items()):
            path = write_run(Path(folder) / str(number), *run)
            start = time.perf_counter()
            file = report.write(path)
            written = time.perf_counter() - start
            seconds, frames = [], []
            for _ in range(rounds):
                tab, taken = opened(browser, file)
                seconds.append(taken)
                frames.append(sorted(tab.evaluate(SCROLL))[60])
                tab.context.close()
            size = file.stat().st_size / 2**20
            rows.append([name, f"{written:.1f}", f"{size:.1f}", spread(seconds, 2), spread(frames, 0)])
        browser.close()
    show("the page in Chromium", ["run", "writing, s", "MiB", "open, s", "median frame, ms"], rows)


if __name__ == "__main__":
    main()
