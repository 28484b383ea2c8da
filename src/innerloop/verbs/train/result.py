"""What a training recipe says at its end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from innerloop.schema import Step
from innerloop.store import Run


@dataclass(frozen=True, kw_only=True)
class Look:
    """Held-out questions at one step."""

    step: int
    metrics: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """Where the trained model is, and how it got there. ``dropped`` rows were over the length limit."""

    run: Path
    recipe: str
    model: Path
    adapter: Path | None
    page: Path
    questions: int
    rows: int
    dropped: int
    steps: int
    new_steps: int
    seconds: float
    tokens: int | None
    loss: float | None
    looks: tuple[Look, ...]


def result_of(run: Run, recipe: str, *, questions: int, rows: int, dropped: int, before: int) -> TrainResult:
    """Read the result from the run folder; ``before`` steps were there when this start began."""
    steps = run.steps()
    trained = [step for step in steps if step.kind == "train"]
    last = dict(trained[-1].metrics) if trained else {}
    adapter = run.path / "adapter"
    return TrainResult(
        run=run.path,
        recipe=recipe,
        model=run.path / "model",
        adapter=adapter if adapter.is_dir() else None,
        page=run.path / "report.html",
        questions=questions,
        rows=rows,
        dropped=dropped,
        steps=trained[-1].step if trained else 0,
        new_steps=max(0, (trained[-1].step if trained else 0) - before),
        seconds=trained[-1].seconds if trained else 0.0,
        tokens=int(last["num_tokens"]) if "num_tokens" in last else None,
        loss=last.get("loss"),
        looks=tuple(_look(step) for step in steps if step.kind == "watch"),
    )


def _look(step: Step) -> Look:
    return Look(step=step.step, metrics=dict(step.metrics))
