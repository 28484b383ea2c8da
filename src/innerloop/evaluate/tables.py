"""Scores and differences as files: CSV (every number), LaTeX (booktabs) and Markdown (to read)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from innerloop.evaluate.compare import Difference
from innerloop.evaluate.statistics import Interval
from innerloop.evaluate.summary import Row
from innerloop.markup import latex as tex
from innerloop.markup import latex_comment
from innerloop.markup import markdown as md
from innerloop.spreadsheet import write_csv

Table = tuple[str, list[str], list[list[str]]]  # title, header, rows of cells


def scores_csv(rows: Sequence[Row]) -> str:
    """One line per series, group and measure; fractions, not per cent."""
    header = (
        "series group value questions clusters samples undecided measure mean low high level if_wrong if_right reason"
    )
    lines = []
    for row in rows:
        about = [row.series, row.group, row.value, row.questions, row.clusters, row.samples, row.undecided]
        for cell in row.cells:
            bounds = (_number(cell.if_wrong), _number(cell.if_right))
            lines.append([*about, cell.measure, *_numbers(cell.score), *bounds, cell.score.reason])
    return write_csv(header.split(), lines)


def differences_csv(differences: Sequence[Difference]) -> str:
    """One line per difference; fractions, not per cent."""
    header = "series reference benchmark measure questions difference low high level p p_holm reason"
    lines = []
    for d in differences:
        about = [d.series, d.reference, d.benchmark or "all", d.measure, d.difference.questions]
        lines.append([*about, *_numbers(d.difference), _number(d.p), _number(d.p_holm), d.difference.reason])
    return write_csv(header.split(), lines)


def tables(rows: Sequence[Row], differences: Sequence[Difference]) -> list[Table]:
    """What people read: all questions, measures down and series across; differences; then groups, measures across.

    Groups show a few measures only (`headline`); the CSV files hold every number.
    """
    kept = [row for row in rows if row.group == "all"]
    body = [
        [cell.measure, *(interval(row.cells[column].score, cell.measure) for row in kept)]
        for column, cell in enumerate(kept[0].cells)
    ]
    counts = sorted({row.questions for row in kept})
    questions = f"{counts[0]} questions" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} questions"
    found = [(questions, ["measure", *(row.series for row in kept)], body)]
    if differences:
        found.append(_differences(differences))
    shown = headline([cell.measure for cell in kept[0].cells])
    several = len(kept) > 1
    for group in dict.fromkeys(row.group for row in rows if row.group != "all"):
        header = [group, *(["series"] if several else []), "questions", *shown]
        body = [
            [row.value, *([row.series] if several else []), str(row.questions)]
            + [interval(cell.score, cell.measure) for cell in row.cells if cell.measure in shown]
            for row in sorted((row for row in rows if row.group == group), key=lambda row: row.value)
        ]
        found.append((f"by {group}", header, body))
    return found


def headline(measures: Sequence[str]) -> list[str]:
    """The mean, and of pass, vote and stability the one with the largest k."""
    kinds = ("avg", "Pass", "maj", "mG-Pass")
    last = {name.partition("@")[0]: name for name in measures}
    return [last[kind] for kind in kinds if kind in last]


def _differences(differences: Sequence[Difference]) -> Table:
    header = ["difference", "questions", "measure", "[95 %]", "p", "p (Holm)"]
    body = [
        [
            f"{d.series} − {d.reference}" + (f", {d.benchmark}" if d.benchmark else ""),
            str(d.difference.questions),
            d.measure,
            interval(d.difference, d.measure, sign="+"),
            p_value(d.p),
            p_value(d.p_holm),
        ]
        for d in differences
    ]
    return "differences, question by question", header, body


def markdown(found: Sequence[Table], notes: Sequence[str]) -> str:
    """The tables as Markdown, the notes below."""
    parts = []
    for title, header, body in found:
        rows = [[md(cell) for cell in line] for line in (header, *body)]
        lines = [rows[0], ["---"] + ["---:"] * (len(header) - 1), *rows[1:]]
        body_text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        parts.append(f"**{md(title)}**\n\n{body_text}")
    return "\n\n".join([*parts, *map(md, notes)]) + "\n"


def latex(found: Sequence[Table], notes: Sequence[str]) -> str:
    r"""The tables for ``\input``; they need the package booktabs."""
    parts = ["% needs \\usepackage{booktabs}", *map(latex_comment, notes)]
    for title, header, body in found:
        lines = [" & ".join(map(tex, line)) + r" \\" for line in (header, *body)]
        parts += [
            latex_comment(title),
            rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    return "\n".join(parts)


def interval(value: Interval, measure: str, sign: str = "") -> str:
    """``14.4 [8.1, 21.0]``: per cent, tokens as they are."""
    factor = 1 if measure.startswith("tokens") else 100
    mean, low, high = (
        "–" if math.isnan(number) else f"{number * factor:{sign}.1f}" for number in (value.mean, value.low, value.high)
    )
    return f"{mean} [{low}, {high}]"


def p_value(p: float) -> str:
    """Three decimals, or that it is below."""
    return "–" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def _numbers(value: Interval) -> list[str]:
    return [*map(_number, (value.mean, value.low, value.high)), f"{value.level:g}"]


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.10g}"
