"""What a training says, in plain sentences: where it began and where it is, and what calls for a look."""

from __future__ import annotations

import math
from collections.abc import Sequence

from innerloop.report.statements import signed
from innerloop.report.view import Training

_TENTH = 10  # ends of a noisy line are means over this part of its steps
_FLAT = 0.8  # share of groups without a signal that calls for a remark
_CUT = 0.2  # share of rollouts that were cut off that does
_LITTLE = 0.1  # of the entropy at the start


def training_statements(runs: Sequence[Training]) -> list[str]:
    """Held-out questions first, which is what a training is for; then what it was driven by; cautions last."""
    several = len(runs) > 1
    said = []
    for run in runs:
        own = [_lead(run), *_watched(run), *_driven(run), *_cautions(run)]
        said += [f"{run.name}: {sentence[0].lower() + sentence[1:]}" if several else sentence for sentence in own]
    return said


def _lead(run: Training) -> str:
    trained = [step for step in run.steps if step.kind == "train"]
    if not trained:
        return "No step has been recorded yet."
    last = trained[-1]
    tokens = dict(last.metrics).get("num_tokens")
    count = f"{last.step:,} step{'' if last.step == 1 else 's'}"
    through = f", {tokens:,.0f} tokens" if tokens is not None else ""
    now = {"complete": "", "running": ", so far"}.get(run.status, f", then {run.status}")
    return f"Trained by {run.recipe or 'an unknown recipe'}: {count} in {last.seconds / 60:.1f} minutes{through}{now}."


def _watched(run: Training) -> list[str]:
    """First and last look, with intervals where they were recorded."""
    looks = [(step.step, dict(step.metrics)) for step in run.steps if step.kind == "watch"]
    said: list[str] = []
    for name, subject, digits in (
        ("watch_pass@1", "pass@1 on held-out questions", 2),
        ("watch_gain", "the gain along held-out trajectories", 2),
        ("watch_tokens", "the length of their samples", 0),
    ):
        known = [(step, numbers) for step, numbers in looks if name in numbers]
        if not known:
            continue
        (first, before), (last, after) = known[0], known[-1]
        now = _with_interval(after, name, digits)
        if first == last:
            said.append(f"At step {last} {subject} is {now}.")
            continue
        verb = _verb(before[name], after[name], digits)
        said.append(
            f"{_capital(subject)} {verb} {_with_interval(before, name, digits)} at step {first} to {now} at step {last}"
            f"{_apart(before, after, name)}."
        )
    return said


def _with_interval(numbers: dict[str, float], name: str, digits: int) -> str:
    value = signed(numbers[name], digits)
    low, high = numbers.get(f"{name}_low"), numbers.get(f"{name}_high")
    return value if low is None or high is None else f"{value} [{signed(low, digits)}, {signed(high, digits)}]"


def _apart(before: dict[str, float], after: dict[str, float], name: str) -> str:
    """Intervals that do not meet are a safe sign; those that do may hide a change, since the questions are the same."""
    ends = [numbers.get(f"{name}_{end}") for numbers in (before, after) for end in ("low", "high")]
    if any(end is None for end in ends):
        return ""
    low, high, new_low, new_high = (end for end in ends if end is not None)
    return "; the intervals do not meet" if new_low > high or new_high < low else "; the intervals overlap"


def _driven(run: Training) -> list[str]:
    said: list[str] = []
    for name, subject, digits in (
        ("reward", "the mean reward", 2),
        ("completions/mean_length", "the length of rollouts", 0),
        ("entropy", "the entropy", 2),
        ("loss", "the loss", 3),
    ):
        if name == "loss" and said:  # of a training by reward the loss says nothing
            continue
        if (ends := _ends(run, name)) is not None:
            first, last = ends
            verb = _verb(first, last, digits)
            said.append(
                f"{_capital(subject)} {verb} {signed(first, digits)} to {signed(last, digits)} (first and last tenth)."
            )
    return said


def _cautions(run: Training) -> list[str]:
    said = []
    flat, cut, entropy = (_ends(run, name) for name in ("frac_reward_zero_std", "completions/clipped_ratio", "entropy"))
    if flat is not None and flat[1] >= _FLAT:
        said.append(
            f"In {100 * flat[1]:.0f} % of the groups all rollouts earned the same in the end: they teach nothing. "
            "Harder or easier questions, or larger groups, would."
        )
    if cut is not None and cut[1] >= _CUT:
        said.append(f"{100 * cut[1]:.0f} % of the rollouts met the token limit in the end.")
    if flat is not None and entropy is not None and entropy[1] < _LITTLE * entropy[0]:
        said.append("The entropy has collapsed: rollouts of a question are nearly the same by now.")
    return said


def _ends(run: Training, name: str) -> tuple[float, float] | None:
    """Means over the first and the last tenth of the steps; None with fewer than two numbers."""
    values = [value for step in run.steps if step.kind == "train" for key, value in step.metrics if key == name]
    values = [value for value in values if math.isfinite(value)]
    if len(values) < 2:
        return None
    part = max(1, len(values) // _TENTH)
    return math.fsum(values[:part]) / part, math.fsum(values[-part:]) / part


def _verb(first: float, last: float, digits: int) -> str:
    change = round(last, digits) - round(first, digits)
    return "rose from" if change > 0 else "fell from" if change < 0 else "stayed, from"


def _capital(text: str) -> str:
    return text if text.startswith("pass@") else text[0].upper() + text[1:]
