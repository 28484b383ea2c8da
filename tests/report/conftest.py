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
]
# Advice of the software renderer that draws 3-D here; a page cannot avoid it, and a graphics card does not give it.
RENDERER = "GL Driver Message"


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`innerloop.testing.runs.write_run` in a folder of its own."""

    def make(*records: Any, **more: Any) -> Path:
        return write_run(tmp_path_factory.mktemp("run") / "R", *records, **more)

    return make


@pytest.fixture(scope="session")
def start_browser() -> Iterator[Callable[..., Any]]:
    """``start_browser(argument, …)`` starts Chromium with these arguments more."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("INNERLOOP_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("needs Chromium: apt-get install chromium (or set INNERLOOP_CHROMIUM to its path)")
    started = []
    with playwright.sync_playwright() as driver:

        def start(*more: str) -> Any:
            started.append(driver.chromium.launch(executable_path=found, args=[*ARGUMENTS, *more]))
            return started[-1]

        yield start
        for browser in started:
            browser.close()


@pytest.fixture(scope="session")
def browser(start_browser: Callable[..., Any]) -> Any:
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
    """``open_page(file)`` opens it and, in the end, checks that nothing was logged and nothing was asked for."""
    contexts, complaints = [], []

    def logged(message: Any) -> None:
        if RENDERER not in message.text:
            complaints.append(f"console {message.type}: {message.text}")

    def opened(
        file: Path,
        *,
        width: int = 1280,
        scheme: str = "light",
        hash: str = "",
        wait: str = "charts",
        browser: Any = None,
    ) -> Any:
        context = (browser or request.getfixturevalue("browser")).new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
        )
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", logged)
        tab.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        tab.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        tab.on("request", lambda request: asked.append(request.url))
        asked: list[str] = []
        tab.goto(file.as_uri() + hash)
        tab.wait_for_selector(f"html[data-ready='{wait}']", state="attached")
        complaints.extend(
            f"request: {url[:100]}"
            for url in asked
            if not url.startswith(("data:", "blob:")) and url.split("#")[0] != file.as_uri()
        )
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
