r"""Files of questions, trajectories and training texts of any content: read, or refused in one line that names them.

The first byte says how the file is called and what it is read as; the rest is its content.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from innerloop import plain_json, prompts
from innerloop.errors import InputError
from innerloop.evaluate.tally import cluster
from innerloop.evaluate.verify import code
from innerloop.questions import benchmarks, files, gym_entry
from innerloop.rollout import given
from innerloop.schema import Question, Trajectory
from innerloop.verbs import contamination

INSTRUMENT = (
    "innerloop.plain_json",
    "innerloop.thrift",
    "innerloop.parquet_bounds",
    "innerloop.input_files",
    "innerloop.questions.files",
    "innerloop.questions.rows",
    "innerloop.questions.mapping",
    "innerloop.questions.benchmarks",
    "innerloop.questions.livecodebench",
    "innerloop.questions.gym_entry",
    "innerloop.rollout.given",
    "innerloop.evaluate.tally",
    "innerloop.verbs.contamination",
)
_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
_KINDS = ("questions", "trajectories", "training", *benchmarks.BENCHMARKS)


def one(data: bytes) -> None:
    """Only `InputError`, in one line, names the file; what is read can be kept, and whoever reads it later can."""
    kind, suffix = divmod(data[0] if data else 0, len(_SUFFIXES))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"f{_SUFFIXES[suffix]}"
        path.write_bytes(data[1:])
        try:
            _read(_KINDS[kind % len(_KINDS)], path)
        except InputError as error:
            said = str(error)
            assert str(path) in said, said
            assert "\n" not in said, said
            assert len(said) < 5000, said


def _read(kind: str, path: Path) -> None:
    if kind == "trajectories":
        found = given.from_file(path, None, text_needed=False)
        assert Trajectory.from_table(Trajectory.to_table(found)) == found
    elif kind == "training":
        for where, text in contamination.training_texts(str(path)):
            assert isinstance(where, str)
            assert isinstance(text, str)
    else:
        questions = files.load(path) if kind == "questions" else benchmarks.load(f"{kind}@{path}")
        assert Question.from_table(Question.to_table(questions)) == questions
        for question in questions:
            assert plain_json.mapping(question.metadata) is not None
            cluster(question)
            prompts.default(question)
            gym_entry.from_json(question.metadata or "")
            code.judge(question, "```python\nprint(1)\n```", complete=True)
