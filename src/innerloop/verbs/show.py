"""Results as short tables on standard output."""

from __future__ import annotations

import math
import shlex
from functools import singledispatch
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from innerloop.verbs.demo import DemoResult
from innerloop.verbs.landscape import LandscapeResult
from innerloop.verbs.probe import ProbeResult
from innerloop.verbs.report import ReportResult
from innerloop.verbs.rollout import RolloutResult
from innerloop.verbs.update import UpdateResult

if TYPE_CHECKING:
    from innerloop.evaluate.statistics import Interval


@singledispatch
def show(result: object) -> None:
    """Print a verb's result for people to read."""
    raise AssertionError(f"no table for {type(result).__name__}")


@show.register
def _(result: RolloutResult) -> None:
    table = _table("mode")
    columns = ("trajectories", "right", "wrong", "undecided", "truncated")
    for header in ("n", *columns[1:], "accuracy [95 %]"):
        table.add_column(header, justify="right")
    for row in result.modes:
        table.add_row(row.mode, *(str(getattr(row, name)) for name in columns), _interval(row.accuracy))
    console = _console()
    console.print(table)
    if failed := sum(row.failed for row in result.modes):
        _line(console, f"{failed} failed; the same command again tries them again")
    _line(console, f"{result.trajectories} trajectories of {result.questions} questions in {result.run}")
    _next(console, "probe", "--model", result.model, "--trajectories", str(result.run), "--out", str(result.run))


@show.register
def _(result: ProbeResult) -> None:
    console = _console()
    console.print(_groups(result))
    _skipped(console, result)
    _line(console, f"{result.trajectories} trajectories of {result.questions} questions in {result.run}")
    _next(console, "report", str(result.run))


@show.register
def _(result: UpdateResult) -> None:
    console = _console()
    if result.alignment:
        console.print(_alignment(result))
    _skipped(console, result)
    if result.residual is not None:
        _line(
            console,
            f"{result.positions} updates (gauge {result.gauge}): patched and full run differ by at most "
            f"{result.residual:.1e} nats; the median update is {100 * (result.relative or 0):.2g} % of θ",
        )
    for saved in result.adapters:
        merged = f", merged from {len(saved.trajectories)} trajectories" if len(saved.trajectories) > 1 else ""
        _line(console, f"adapter: {saved.path} (off by at most {saved.residual:.1e} nats{merged})")
    _line(console, f"{result.trajectories} trajectories of {result.questions} questions in {result.run}")
    _next(console, "report", str(result.run))


@show.register
def _(result: LandscapeResult) -> None:
    table = _table("answer loss")
    for header in ("n", "at the model", "lowest", "path captured"):
        table.add_column(header, justify="right")
    for row in result.planes:
        table.add_row(
            row.plane,
            str(row.landscapes),
            _number(row.centre),
            _number(row.lowest),
            _number(row.captured),
        )
    console = _console()
    console.print(table)
    if (sharp := result.sharpness) is not None:
        ends = " to ".join(map(_figure, (sharp.low_eigenvalue, sharp.top_eigenvalue)))
        _line(
            console, f"Hessian, mean of {sharp.questions} questions: eigenvalues {ends}, trace {_figure(sharp.trace)}"
        )
    _skipped(console, result)
    _line(console, f"{result.landscapes} landscapes of {result.questions} questions in {result.run}")
    _next(console, "report", str(result.run))


@show.register
def _(result: ReportResult) -> None:
    _line(_console(), str(result.page))


@show.register
def _(result: DemoResult) -> None:
    console = _console()
    console.print(_groups(result.probe))
    _skipped(console, result.probe)
    for sentence in result.report.statements:
        _line(console, sentence)
    _line(console, f"{result.seconds:.0f} seconds. Open the page: {result.report.page}")


def _console() -> Console:
    return Console(highlight=False)


def _line(console: Console, text: str) -> None:
    """A line as it is: no markup, and never broken, so that a path can be copied."""
    console.print(escape(text), soft_wrap=True)


def _next(console: Console, *words: str) -> None:
    _line(console, f"next: {shlex.join(['innerloop', *words])}")


def _table(first: str) -> Table:
    return Table(first, box=box.SIMPLE, pad_edge=False)


def _groups(result: ProbeResult) -> Table:
    table = _table("answer loss, nats per answer token")
    for header in ("n", "start → end", "gain [95 %]"):
        table.add_column(header, justify="right")
    for group in result.groups:
        table.add_row(
            escape(group["label"]),
            str(group["trajectories"]),
            f"{_number(group['start']['mean'])} → {_number(group['end']['mean'])}",
            _gain(group["gain"]),
        )
    return table


def _alignment(result: UpdateResult) -> Table:
    """Predicted against actual change of the loss; see `innerloop.evaluate.alignment`."""
    table = _table("predicted by the gradient against actual change")
    for header in ("n", "correlation [95 %]", "slope [95 %]", "same sign [95 %]", "z"):
        table.add_column(header, justify="right")
    for row in result.alignment:
        table.add_row(
            escape(row.group + (", untrained model" if row.untrained else "")),
            str(row.points),
            *(_interval(interval) for interval in (row.correlation, row.slope, row.sign_agreement)),
            _number(row.z.mean, "+"),
        )
    return table


def _skipped(console: Console, result: ProbeResult | UpdateResult | LandscapeResult) -> None:
    if result.skipped:
        name, reason = next(iter(result.skipped.items()))
        more = f" and {len(result.skipped) - 1} more" if len(result.skipped) > 1 else ""
        _line(console, f"not measured: {name} ({reason}){more}")


def _gain(gain: dict[str, Any]) -> str:
    return escape(f"{_number(gain['mean'], '+')} [{_number(gain['low'], '+')}, {_number(gain['high'], '+')}]")


def _interval(interval: Interval) -> str:
    return escape(f"{_number(interval.mean)} [{_number(interval.low)}, {_number(interval.high)}]")


def _figure(value: float | None) -> str:
    """Numbers of any size, in three digits."""
    return "–" if value is None or math.isnan(value) else f"{value:.3g}"


def _number(value: Any, sign: str = "") -> str:
    return "–" if value is None or math.isnan(value) else f"{value:{sign}.2f}"
