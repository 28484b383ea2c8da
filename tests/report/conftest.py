"""Run folders for the page's tests, and a real browser: headless Chromium, driven by playwright."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from innerloop.testing.runs import write_run

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # All tabs of a context in one process: it has plotly's 4.5 megabytes compiled from the tab before.
    "--process-per-site",
]
BUSY = 90_000  # milliseconds for a page to open; a busy machine takes longer than the usual 30 seconds
# Advice of the software renderer that draws 3-D here; a page cannot avoid it, and a graphics card does not give it.
RENDERER = "GL Driver Message"


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`innerloop.testing.runs.write_run` in a folder of its own."""

    def make(*records: Any, **more: Any) -> Path:
        return write_run(tmp_path_factory.mktemp("run") / "R", *records, **more)

    return make


class Opener:
    """Opens pages in tabs of one context of a browser, so that they share a process, and notes what goes wrong."""

    def __init__(self, browser: Any, empty: Path) -> None:
        self.chromium = browser
        self.complaints: list[str] = []
        self._context = browser.new_context()
        self._context.new_page().goto(empty.as_uri())  # a process ends with its last tab: this one stays

    def __call__(
        self, file: Path, *, width: int = 1280, scheme: str = "light", hash: str = "", wait: str = "charts"
    ) -> Any:
        """A tab with this page, and with what belongs to a tab: its size, its colours, its choices."""
        tab = self._context.new_page()
        tab.set_viewport_size({"width": width, "height": 900})
        tab.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        asked: list[str] = []
        tab.on("console", self._logged)
        tab.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        tab.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(file.as_uri() + hash, timeout=BUSY)
        tab.wait_for_selector(f"html[data-ready='{wait}']", state="attached", timeout=BUSY)
        self.complaints.extend(
            f"request: {url[:100]}"
            for url in asked
            if not url.startswith(("data:", "blob:")) and url.split("#")[0] != file.as_uri()
        )
        return tab

    def _logged(self, message: Any) -> None:
        if RENDERER not in message.text:
            self.complaints.append(f"console {message.type}: {message.text}")

    def checked(self) -> None:
        """Fails if something was logged or asked for since the last check."""
        complaints, self.complaints = self.complaints, []
        assert complaints == []


@pytest.fixture(scope="session")
def start_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Opener]]:
    """``start_browser(argument, …)`` starts Chromium with these arguments more, and gives what opens pages in it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("INNERLOOP_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("needs Chromium: apt-get install chromium (or set INNERLOOP_CHROMIUM to its path)")
    empty = tmp_path_factory.mktemp("empty") / "empty.html"
    empty.write_text("<!doctype html><title>empty</title>")
    started = []
    with playwright.sync_playwright() as driver:

        def start(*more: str) -> Opener:
            started.append(driver.chromium.launch(executable_path=found, args=[*ARGUMENTS, *more]))
            return Opener(started[-1], empty)

        yield start
        for browser in started:
            browser.close()


@pytest.fixture(scope="session")
def browser(start_browser: Callable[..., Opener]) -> Opener:
    """The browser of most tests."""
    return start_browser()


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """Wait until a JavaScript expression holds; playwright's own wait is barred by the policy of the page."""

    def wait(tab: Any, expression: str, *, seconds: float = 10) -> None:
        deadline = time.monotonic() + seconds
        while not tab.evaluate(expression):
            assert time.monotonic() < deadline, f"still not so: {expression}"
            tab.wait_for_timeout(20)

    return wait


@pytest.fixture
def open_page(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """``open_page(file)`` opens it in a tab of its own and, in the end, checks that nothing was logged or asked for."""
    opened: list[tuple[Opener, Any]] = []

    def open_(file: Path, *, browser: Opener | None = None, **more: Any) -> Any:
        opener = browser or request.getfixturevalue("browser")
        opened.append((opener, opener(file, **more)))
        return opened[-1][1]

    yield open_
    for _, tab in opened:
        tab.evaluate("localStorage.clear()")  # the tabs of a browser have it in common
        tab.close()
    for opener, _ in opened:
        opener.checked()


@pytest.fixture(scope="module")
def left_open() -> Iterator[dict[tuple[Any, ...], Any]]:
    """The tabs that tests of a module read together."""
    tabs: dict[tuple[Any, ...], Any] = {}
    yield tabs
    for tab in tabs.values():
        tab.close()


@pytest.fixture
def read_page(browser: Opener, left_open: dict[tuple[Any, ...], Any]) -> Iterator[Callable[..., Any]]:
    """Like `open_page`, for tests that choose nothing in a page and press no key: all of a module share one tab."""
    used: list[tuple[Any, str]] = []

    def read(file: Path, **more: Any) -> Any:
        key = (file, *sorted(more.items()))
        if key not in left_open:
            left_open[key] = browser(file, **more)
        tab = left_open[key]
        tab.mouse.move(5, 5)
        tab.evaluate("scrollTo(0, 0)")
        used.append((tab, tab.evaluate(CHOSEN)))
        return tab

    yield read
    browser.checked()
    for tab, before in used:
        assert tab.evaluate(CHOSEN) == before, "only a test that leaves the page as it was may share its tab"


# What can be chosen, pressed, sorted or unfolded in a page, as it is now.
CHOSEN = """() => JSON.stringify([location.hash,
  ...[...document.querySelectorAll("input, select")]
    .map((node) => (node.type === "checkbox" ? node.checked : node.value)),
  ...[...document.querySelectorAll("details, [aria-pressed], [aria-sort]")]
    .map((node) => node.open ?? node.ariaPressed ?? node.ariaSort)])"""
