"""Results as short tables on standard output."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import singledispatch
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from innerloop.printable import shell_word, shell_words
from innerloop.terminal import Console
from innerloop.verbs.benchmark_list import BenchmarkList
from innerloop.verbs.contamination import Contamination
from innerloop.verbs.demo import DemoResult
from innerloop.verbs.eval import EvalResult
from innerloop.verbs.landscape import LandscapeResult
from innerloop.verbs.probe import ProbeResult
from innerloop.verbs.report import ReportResult
from innerloop.verbs.rollout import RolloutResult
from innerloop.verbs.select import SelectResult
from innerloop.verbs.train.init import InitResult
from innerloop.verbs.train.planning import DryRun
from innerloop.verbs.train.result import Look, TrainResult
from innerloop.verbs.train.verl_export import ExportResult
from innerloop.verbs.update import UpdateResult

if TYPE_CHECKING:
    from innerloop.evaluate.statistics import Interval
    from innerloop.verbs.eval import Agreement


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
    _verdicts(console, result)
    _line(console, f"{result.trajectories} trajectories of {result.questions} questions in {result.run}")
    _next(console, "probe", "--model", result.model, "--trajectories", str(result.run), "--out", str(result.run))


@show.register
def _(result: ProbeResult) -> None:
    console = _console()
    console.print(_groups(result))
    _skipped(console, result)
    _line(console, f"{result.trajectories} trajectories of {result.questions} questions in {result.run}")
    _line(console, f"Losses: {result.exactness}")
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
def _(result: EvalResult) -> None:
    from innerloop.evaluate.tables import tables

    console = _console()
    names = list(dict.fromkeys(row.series for row in result.rows))
    short = {name: chr(ord("A") + i % 26) * (i // 26 + 1) for i, name in enumerate(names)} if len(names) > 1 else {}
    for name, letter in short.items():
        _line(console, f"{letter} = {name}")
    rows = [dataclasses.replace(row, series=short.get(row.series, row.series)) for row in result.rows]
    between = [
        dataclasses.replace(entry, series=short[entry.series], reference=short[entry.reference])
        for entry in result.differences
    ]
    for title, header, body in tables(rows, between):
        table = _table(title if header[0] == "measure" else header[0])
        for name in header[1:]:
            table.add_column(name, justify="right")
        for line in body:
            table.add_row(*line)
        console.print(table)
    for row in result.rows:
        if row.group == "all" and (row.undecided or row.truncated):
            failed = f", {row.failed} of them failed" if row.failed else ""
            bounds = row.cells[0]
            _line(
                console,
                f"{row.series}: {row.undecided} of {row.samples} samples undecided{failed}, {row.truncated} truncated; "
                f"{bounds.measure} is {100 * bounds.if_wrong:.1f} if the undecided are wrong, "
                f"{100 * bounds.if_right:.1f} if they are right",
            )
    if (agreement := result.agreement) is not None:
        _disagreements(console, agreement)
    if result.contamination is not None:
        _contamination(console, result.contamination)
    _verdicts(console, result)
    _line(console, f"{result.samples} samples of {result.questions} questions in {result.run}")
    _line(console, f"tables: {', '.join(map(str, result.files))}")
    _next(console, "report", str(result.run))


def _contamination(console: Console, result: Contamination) -> None:
    table = _table("benchmark")
    for header in ("questions", "words", "contaminated", "by half", "in full", "too short"):
        table.add_column(header, justify="right")
    for row in result.benchmarks:
        share = 100 * row.contaminated / row.questions
        numbers = (row.questions, row.ngram, f"{row.contaminated} ({share:.1f} %)", row.half, row.whole, row.too_short)
        table.add_row(row.benchmark, *map(str, numbers))
    console.print(table)
    for example in (example for row in result.benchmarks for example in row.examples):
        _line(console, f"{example.question_id}: {example.longest} of {example.words} words in {example.where}")
    _line(console, f"{result.texts} texts of {result.training}; every question is in {result.file}")


@show.register
def _(result: Contamination) -> None:
    _contamination(_console(), result)


def _verdicts(console: Console, result: RolloutResult | EvalResult) -> None:
    """What verdicts rest on, where that is not the usual."""
    if result.sandbox is not None:
        _line(console, f"code to judge: {result.sandbox}")


def _disagreements(console: Console, agreement: Agreement) -> None:
    """The first twenty, in a table; all of them are in the file."""
    found = agreement.disagreements
    _line(console, f"{agreement.compared} recorded verdicts, {len(found)} of them other than ours")
    if not found:
        return
    table = _table("sample")
    for header in ("answer", "reference", "recorded", "ours", "reason"):
        table.add_column(header)
    for entry in found[:20]:
        texts = (entry.trajectory_id, entry.answer or "–", entry.reference, entry.recorded, entry.verdict)
        table.add_row(*(_short(text) for text in (*texts, entry.reason or "")))
    console.print(table)
    if len(found) > 20:
        _line(console, f"and {len(found) - 20} more in disagreements.csv")


def _short(text: str) -> str:
    """One line of the length of a line: answers come from models."""
    flat = " ".join(text.split())
    return flat if len(flat) <= 60 else f"{flat[:59]}…"


@show.register
def _(result: BenchmarkList) -> None:
    console = _console()
    for row in result.benchmarks:
        fields = "; ".join(f"{own} ← {source}" for own, source in row.fields.items())
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(width=10)
        table.add_column(overflow="fold")
        for name, text in (
            ("source", f"{row.source}, or {row.file}"),
            ("fields", fields),
            ("only", row.only),
            ("verifier", f"{row.verifier}; prompt {row.prompt}"),
            ("domain", f"{row.domain} ({row.group} for a model trained on {', '.join(result.trained_on)})"),
            ("licence", row.licence),
        ):
            if text is not None:
                table.add_row(f"  {name}", text)
        _line(console, row.name)
        console.print(table)
    gym = result.gym
    _line(console, "gym:FAMILY")
    _indented(
        console, f"any of reasoning-gym's {len(gym.families)} families, such as {gym.source}, each judged by its own"
    )
    _indented(console, f"scorer (verifier {gym.verifier}); {gym.licence}")
    _line(console, "")
    _line(console, "prompts, for --prompt ({question} is where the question goes)")
    for prompt in result.prompts:
        console.print(f"{prompt.name}: {prompt.about}" + (f" ({prompt.source})" if prompt.source else ""))
        if prompt.system is not None:
            _indented(console, "system turn: " + prompt.system.replace("\n", "⏎"))
        _indented(console, prompt.template.strip().replace("\n", "⏎"))


def _indented(console: Console, text: str) -> None:
    from rich.padding import Padding

    console.print(Padding(text, (0, 0, 0, 2)))


@show.register
def _(result: SelectResult) -> None:
    console = _console()
    if result.gain is not None:
        of_all = f"of all {result.candidates} candidates {_figure(result.gain_before)}"
        _line(console, f"mean gain {_figure(result.gain)} nats per answer token, {of_all}")
    for count, why in (
        (result.left_out, "trajectories were no candidates: not right, or without a verdict"),
        (result.short, "questions have too few and are left out"),
    ):
        if count:
            _line(console, f"{count} {why}")
    _line(
        console,
        f"{result.trajectories} of {result.candidates} trajectories of {result.questions} questions in {result.run}",
    )
    _next(console, "train", "sft", "--model", "…", "--trajectories", str(result.run))


@show.register
def _(result: InitResult) -> None:
    console = _console()
    size = f"{result.parameters:,} weights, {result.vocabulary} tokens"
    _line(console, f"a {result.shape} model in {result.model}: {size}")
    _next(console, "train", "sft", "--model", str(result.model), "--questions", "…", "--trajectories", "…")


@show.register
def _(result: TrainResult) -> None:
    console = _console()
    if result.looks:
        names = [name for name in result.looks[-1].metrics if name in _LOOKED_AT]
        table = _table("step")
        for name in names:
            table.add_column(name.removeprefix("watch_"), justify="right")
        for look in _few(result.looks):
            table.add_row(str(look.step), *(_figure(look.metrics.get(name)) for name in names))
        console.print(table)
    loss = "" if result.loss is None else f", loss {result.loss:.3g} nats at the end"
    tokens = "" if result.tokens is None else f", {result.tokens:,} tokens"
    _line(console, f"{result.steps} steps in {result.seconds:.0f} s of training{tokens}{loss}")
    if result.dropped:
        _line(console, f"{result.dropped} rows were left out because of their length")
    _line(console, f"curves: {result.page}")
    _line(console, f"model: {result.model}" + (f", adapter: {result.adapter}" if result.adapter else ""))
    _next(console, "eval", "--model", str(result.run), "--questions", "…", "--n", "8")


@show.register
def _(result: DryRun) -> None:
    console = _console()
    passes = "" if result.tokens_per_pass is None else f", {result.tokens_per_pass:,} tokens a pass"
    dropped = f", {result.dropped:,} left out as too long" if result.dropped else ""
    _line(console, f"data: {result.questions:,} questions, {result.rows:,} rows{dropped}{passes}")
    trained = "" if result.trained == result.parameters else f", {result.trained:,} of them trained"
    _line(
        console,
        f"model: {result.model}, {result.parameters:,} parameters{trained}; N = {result.matrices:,} in matrices",
    )
    _line(console, f"steps: {result.steps:,}, in {result.processes} process{'es' if result.processes > 1 else ''}")
    table = _table("work")
    for header in ("tokens", "FLOPs"):
        table.add_column(header, justify="right")
    table.add_column("formula")
    for phase in result.phases:
        most = "≤ " if phase.bound else ""
        table.add_row(phase.name, f"{most}{phase.tokens:,}", f"{most}{phase.flops:.3g}", phase.formula)
    console.print(table)
    table = _table("memory of a process")
    table.add_column("GiB", justify="right")
    held = result.memory
    for name in ("weights", "gradients", "optimiser", "copies", "activations", "total"):
        table.add_row(name, _gib(getattr(held, name)))
    for processes, each in held.spread.items():
        table.add_row(f"each of {processes}, FSDP2 or ZeRO-3", _gib(each))
    console.print(table)
    _line(console, f"activations: an estimate, for {result.rows_at_once} rows of {result.longest} tokens at once")
    for command in result.commands:
        _line(console, command)


@show.register
def _(result: ExportResult) -> None:
    console = _console()
    _line(console, f"{result.rows:,} rows for {result.trainer} in {result.folder}")
    _line(console, f"next, on the cluster: {shell_word(str(result.launch))}")


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g}"


_LOOKED_AT = ("watch_pass@1", "watch_gain", "watch_area", "watch_downward", "watch_tokens", "watch_entropy")


def _few(looks: Sequence[Look], most: int = 12) -> list[Look]:
    """The first, the last, and as many between as are readable."""
    step = max(1, math.ceil((len(looks) - 1) / (most - 1)))
    return [look for i, look in enumerate(looks) if i % step == 0 or i == len(looks) - 1]


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
    return Console()


def _line(console: Console, text: str) -> None:
    """A line that is never broken, so that a path can be copied."""
    console.print(text, soft_wrap=True)


def _next(console: Console, *words: str) -> None:
    _line(console, f"next: {shell_words(['innerloop', *words])}")


def _table(first: str) -> Table:
    return Table(first, box=box.SIMPLE, pad_edge=False)


def _groups(result: ProbeResult) -> Table:
    table = _table("answer loss, nats per answer token")
    for header in ("n", "start → end", "gain [95 %]"):
        table.add_column(header, justify="right")
    for group in result.groups:
        table.add_row(
            group["label"],
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
            row.group + (", untrained model" if row.untrained else ""),
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
    return f"{_number(gain['mean'], '+')} [{_number(gain['low'], '+')}, {_number(gain['high'], '+')}]"


def _interval(interval: Interval) -> str:
    return f"{_number(interval.mean)} [{_number(interval.low)}, {_number(interval.high)}]"


def _figure(value: float | None) -> str:
    """Numbers of any size, in three digits."""
    return "–" if value is None or math.isnan(value) else f"{value:.3g}"


def _number(value: Any, sign: str = "") -> str:
    return "–" if value is None or math.isnan(value) else f"{value:{sign}.2f}"
