"""Trainings that sample their trajectories first: rejection sampling in one command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Ran

from innerloop.errors import InputError
from innerloop.models import LoadedModel, load
from innerloop.schema import Outcome
from innerloop.store import Run
from innerloop.testing import ScriptedEngine
from innerloop.verbs.engine_settings import EngineSettings
from innerloop.verbs.sampling import rollout_settings
from innerloop.verbs.train import SftSettings

Cli = Callable[..., Ran]
SPEC = "sample?n=4&temperature=0.7&top_k=50&max_tokens=40"


def settings(**changes: Any) -> SftSettings:
    return SftSettings(**({"questions": "q.jsonl", "model": "m", "seed": 3, "limit": 5} | changes))


def test_the_parameters_are_rollouts_options_and_the_rest_is_the_trainings() -> None:
    asked = rollout_settings(
        "sample?n=64&temperature=0.7&top_k=50&engine=server&server=http://localhost:8000/v1&mode=thinking",
        settings(threads=2, instruction="Think."),
        Path("r"),
    )
    assert (asked.samples, asked.temperature, asked.top_k, asked.mode) == (64, 0.7, 50, ("thinking",))
    assert (asked.engine, asked.server, asked.out) == ("server", "http://localhost:8000/v1", Path("r"))
    assert (asked.questions, asked.model, asked.seed, asked.limit) == ("q.jsonl", "m", 3, 5)
    assert asked.instruction == "Think."
    assert asked.threads is None, "a server has its own"
    assert rollout_settings("sample", settings(threads=2), Path("r")).threads == 2
    assert rollout_settings("sample?model=teacher", settings(), Path("r")).model == "teacher"
    assert rollout_settings("sample", settings(), Path("r")).samples == 1


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("sample?temprature=1", "no parameter 'temprature' (rollout --help lists them); did you mean 'temperature'?"),
        ("sample?seed=1", "no parameter 'seed'"),
        ("sample?n", "n has no value"),
        ("sample?n=many", "sample?n=many: "),
        ("sample?temperature=-1", "temperature"),
        ("sample?engine=abacus", "abacus"),
        ("sample?tensor_parallel=2", "tensor-parallel"),
    ],
)
def test_parameters_that_make_no_sense_are_named(source: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        rollout_settings(source, settings(), Path("r"))
    assert said in str(caught.value)


def test_questions_are_needed() -> None:
    with pytest.raises(InputError, match="--questions is missing: sample needs questions"):
        rollout_settings("sample", settings(questions=None), Path("r"))


def test_other_commands_say_who_samples(cli: Cli, questions_file: Path, tmp_path: Path) -> None:
    ran = cli("select", "--questions", questions_file, "--trajectories", SPEC, "--support", 1, "--out", tmp_path / "r")
    assert ran.status == 2
    assert "only train sft and train dpo sample first" in ran.err


class Engine(ScriptedEngine):
    """Even samples are right. It is interrupted before the request ``stop``."""

    def __init__(self, loaded: LoadedModel) -> None:
        super().__init__(self.say, loaded=loaded)
        self.stop = -1

    def say(self, request: Any) -> str:
        if len(self.requests) - 1 == self.stop:
            raise KeyboardInterrupt
        question, number = request.id.removeprefix("q").split("/sample-")
        return rf"{question} twice \boxed{{{2 * int(question) + int(number) % 2}}}"

    def asked(self) -> list[str]:
        """What was asked for since the last look."""
        ids = [request.id for request in self.requests]
        self.requests.clear()
        return ids


@pytest.fixture
def engine(model: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    loaded = load(str(model))
    made = Engine(loaded)
    monkeypatch.setattr(EngineSettings, "open_engine", lambda *_, **__: (made, loaded))
    return made


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "q.jsonl"
    rows = [{"id": f"q{i}", "question": f"{i}+{i}=?", "answer": str(2 * i)} for i in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def command(recipe: str, model: Path, questions: Path, out: Path, *more: str) -> list[str]:
    options = {"model": model, "questions": questions, "trajectories": SPEC, "batch-size": 3, "passes": 2, "out": out}
    options |= {"learning-rate": 1e-3, "threads": 1}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return ["train", recipe, *words, "--json", *more]


def losses(out: Path) -> list[float]:
    return [dict(step.metrics)["loss"] for step in Run.open(out).steps()]


@pytest.mark.model
def test_sft_learns_from_the_right_samples_alone(
    cli: Cli, engine: Engine, model: Path, questions: Path, tmp_path: Path
) -> None:
    words = command("sft", model, questions, tmp_path / "r", "--support", "2")
    ran = cli(*words)
    assert ran.status == 0, ran.err
    assert "12 trajectories are left out: they do not lead to the right answer" in ran.err
    assert (json.loads(ran.out)["rows"], json.loads(ran.out)["steps"]) == (12, 4)
    assert len(engine.asked()) == 24
    run = Run.open(tmp_path / "r")
    outcomes = [trajectory.outcome for trajectory in run.trajectories()]
    assert (outcomes.count(Outcome.RIGHT), outcomes.count(Outcome.WRONG)) == (12, 12)
    assert run.manifest["stages"]["rollout"]["configuration"]["top_k"] == 50
    again = cli(*words)
    assert json.loads(again.out)["new_steps"] == 0
    assert engine.asked() == []
    ran = cli(*command("sft", model, questions, tmp_path / "s", "--support", "3"))
    assert ran.status == 2
    assert "--support 3: 6 of 6 questions have fewer right trajectories" in ran.err
    engine.asked()
    ran = cli(*command("sft", model, questions, tmp_path / "s", "--support", "2"))  # the samples are still there
    assert ran.status == 0, ran.err
    assert engine.asked() == []


@pytest.mark.model
@pytest.mark.parametrize("recipe", ["sft", "dpo"])
def test_interrupted_while_sampling_it_draws_what_is_missing_and_learns_the_same(
    cli: Cli, engine: Engine, model: Path, questions: Path, tmp_path: Path, recipe: str
) -> None:
    assert cli(*command(recipe, model, questions, tmp_path / "whole")).status == 0
    everything = engine.asked()
    engine.stop = 13
    ran = cli(*command(recipe, model, questions, tmp_path / "r"))
    assert ran.status == 130
    engine.stop = -1
    before = set(engine.asked()[:-1])
    ran = cli(*command(recipe, model, questions, tmp_path / "r"))
    assert ran.status == 0, ran.err
    assert set(engine.asked()) == set(everything) - before
    assert losses(tmp_path / "r") == pytest.approx(losses(tmp_path / "whole"), abs=1e-6)
    assert json.loads(ran.out)["rows"] == 12
