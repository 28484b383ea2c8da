"""What an evaluation says, in plain sentences that claim no more than intervals and corrected p-values allow."""

from __future__ import annotations

import math

from innerloop.evaluate.compare import Difference
from innerloop.evaluate.generalisation import CROSS, WITHIN
from innerloop.evaluate.summary import GENERALISATION, Row
from innerloop.evaluate.tables import headline, interval, p_value
from innerloop.report.evaluated import Evaluated
from innerloop.report.statements import signed

FEW_QUESTIONS = 10
ALPHA = 0.05


def score_statements(found: Evaluated) -> list[str]:
    """The lead first: the comparison where there is one, else the score; then the other measures and cautions."""
    rows = [row for row in found.rows if row.group == "all"]
    measures = [measure.name for measure in found.measures]
    shown = headline(measures)
    order = sorted(shown, key=lambda name: not name.startswith("Pass"))
    between = [d for d in found.differences if d.benchmark is None and d.measure in shown]
    said = []
    for name in dict.fromkeys(entry.series for entry in between):
        first, *others = sorted((d for d in between if d.series == name), key=lambda d: order.index(d.measure))
        said += [_difference(first), *([_others(others)] if others else [])]
    if not said:
        said = [_score(row, shown) for row in rows if row.series in found.own]
    said += _carried_over(found, shown)
    said += [_agreement(found)] if found.verdicts is not None else []
    said += [_undecided(row) for row in rows if row.undecided]
    said += [_truncated(row) for row in rows if row.truncated and row.series in found.own]
    if any(1 < row.questions < FEW_QUESTIONS for row in rows):
        said.append(
            f"Fewer than {FEW_QUESTIONS} questions: the intervals understate the doubt; "
            "take them as a first look, not as evidence."
        )
    return said


def _difference(entry: Difference) -> str:
    """A claim only where the interval excludes zero and the corrected p-value is below 0.05."""
    a, b, value = entry.series, entry.reference, entry.difference
    if math.isnan(value.mean):
        return f"{a} and {b} cannot be compared on {entry.measure}: no question has a value on both sides."
    over = f"{value.questions} question{'' if value.questions == 1 else 's'}"
    if math.isnan(value.low):
        return f"{a} against {b} on {entry.measure}: {_points(value.mean)} over {over}; no interval: {value.reason}."
    span = f"[{_points(value.low)}, {_points(value.high)}]"
    test = f"p (Holm) {p_value(entry.p_holm).replace('<', '< ')}"
    if value.excludes(0) and entry.p_holm < ALPHA:
        better, worse = (a, b) if value.mean > 0 else (b, a)
        low, high = sorted((abs(value.low), abs(value.high)))
        size = f"{_size(value.mean)} points [{_size(low)}, {_size(high)}]"
        return f"{better} beats {worse} by {size} on {entry.measure} over {over}, {test}."
    why = "; the interval alone excludes zero, the corrected test does not" if value.excludes(0) else ""
    return (
        f"Undecided between {a} and {b} on {entry.measure}: "
        f"{_points(value.mean)} points {span} over {over}, {test}{why}."
    )


def _others(entries: list[Difference]) -> str:
    """The other measures of one comparison, as numbers without a claim."""
    numbers = [
        f"{entry.measure} {_points(entry.difference.mean)} [{_points(entry.difference.low)}, "
        f"{_points(entry.difference.high)}], p (Holm) {p_value(entry.p_holm).replace('<', '< ')}"
        for entry in entries
        if not math.isnan(entry.difference.low)
    ]
    return f"{entries[0].series} − {entries[0].reference}, in points: {'; '.join(numbers) or 'undefined elsewhere'}."


def _score(row: Row, shown: list[str]) -> str:
    cells = [cell for cell in row.cells if cell.measure in shown and not math.isnan(cell.score.mean)]
    numbers = ", ".join(f"{cell.measure} {interval(cell.score, cell.measure)}" for cell in cells)
    over = f"{row.questions} question{'' if row.questions == 1 else 's'}"
    return f"{row.series}, over {over}: {numbers or 'no sample is decided'} (per cent, 95\u00a0% intervals)."


def _carried_over(found: Evaluated, shown: list[str]) -> list[str]:
    """Within and across the domains that the model was trained on (RaML fig. 7), as numbers without a claim."""
    said = []
    for name in found.own:
        sides = {row.value: row for row in found.rows if row.series == name and row.group == GENERALISATION}
        numbers = [
            f"{side} {interval(cell.score, cell.measure)}"
            for side in (WITHIN, CROSS)
            for cell in (sides[side].cells if side in sides else ())
            if cell.measure == _main(shown)
        ]
        if numbers:
            said.append(f"{name}, {_main(shown)}, mean over benchmarks: {', '.join(numbers)} (per cent).")
    return said


def _main(shown: list[str]) -> str:
    """The measure that sentences are about: the pass with the largest k, else the mean."""
    return next((name for name in shown if name.startswith("Pass")), shown[0])


def _agreement(found: Evaluated) -> str:
    count = len(found.disagreements)
    compared = f"{found.verdicts:,} recorded verdict{'' if found.verdicts == 1 else 's'}"
    if not count:
        return f"Our verdicts equal all of the {compared}."
    return f"Of {compared}, {count} {'is' if count == 1 else 'are'} other than ours; listed below."


def _undecided(row: Row) -> str:
    mean = row.cells[0]
    failed = f" ({row.failed} of them failed)" if row.failed else ""
    return (
        f"{row.series}: {row.undecided:,} of {row.samples:,} samples are undecided{failed} and counted neither way; "
        f"{mean.measure} is {100 * mean.if_wrong:.1f} if they are wrong, {100 * mean.if_right:.1f} if they are right."
    )


def _truncated(row: Row) -> str:
    return f"{row.series}: {row.truncated:,} of {row.samples:,} samples met the token limit before their end."


def _points(share: float) -> str:
    text = signed(100 * share, 1)
    return text if text.startswith("−") or float(text) == 0 else f"+{text}"


def _size(share: float) -> str:
    return f"{abs(100 * share):.1f}"
