"""The outer loop: equal to steps by hand, resumed to the same losses, stopped by budgets and by nonsense."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from innerloop.errors import InputError
from innerloop.outer.guard import DivergedError
from innerloop.outer.meta.checkpoint import MetaState, load, save
from innerloop.outer.meta.fomaml import Fomaml
from innerloop.outer.meta.settings import MetaSettings
from innerloop.outer.meta.task import Task, Tasks
from innerloop.outer.meta.train import Metrics, meta_train

SHORT = MetaSettings(algorithm="fomaml", inner_rate=0.1, inner_steps=2, learning_rate=0.05, steps=6, tasks=3)


def run(quadratics: Any, settings: MetaSettings, source: Any = None, **options: Any) -> tuple[list[Metrics], nn.Module]:
    point, seen = quadratics.point(), []
    meta_train(
        point,
        quadratics.loss,
        source or quadratics.source(settings.tasks),
        settings,
        on_step=lambda _, metrics: seen.append(metrics),
        **options,
    )
    return seen, point


def test_a_step_is_the_mean_gradient_times_the_learning_rate(quadratics: Any) -> None:
    settings = dataclasses.replace(SHORT, optimizer="sgd", max_norm=None, steps=3)
    seen, point = run(quadratics, settings)
    hand = quadratics.point()
    algorithm, source = Fomaml(steps=2, rate=0.1), quadratics.source(3)
    for step in range(3):
        found = [algorithm.gradient(quadratics.loss, dict(hand.named_parameters()), task) for task in source.draw(step)]
        assert seen[step].query_loss == pytest.approx(sum(one.query_loss for one in found) / 3)
        assert seen[step].support_loss == pytest.approx(sum(one.support_losses[0] for one in found) / 3)
        with torch.no_grad():
            for name, weight in hand.named_parameters():
                weight -= 0.05 * sum(one.gradient[name] for one in found) / 3
    for name, weight in hand.named_parameters():
        torch.testing.assert_close(point.get_parameter(name), weight)


ALL = [
    {"algorithm": "maml"},
    {"algorithm": "meta-sgd", "optimizer": "sgd"},
    {"algorithm": "meta-sgd", "combine": "robust"},
    {"algorithm": "anil", "head": ("head",), "combine": "upgrad"},
    {"algorithm": "reptile", "combine": "pcgrad", "schedule": "linear", "warmup": 2},
    {"algorithm": "joint", "combine": "cagrad"},
]


@pytest.mark.parametrize("changes", ALL, ids=lambda changes: "-".join(map(str, changes.values())))
def test_a_run_that_was_stopped_goes_on_to_the_same_losses(quadratics: Any, changes: Any, tmp_path: Path) -> None:
    settings = dataclasses.replace(SHORT, **changes)
    states: list[MetaState] = []
    whole, end = [], quadratics.point()

    def keep(training: Any, metrics: Metrics) -> None:
        whole.append(metrics)
        states.append(training.state())

    meta_train(end, quadratics.loss, quadratics.source(3), settings, on_step=keep)
    for stop in (1, 4):
        save(states[stop - 1], tmp_path / "state.safetensors")
        again, point = run(quadratics, settings, resume=load(tmp_path / "state.safetensors"))
        assert [m.step for m in again] == [m.step for m in whole[stop:]]
        for one, other in zip(again, whole[stop:], strict=True):
            assert dataclasses.replace(one, seconds=0) == dataclasses.replace(other, seconds=0), "to the last bit"
        for name, weight in end.named_parameters():
            assert torch.equal(point.get_parameter(name), weight)


def test_noise_in_the_model_is_resumed_and_does_not_touch_the_callers(quadratics: Any) -> None:
    def noisy(parameters: Any, batch: Any) -> torch.Tensor:
        return quadratics.loss(parameters, batch) + 0.1 * torch.randn(()) * parameters["body"].sum()

    def go(resume: MetaState | None = None) -> tuple[list[Metrics], list[MetaState]]:
        seen: list[Metrics] = []
        states: list[MetaState] = []

        def keep(training: Any, metrics: Metrics) -> None:
            seen.append(metrics)
            states.append(training.state())

        meta_train(quadratics.point(), noisy, quadratics.source(3), SHORT, on_step=keep, resume=resume)
        return seen, states

    torch.manual_seed(5)
    before = torch.get_rng_state()
    whole, states = go()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    again, _ = go(states[2])
    assert [m.query_loss for m in again] == [m.query_loss for m in whole[3:]]


def test_gains_reach_the_source_and_are_paid_for(quadratics: Any) -> None:
    class Wanting(Tasks):
        wants_gains = True
        heard: list[tuple[list[str], list[float]]]

        def learn(self, tasks: Any, gains: Any) -> None:
            self.heard.append(([task.name for task in tasks], list(gains)))

    plain = quadratics.source(3)
    source = Wanting(plain.families, plain.draw)
    source.heard = []
    settings = dataclasses.replace(SHORT, steps=1)
    (metrics,), _ = run(quadratics, settings, source)
    start = dict(quadratics.point().named_parameters())
    expected = []
    for task in plain.draw(0):
        after = Fomaml(steps=2, rate=0.1).gradient(quadratics.loss, start, task).query_loss
        expected.append(quadratics.loss(start, task.query).item() - after)
    ((names, gains),) = source.heard
    assert names == [task.name for task in plain.draw(0)]
    assert gains == pytest.approx(expected)
    assert metrics.gain == pytest.approx(sum(expected) / 3)
    (without,), _ = run(quadratics, settings)
    assert without.gain is None
    assert metrics.spent.tokens - without.spent.tokens == 3 * 7, "a forward of each query"
    assert metrics.query_loss == without.query_loss


def test_learned_rates_move_and_do_not_decay(quadratics: Any) -> None:
    settings = dataclasses.replace(SHORT, algorithm="meta-sgd", weight_decay=0.5, rates_learning_rate=1e-9)
    states = []
    meta_train(
        quadratics.point(),
        quadratics.loss,
        quadratics.source(),
        settings,
        on_step=lambda t, _: states.append(t.state()),
    )
    assert states[-1].tensors["weights/rate/body"][0].tolist() == pytest.approx([0.1, 0.1], abs=1e-7)
    states.clear()
    settings = dataclasses.replace(SHORT, algorithm="meta-sgd", rates_learning_rate=0.01)
    meta_train(
        quadratics.point(),
        quadratics.loss,
        quadratics.source(),
        settings,
        on_step=lambda t, _: states.append(t.state()),
    )
    assert states[-1].tensors["weights/rate/body"].sub(0.1).abs().min() > 0.005


def test_warm_up_and_fall(quadratics: Any) -> None:
    settings = dataclasses.replace(SHORT, steps=10, warmup=2, schedule="linear", learning_rate=1.0)
    seen, _ = run(quadratics, settings)
    assert [m.learning_rate for m in seen] == pytest.approx([0.5, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


def test_the_gradient_is_clipped(quadratics: Any) -> None:
    settings = dataclasses.replace(SHORT, optimizer="sgd", max_norm=1e-3, learning_rate=1.0, steps=1)
    (metrics,), point = run(quadratics, settings)
    moved = quadratics.joined(dict(point.named_parameters())) - quadratics.joined(
        dict(quadratics.point().named_parameters())
    )
    assert metrics.gradient_norm > 0.1
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("limit", ["budget_tokens", "budget_flops"])
def test_a_budget_is_never_exceeded_and_used_up(quadratics: Any, limit: str) -> None:
    one = meta_train(
        quadratics.point(), quadratics.loss, quadratics.source(3), dataclasses.replace(SHORT, steps=1)
    ).spent
    per_step = one.tokens if limit == "budget_tokens" else one.flops
    assert one.tokens == 3 * (2 * 3 + 7)
    settings = dataclasses.replace(SHORT, steps=100, **{limit: int(per_step * 4.9)})
    result = meta_train(quadratics.point(), quadratics.loss, quadratics.source(3), settings)
    assert (result.steps, result.stopped) == (4, "budget")
    assert result.spent.tokens == 4 * one.tokens
    with pytest.raises(InputError, match=rf"--{limit.replace('_', '-')} .*: the first step alone takes"):
        meta_train(
            quadratics.point(), quadratics.loss, quadratics.source(3), dataclasses.replace(settings, **{limit: 1})
        )


def broken_at(quadratics: Any, step: int, value: float) -> Tasks:
    plain = quadratics.source(3)

    def draw(number: int) -> list[Task]:
        tasks = list(plain.draw(number))
        if number == step:
            centre = torch.full((5,), value, dtype=torch.float64)
            tasks[1] = dataclasses.replace(tasks[1], query=tasks[1].query._replace(centre=centre), name="the bad one")
        return tasks

    return Tasks(plain.families, draw)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_before_the_step(quadratics: Any, value: float) -> None:
    states: list[MetaState] = []
    point = quadratics.point()
    with pytest.raises(DivergedError, match=r"step 4: the query loss of a task is no number \(the bad one\).*step 3"):
        meta_train(
            point,
            quadratics.loss,
            broken_at(quadratics, 3, value),
            SHORT,
            on_step=lambda training, _: states.append(training.state()),
        )
    for name, weight in point.named_parameters():
        assert torch.equal(weight, states[2].tensors[f"weights/{name}"])
        assert weight.grad is None
    assert point.training, "the mode it had before"


def test_a_gradient_that_is_no_number_stops_too(quadratics: Any) -> None:
    def sharp(parameters: Any, batch: Any) -> torch.Tensor:
        return quadratics.loss(parameters, batch) + (parameters["body"].sum() * 0).abs().sqrt()

    point = quadratics.point()
    with pytest.raises(DivergedError, match="step 1: the outer gradient is no number"):
        meta_train(point, sharp, quadratics.source(3), dataclasses.replace(SHORT, algorithm="joint"))
    assert torch.equal(point.body, quadratics.point().body)


def test_the_last_state_is_resumable_after_a_bad_loss(quadratics: Any) -> None:
    states: list[MetaState] = []
    with pytest.raises(DivergedError):
        run_states(quadratics, broken_at(quadratics, 3, math.nan), states)
    seen, _ = run(quadratics, SHORT, resume=states[-1])
    assert [m.step for m in seen] == [4, 5, 6]


def run_states(quadratics: Any, source: Any, states: list[MetaState]) -> None:
    meta_train(
        quadratics.point(), quadratics.loss, source, SHORT, on_step=lambda training, _: states.append(training.state())
    )


def test_a_checkpoint_of_something_else_is_refused(quadratics: Any, tmp_path: Path) -> None:
    states: list[MetaState] = []
    run_states(quadratics, quadratics.source(3), states)
    state = states[1]
    with pytest.raises(InputError, match=r"--inner-steps 3: the checkpoint was made with 2"):
        run(quadratics, dataclasses.replace(SHORT, inner_steps=3), resume=state)
    with pytest.raises(InputError, match="made on other families"):
        run(quadratics, SHORT, quadratics.source(3, 3), resume=state)
    other = dict(state.tensors)
    other["weights/head"] = torch.zeros(7)
    with pytest.raises(InputError, match=r"another model: head is \(7,\) there and \(1, 3\) here"):
        run(quadratics, SHORT, resume=MetaState(other, state.values))
    del other["weights/head"]
    with pytest.raises(InputError, match="another model: head is missing there"):
        run(quadratics, SHORT, resume=MetaState(other, state.values))
    more = state.tensors | {"weights/tail": torch.zeros(1)}
    with pytest.raises(InputError, match="it has tail, which is not trained here"):
        run(quadratics, SHORT, resume=MetaState(more, state.values))
    longer, _ = run(quadratics, dataclasses.replace(SHORT, steps=8), resume=state)
    assert [m.step for m in longer] == [3, 4, 5, 6, 7, 8], "more steps may be asked for"
    (tmp_path / "x.safetensors").write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match=r"x\.safetensors: no checkpoint of a meta-training"):
        load(tmp_path / "x.safetensors")


def test_families_are_reported(quadratics: Any) -> None:
    seen, _ = run(quadratics, dataclasses.replace(SHORT, combine="robust", tasks=4, steps=2))
    for metrics in seen:
        assert Counter(metrics.families.keys()) == Counter(["family-0", "family-1"])
        assert sum(metrics.families.values()) / 2 == pytest.approx(metrics.query_loss)
        assert sum(metrics.weights.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"algorithm": "mamel"}, "--algorithm mamel: did you mean maml"),
        ({"inner_steps": 0}, "--inner-steps 0: must be 1 or more"),
        ({"inner_rate": 0.0}, r"--inner-rate 0\.0: must be a number above 0"),
        ({"learning_rate": math.inf}, "--learning-rate inf: must be a number above 0"),
        ({"head": ("x",)}, "--head x: only anil"),
        ({"rates_learning_rate": 0.1}, r"--rates-learning-rate 0\.1: only meta-sgd"),
        ({"cagrad_c": 1.0}, r"--cagrad-c 1\.0: must be 0 or more and below 1"),
        ({"warmup": -1}, "--warmup -1: must be 0 or more"),
    ],
)
def test_unusable_settings_are_refused(changes: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        MetaSettings(**changes)


def test_every_setting_has_its_help() -> None:
    assert all(field.metadata["help"] for field in dataclasses.fields(MetaSettings))


def test_a_model_without_trained_parameters_is_refused(quadratics: Any) -> None:
    with pytest.raises(InputError, match="no trained parameters"):
        meta_train(quadratics.point().requires_grad_(False), quadratics.loss, quadratics.source(), SHORT)
