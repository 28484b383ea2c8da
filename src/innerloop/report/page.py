"""Writing a run's page: one HTML file with everything inside, which asks the network for nothing."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from innerloop.report.data import PageData, collect
from innerloop.report.embed import json_block, script_hash, visible
from innerloop.report.statements import signed
from innerloop.store import write_file

_SCRIPTS = (
    *("core", "plots", "headline", "curves", "tokens", "reader", "grid", "table", "update", "landscape"),
    *("scores", "score-lines", "score-questions", "training", "main"),
)


def write(run: str | Path, data: PageData | None = None, *, reload: float | None = None) -> Path:
    """Write ``RUN/report.html`` from the run folder alone, whole or not at all, and return its path.

    The same folder gives the same bytes; ``data`` is what was read from it, where that is at hand. A browser loads the
    page again every ``reload`` seconds, for a run that goes on. Raises `InputError` where there is no run or the file
    cannot be written.
    """
    run = Path(run)
    html = render(data or collect(run), reload=reload)
    # A manifest edited by hand may hold half a surrogate pair, which UTF-8 has no bytes for.
    return write_file(run / "report.html", html.encode(errors="replace"))


def render(data: PageData, *, reload: float | None = None) -> str:
    """The page as text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    def shown(value: Any) -> Any:
        return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=PackageLoader("innerloop.report", "."),
        autoescape=True,
        finalize=shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    plotly = get_plotlyjs()
    assert "</script" not in plotly.lower(), "this plotly.js cannot be put into a page"
    script = _script()
    return environment.get_template("template.html.jinja").render(
        data=data,
        reload=reload,
        style=Markup(_resource("page.css")),  # our own files: text that is safe by being ours
        script=Markup(script),
        plotly=Markup(plotly),
        blocks={name: json_block(value) for name, value in data.blocks.items()},
        script_sources=" ".join(script_hash(source) for source in (script, plotly)),
        signed=signed,
    )


def _script() -> str:
    """All scripts of the page in one function, so that they share names with each other and nobody else."""
    parts = "\n".join(_resource(f"js/{name}.js") for name in _SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}}})();\n'


def _resource(name: str) -> str:
    return files("innerloop.report").joinpath(name).read_text(encoding="utf-8")
