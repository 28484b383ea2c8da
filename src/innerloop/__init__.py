"""innerloop shows a language model learning inside its own chain of thought, and trains it to do that better.

The public API, listed by hand. Each verb is a function of its settings and returns a small record::

    import innerloop

    result = innerloop.probe(innerloop.ProbeSettings(questions="q.jsonl", trajectories=("solutions",)))
    curves = innerloop.Run.open(result.run).curves()

A name is imported when it is first used, so that the command line starts at once. ``from innerloop import *`` leaves
out ``innerloop.eval`` alone, which would hide Python's own.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from innerloop.errors import InputError
    from innerloop.models import LoadedModel, load
    from innerloop.questions.disjoint import remove_overlap
    from innerloop.questions.oracles import traces
    from innerloop.schema import (
        Curve,
        Landscape,
        Mode,
        Outcome,
        Question,
        Score,
        Source,
        Status,
        Step,
        Trajectory,
        Update,
    )
    from innerloop.store import Run
    from innerloop.verbs.benchmark_list import BenchmarkList
    from innerloop.verbs.demo import DemoResult, DemoSettings, demo
    from innerloop.verbs.eval import EvalResult, EvalSettings
    from innerloop.verbs.eval import eval as eval
    from innerloop.verbs.landscape import LandscapeResult, LandscapeSettings, landscape
    from innerloop.verbs.probe import ProbeResult, ProbeSettings, probe
    from innerloop.verbs.report import ReportResult, ReportSettings, report
    from innerloop.verbs.rollout import RolloutResult, RolloutSettings, rollout
    from innerloop.verbs.select import SelectResult, SelectSettings, select
    from innerloop.verbs.train import (
        DpoSettings,
        GrpoSettings,
        InitResult,
        InitSettings,
        MetaSettings,
        SftSettings,
        TrainResult,
        train,
    )
    from innerloop.verbs.update import UpdateResult, UpdateSettings, update

__all__ = [
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

_HOMES = {
    "errors": ("InputError",),
    "models": ("LoadedModel", "load"),
    "questions.disjoint": ("remove_overlap",),
    "questions.oracles": ("traces",),
    "schema": (
        *(
            "Curve",
            "Landscape",
            "Mode",
            "Outcome",
            "Question",
            "Score",
            "Source",
            "Status",
            "Step",
            "Trajectory",
            "Update",
        ),
    ),
    "store": ("Run",),
    "verbs.benchmark_list": ("BenchmarkList",),
    "verbs.demo": ("DemoResult", "DemoSettings", "demo"),
    "verbs.eval": ("EvalResult", "EvalSettings", "eval"),
    "verbs.landscape": ("LandscapeResult", "LandscapeSettings", "landscape"),
    "verbs.probe": ("ProbeResult", "ProbeSettings", "probe"),
    "verbs.report": ("ReportResult", "ReportSettings", "report"),
    "verbs.rollout": ("RolloutResult", "RolloutSettings", "rollout"),
    "verbs.select": ("SelectResult", "SelectSettings", "select"),
    "verbs.train": (
        "DpoSettings",
        "GrpoSettings",
        "InitResult",
        "InitSettings",
        "MetaSettings",
        "SftSettings",
        "TrainResult",
        "train",
    ),
    "verbs.update": ("UpdateResult", "UpdateSettings", "update"),
}
_HOME = {name: f"innerloop.{home}" for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'innerloop' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


class _Package(ModuleType):
    """Keeps `innerloop.rollout` and `innerloop.report` the verbs.

    Two sub-packages have the same names, and the import system binds a sub-package to its parent's attribute when it is
    first imported, whoever does it. `from innerloop.rollout.engine import Sampling` is not touched by this; only
    `import innerloop.rollout.engine as …` and attribute chains do not lead into these two sub-packages.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
