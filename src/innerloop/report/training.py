"""The training section: what every step said, and what held-out questions said meanwhile, as curves over the steps.

A run's own training comes first, those of other runs are drawn on the same axes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from innerloop.report.training_statements import training_statements
from innerloop.report.view import Training, View, significant
from innerloop.schema import Step

MOST_POINTS = 2000  # of a line; of a longer training every second, third … step is drawn
DIGITS = 6


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One chart: which numbers of which records it draws.

    ``metrics`` are the lines, by their names in the records; with a slash at its end a name stands for all metrics that
    begin so, one line each (the families of questions). ``band`` names the ends of a band around the first line, or the
    one number that reaches from it to both sides.
    """

    key: str
    kind: str  # of the records: train or watch
    title: str
    unit: str
    metrics: tuple[str, ...]
    labels: tuple[str, ...] = ()  # of the lines, where there are several
    band: tuple[str, ...] = ()
    about: str = ""


def _watched(key: str, title: str, unit: str, *metrics: str, **more: Any) -> Figure:
    return Figure(key=f"watch-{key}", kind="watch", title=title, unit=unit, metrics=metrics, **more)


def _trained(key: str, title: str, unit: str, *metrics: str, **more: Any) -> Figure:
    return Figure(key=key, kind="train", title=title, unit=unit, metrics=metrics, **more)


_NATS, _SHARE, _TOKENS = "nats per answer token", "share", "tokens"
_ENDS = "band: 95 % interval over questions"
FIGURES = (
    _watched(
        *("pass", "Held-out questions: pass@1", _SHARE, "watch_pass@1", "watch_pass@1/"),
        band=("watch_pass@1_low", "watch_pass@1_high"),
        about=_ENDS,
    ),
    _watched(
        *("gain", "Held-out trajectories: gain", _NATS, "watch_gain", "watch_gain/"),
        band=("watch_gain_low", "watch_gain_high"),
        about=_ENDS,
    ),
    _watched(
        *("loss", "Held-out trajectories: answer loss", _NATS, "watch_start", "watch_end"),
        labels=("before the trajectory", "behind it"),
    ),
    _watched("area", "Held-out trajectories: area under the curve", _NATS, "watch_area"),
    _watched("downward", "Held-out trajectories: downward moves", _SHARE, "watch_downward"),
    _watched("tokens", "Held-out questions: length of samples", _TOKENS, "watch_tokens"),
    _watched("truncated", "Held-out questions: samples cut off", _SHARE, "watch_truncated"),
    _watched(
        *("entropy", "Held-out questions: entropy", "nats per token", "watch_entropy"), about="−log p of sampled tokens"
    ),
    _trained("loss", "Loss", "as the recipe defines it, in nats", "loss"),
    _trained("reward", "Reward", "per rollout", "reward", band=("reward_std",), about="band: one standard deviation"),
    _trained("right", "Rollouts", _SHARE, "right", "form", labels=("right answer", "right form")),
    _trained(
        *("length", "Length of rollouts", _TOKENS, "completions/mean_length"),
        band=("completions/min_length", "completions/max_length"),
        about="band: shortest to longest",
    ),
    _trained("entropy", "Entropy", "nats per token", "entropy"),
    _trained(
        *("flat", "Groups without a signal", _SHARE, "frac_reward_zero_std"),
        about="all rollouts of the question earned the same",
    ),
    _trained("cut", "Rollouts cut off at the limit", _SHARE, "completions/clipped_ratio"),
    _trained(
        *("clip", "Clipped tokens", _SHARE, "clip_ratio/region_mean", "clip_ratio/low_mean", "clip_ratio/high_mean"),
        labels=("all", "below", "above"),
        about="ratio of probabilities outside the limits",
    ),
    _trained("kl", "Divergence from the start", "nats per token", "kl"),
    _trained("margin", "Margin of the right over the wrong", "log-probability ratios", "rewards/margins"),
    _trained("preferred", "Pairs in the right order", _SHARE, "rewards/accuracies"),
    _trained("accuracy", "Likeliest token is the right one", _SHARE, "mean_token_accuracy"),
    _trained("support", "Support loss before adapting", "nats", "support_loss"),
    _trained("adapting", "Gain by adapting", "nats", "gain"),
    _trained("families", "Loss by family", "nats", "loss/"),
    _trained("weights", "Weights of families", _SHARE, "weight/"),
    _trained("gradient", "Norm of the gradient", "before clipping", "grad_norm"),
    _trained("rate", "Learning rate", "", "learning_rate"),
)


