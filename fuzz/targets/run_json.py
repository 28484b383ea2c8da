"""A run folder with any ``run.json``: what reads it and what goes on with it takes it or refuses it."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from innerloop import manifest
from innerloop.errors import InputError
from innerloop.outer import checkpoints
from innerloop.report import data as pages
from innerloop.report.embed import json_block
from innerloop.schema import Step
from innerloop.store import Run
from innerloop.testing.evaluations import write_evaluation
from innerloop.testing.trainings import made_up_steps
from innerloop.verbs.scoring import Known, read
from innerloop.verbs.train.result import result_of
from innerloop.verbs.train.saved import finished

INSTRUMENT = (
    "innerloop.plain_json",
    "innerloop.manifest",
    "innerloop.report.facts",
    "innerloop.report.evaluated",
    "innerloop.report.view",
    "innerloop.verbs.scoring",
    "innerloop.verbs.train.saved",
)


@cache
def _run() -> Path:
    """A folder with an evaluation and a training that ended."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    path = write_evaluation(folder / "R", questions=3, samples=3, words=3)
    with Run.start(path, "train sft", {"seed": 0}) as run:
        run.write("steps", Step.to_table(made_up_steps(steps=2, looks=1)))
        run.note("trained", True)
    (path / "model").mkdir()
    (path / "model" / "config.json").write_text("{}")
    return path


def one(data: bytes) -> None:
    """Only `InputError`, in one line, names the folder; and what was refused stays as it was."""
    path = _run()
    (path / manifest.NAME).write_bytes(data)
    try:
        collected = pages.collect(path)
        assert all(map(json_block, collected.blocks.values()))
        read(str(path), Known(), limit=2, samples=1, out=path)
        with Run.start(path, "train sft", {"seed": 0}) as run:
            finished(run, 5.0)
            checkpoints.any_there(run.path / "checkpoints", run.path)
            result_of(run, "sft", questions=1, rows=run.noted("rows"), dropped=run.noted("dropped"), before=0)
            run.record_model({"name": "m", "fingerprint": "ab", "dtype": "float32"})
            run.note("x", 1)
        assert Run.open(path).manifest["stages"]["train sft"]["status"] == "complete"
    except InputError as error:
        said = str(error)
        assert str(path) in said, said
        assert "\n" not in said, said
        assert len(said) < 5000, said
