"""What people import and script against. A change here is a change for them: the changelog names it."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import innerloop

PUBLIC = [
    "BenchmarkList",
    "Curve",
    "DemoResult",
    "DemoSettings",
    "DpoSettings",
    "EvalResult",
    "EvalSettings",
    "GrpoSettings",
    "InitResult",
    "InitSettings",
    "InputError",
    "Landscape",
    "LandscapeResult",
    "LandscapeSettings",
    "LoadedModel",
    "MetaSettings",
    "Mode",
    "Outcome",
    "ProbeResult",
    "ProbeSettings",
    "Question",
    "ReportResult",
    "ReportSettings",
    "RolloutResult",
    "RolloutSettings",
    "Run",
    "Score",
    "SelectResult",
    "SelectSettings",
    "SftSettings",
    "Source",
    "Status",
    "Step",
    "TrainResult",
    "Trajectory",
    "Update",
    "UpdateResult",
    "UpdateSettings",
    "demo",
    "landscape",
    "load",
    "probe",
    "remove_overlap",
    "report",
    "rollout",
    "select",
    "traces",
    "train",
    "update",
]
COMMON = (
    "questions limit draw clean seed model dtype device threads prompt instruction system think_start think_end "
    "no_thinking date trust_remote_code out json debug"
)
OUTPUT = "out json debug"
VERDICTS = "weaker_sandbox verdict_cache"
CLUSTER = "address workers worker_cpus worker_gpus"
MEASURING = f"{CLUSTER} engine"
SERVER = "server server_model api key_env timeout retries requests_per_minute"
ENGINE = f"{CLUSTER} engine worker_engine batch_size concurrency gpu_memory_utilization tensor_parallel {SERVER}"
MEASURED = f"{COMMON.replace(OUTPUT, MEASURING)} {OUTPUT} trajectories controls controls_of suffix"
FIELDS = {
    "rollout": f"{COMMON.replace(OUTPUT, ENGINE)} {OUTPUT} {VERDICTS} samples mode temperature top_p top_k max_tokens",
    "probe": f"{MEASURED} every candidates method scored memory",
    "update": f"{MEASURED} positions gauge scope placement alignment untrained save_adapter merge",
    "landscape": (
        f"{COMMON} trajectories controls controls_of suffix plane moved points span positions sharpness products"
    ),
    "select": f"{COMMON} trajectories support by keep skip_short suffix",
    "report": "run beside json debug",
    "demo": "out json debug model limit samples max_tokens every seed threads",
}
OUTER = (
    "learning_rate warmup weight_decay clip max_steps lora save_every "
    "held_out watch watch_every watch_limit watch_samples watch_trajectories watch_max_tokens dry_run"
)
TRAINING = f"{OUTER} question_weights schedule batch_size parts minutes report_to"
RECIPES = {
    "init": "out json debug shape tokenizer seed",
    "sft": (
        f"{COMMON} {TRAINING} trajectories support select keep skip_short at_most passes per_pass "
        "trajectory_weight answer_weight form_weight max_length export"
    ),
    "dpo": (
        f"{COMMON} {TRAINING} trajectories pairs_per_question passes loss beta label_smoothing sft_weight reference "
        "max_length"
    ),
    "grpo": (
        f"{COMMON} {TRAINING} passes group gradient_on choose reward form loss scale clip_low clip_high kl temperature "
        "top_k max_tokens export"
    ),
    "meta": (
        f"{COMMON} {OUTER} trajectories algorithm support query query_of within inner_steps inner_rate tasks combine "
        "adaptive budget_tokens budget_flops"
    ),
}
FIELDS["eval"] = (
    f"{FIELDS['rollout']} trajectories compare reference verdicts k tau trained_on contamination ngram list"
)
HEAVY = ["torch", "ray", "transformers", "datasets", "plotly", "reasoning_gym", "scipy", "jinja2", "math_verify"]


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_public_names_are_these() -> None:
    assert innerloop.__all__ == PUBLIC
    for name in PUBLIC:
        assert getattr(innerloop, name) is not None
        assert name in dir(innerloop)
    with pytest.raises(AttributeError, match="no attribute 'prob'"):
        _ = innerloop.prob


@pytest.mark.slow
def test_a_star_import_leaves_pythons_own_eval_alone() -> None:
    code = (
        "from innerloop import *; import builtins, innerloop; print(eval is builtins.eval, innerloop.eval is not eval)"
    )
    assert run_python(code) == "True True\n"
    assert "eval" in dir(innerloop)


@pytest.mark.parametrize("verb", FIELDS)
def test_a_verb_is_a_function_of_its_settings(verb: str) -> None:
    function = getattr(innerloop, verb)
    settings = getattr(innerloop, f"{verb.capitalize()}Settings")
    assert inspect.isfunction(function)
    assert list(inspect.signature(function).parameters) == ["settings", "command"]
    assert settings.__dataclass_params__.frozen
    assert [field.name for field in dataclasses.fields(settings)] == FIELDS[verb].split()
    assert all(field.metadata["help"] for field in dataclasses.fields(settings)), "every option has its help"


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_its_settings(recipe: str) -> None:
    settings = getattr(innerloop, f"{recipe.capitalize()}Settings")
    assert [field.name for field in dataclasses.fields(settings)] == RECIPES[recipe].split()
    assert all(field.metadata["help"] for field in dataclasses.fields(settings)), "every option has its help"


def test_train_takes_settings_of_a_recipe_only() -> None:
    with pytest.raises(TypeError, match="train takes a recipe's settings"):
        innerloop.train(innerloop.ReportSettings(run=Path("r")))


@pytest.mark.slow
def test_the_verbs_keep_their_names_whoever_imports_the_sub_packages_first() -> None:
    code = """
import innerloop.rollout.engine
import innerloop.report.view
from innerloop.rollout.engine import Sampling
import innerloop
from innerloop import report, rollout
assert innerloop.rollout is rollout and rollout.__module__ == "innerloop.verbs.rollout", rollout
assert innerloop.report is report and report.__module__ == "innerloop.verbs.report", report
from innerloop.rollout.engine import Request
from innerloop.report.page import write
from innerloop.rollout import engine
assert innerloop.rollout is rollout and engine.Sampling is Sampling
innerloop.rollout = print  # what monkeypatch does
assert innerloop.rollout is print
print("ok")
"""
    assert run_python(code) == "ok\n"


@pytest.mark.parametrize("code", ["import innerloop", "import innerloop.cli, innerloop.verbs.demo, innerloop.testing"])
def test_importing_loads_nothing_heavy(code: str) -> None:
    loaded = run_python(f"{code}; import sys; print(*sys.modules)").split()
    assert "innerloop" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_the_first_help_page_does_not_even_load_arrow() -> None:
    """It must appear at once; half a second of imports is felt."""
    code = "from innerloop.cli import main; main(['--help']); import sys; print(*sys.modules)"
    loaded = run_python(code).split()
    assert [name for name in [*HEAVY, "pyarrow", "numpy"] if name in loaded] == []
