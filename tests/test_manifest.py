"""``run.json`` of any content: what a verb looks up in it is of the kind it expects, or one line names the field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from innerloop import manifest
from innerloop.errors import InputError
from innerloop.report.data import collect
from innerloop.schema import Question
from innerloop.store import Run
from innerloop.testing.runs import write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "R", [Question(id="q", question="?", answer="1")])


def change(run: Path, **fields: Any) -> None:
    content = json.loads((run / "run.json").read_text())
    content["stages"]["probe"].update(fields)
    (run / "run.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"status": "resting"}, "status: is 'resting' and must be one of running, complete"),
        ({"status": ["complete"]}, "status: is"),
        ({"command": "probe"}, "command: is 'probe' and must be a list of texts"),
        ({"command": ["a", 5]}, "command: is"),
        ({"configuration": []}, r"configuration: is '\[\]' and must be an object"),
        ({"configuration": {"k": ["a"]}}, "configuration, k: is"),
        ({"configuration": {"k": [0]}}, "configuration, k: is"),
        ({"configuration": {"tau": [2.0]}}, "configuration, tau: is"),
        ({"configuration": {"seed": -1}}, "configuration, seed: is"),
        ({"configuration": {"questions": {"a": 1}}}, "configuration, questions: is"),
        ({"versions": {"python": 3}}, "versions: is"),
        ({"changes": [1]}, "changes: is"),
        ({"model": "tiny"}, "model: is 'tiny' and must be an object"),
        ({"model": {"parameters": "many"}}, "model, parameters: is"),
        ({"model": {"other": 10**30}}, "a number of more than 64 bits"),
        ({"notes": [1]}, "notes: is"),
        ({"notes": {"series": [[1]]}}, "notes, series: is"),
        ({"notes": {"no_control": {"a": 1}}}, "notes, no_control: is"),
        ({"notes": {"ended_after_minutes": "5"}}, "notes, ended_after_minutes: is"),
        ({"started": 5}, "started: is"),
        ({"seed": True}, "seed: is"),
    ],
)
def test_a_field_of_another_kind_is_named(run: Path, fields: dict[str, Any], said: str) -> None:
    change(run, **fields)
    with pytest.raises(InputError, match=rf"R/run\.json: stages, probe.*{said}") as caught:
        collect(run)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=said), Run.start(run, "probe", {}):
        pytest.fail("it began")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "cannot be read"),
        ("{" * 100_000, "cannot be read"),
        ('{"format": 1, "stages": ' + '{"a":' * 200 + "1" + "}" * 201, "nested deeper than 100"),
        ('{"format": 1, "stages": {}, "stages": {"probe": {}}}', "the key 'stages' is there twice"),
        ('{"format": 1, "stages": {"probe": {"seed": 1, "seed": 2}}}', "the key 'seed' is there twice"),
        ('{"format": 1, "stages": {"probe": {"command": ["\\ud800"]}}}', "half a character"),
        ('{"format": 1, "stages": {"probe": []}}', "not an object but a list"),
        ('{"format": true, "stages": {}}', "format True, but"),
        ('{"format": 1, "stages": {"probe": {"seed": ' + "9" * 5000 + "}}}", "cannot be read"),
        ("\xff\xfe", "cannot be read"),
        ("[]", "not a run's manifest"),
    ],
)
def test_a_manifest_of_any_content_is_one_line(run: Path, content: str, said: str) -> None:
    (run / "run.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=said) as caught:
        Run.open(run)
    assert str(caught.value).startswith(f"{run}/run.json: ")
    assert "\n" not in str(caught.value)


def test_a_manifest_has_a_size(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "_LARGEST", 100)
    with pytest.raises(InputError, match=r"R/run\.json: larger than"):
        Run.open(run)


def test_what_is_not_known_or_not_said_is_left_alone(run: Path) -> None:
    change(run, newer={"a": [1]}, notes={"later": {"x": 1}, "rows": None}, model=None, seed=None, finished=None)
    assert Run.open(run).manifest["stages"]["probe"]["newer"] == {"a": [1]}
    assert collect(run).facts["title"]