def training(view: View) -> dict[str, Any] | None:
    """Page data: ``runs`` with their records, ``figures`` that have something to draw, ``rows`` of the table, what it
    says in words; None where nothing was trained. Undefined numbers are None."""
    if not view.trainings:
        return None
    figures = [made for figure in FIGURES if (made := _figure(figure, view.trainings)) is not None]
    drawn = {name for figure in figures for name in (*figure["metrics"], *figure["band"])}
    return {
        "runs": [_run(run) for run in view.trainings],
        "figures": figures,
        "others": sorted(_names(view.trainings, "train") - drawn),
        "tokens": all(_has_tokens(run) for run in view.trainings),
        "most": max(len(_of(run, "train")) for run in view.trainings),
        "rows": [row for figure in figures for row in _rows(figure, view.trainings)],
        "statements": training_statements(view.trainings),
    }


def _figure(figure: Figure, runs: Sequence[Training]) -> dict[str, Any] | None:
    """The chart with the lines that there are; None without any."""
    there = _names(runs, figure.kind)
    lines: list[tuple[str, str]] = []
    for number, name in enumerate(figure.metrics):
        if name.endswith("/"):
            lines += [(found, found.removeprefix(name)) for found in sorted(there) if found.startswith(name)]
        elif name in there:
            lines.append((name, figure.labels[number] if figure.labels else "all" if number == 0 else name))
    if not lines:
        return None
    return {
        "key": figure.key,
        "kind": figure.kind,
        "title": figure.title,
        "unit": figure.unit,
        "about": figure.about,
        "metrics": [name for name, _ in lines],
        "labels": [label for _, label in lines] if len(lines) > 1 else [""],
        "band": list(figure.band) if set(figure.band) <= there else [],
    }


def _run(run: Training) -> dict[str, Any]:
    return {"name": run.name, "recipe": run.recipe, "status": run.status} | {
        kind: _records(run, kind) for kind in ("train", "watch")
    }


def _records(run: Training, kind: str) -> dict[str, Any]:
    """``step``, ``minutes``, ``tokens`` and a list for each metric, over the records that are drawn."""
    records = _of(run, kind)
    every = -(-len(records) // MOST_POINTS) if records else 1
    kept = [record for i, record in enumerate(records) if i % every == 0 or i == len(records) - 1]
    tokens = _tokens(run)
    numbers = [dict(record.metrics) for record in kept]
    names = dict.fromkeys(name for own in numbers for name in own)
    return {
        "every": every,
        "step": [record.step for record in kept],
        "minutes": [significant(record.seconds / 60, DIGITS) for record in kept],
        "tokens": [tokens.get(record.step) for record in kept],
        "values": {name: [significant(own.get(name), DIGITS) for own in numbers] for name in names},
    }


def _rows(figure: dict[str, Any], runs: Sequence[Training]) -> Iterable[dict[str, Any]]:
    """One per line and run: the first and the last number, the lowest and the highest."""
    for name, label in zip(figure["metrics"], figure["labels"], strict=True):
        for run in runs:
            points = [
                (step.step, dict(step.metrics)[name]) for step in _of(run, figure["kind"]) if name in dict(step.metrics)
            ]
            if points:
                values = [value for _, value in points]
                yield {
                    "measure": f"{figure['title']}, {label}" if label else figure["title"],
                    "run": run.name,
                    "numbers": [_text(number) for number in (values[0], values[-1], min(values), max(values))],
                    "steps": (points[0][0], points[-1][0]),
                }


def _text(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")


def _of(run: Training, kind: str) -> list[Step]:
    return [step for step in run.steps if step.kind == kind]


def _names(runs: Sequence[Training], kind: str) -> set[str]:
    return {name for run in runs for step in _of(run, kind) for name, _ in step.metrics}


def _tokens(run: Training) -> dict[int, float]:
    """Tokens that had passed through the model at each step."""
    found = {step.step: dict(step.metrics).get("num_tokens") for step in _of(run, "train")}
    return {0: 0.0} | {step: count for step, count in found.items() if count is not None}


def _has_tokens(run: Training) -> bool:
    known = _tokens(run)
    return len(known) > 1 and all(step.step in known for step in run.steps)
