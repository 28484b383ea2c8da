"""``eval --contamination``: what it reads, says and writes, and how it splits scores."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]

LONG = (
    "Ann{0} has {0} apples, gave Bob{0} each of {0} pears, {0} of them on a sunny{0} day in May: how many{0} are there"
)


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight questions; the training data holds the first three, one of them in part."""
    monkeypatch.chdir(tmp_path)
    asked = [LONG.format(i) for i in range(8)]
    rows = [{"id": f"q-{i}", "question": text, "answer": str(i)} for i, text in enumerate(asked)]
    Path("q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = [
        {"messages": [{"role": "user", "content": f"Well: {asked[0].upper()}!"}, {"content": "I do not know"}]},
        {"text": "Something else, of no use to anybody who has other things to do on a day like this one."},
        {"text": asked[1].replace(" ", "\n"), "solution": asked[2].split(" day")[0]},
    ]
    Path("t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))


def test_planted_questions_are_found_where_they_are(cli: Cli) -> None:
    ran = cli("eval", "--contamination", "t.jsonl", "--questions", "q.jsonl", "--out", "R", "--json")
    assert ran.status == 0, ran.err
    result = json.loads(ran.out)
    (row,) = result["benchmarks"]
    assert (row["benchmark"], row["ngram"], row["questions"], row["contaminated"]) == ("q", 13, 8, 3)
    assert (row["half"], row["whole"], result["texts"]) == (3, 2, 6)
    found = {own["question_id"]: own for own in csv.DictReader(Path(result["file"]).read_text().splitlines())}
    assert [name for name, own in found.items() if own["contaminated"] == "yes"] == ["q-0", "q-1", "q-2"]
    assert found["q-0"]["where"] == "t.jsonl, line 1: messages[0].content"
    assert (found["q-1"]["where"], found["q-1"]["whole"]) == ("t.jsonl, line 3: text", "yes")
    assert (found["q-2"]["where"], found["q-2"]["whole"]) == ("t.jsonl, line 3: solution", "no")
    assert (found["q-2"]["longest"], found["q-2"]["words"], found["q-2"]["start"]) == ("16", "23", "0")
    assert found["q-3"]["longest"] == "0"
    shown = cli("eval", "--contamination", "t.jsonl", "--questions", "q.jsonl", "--out", "R").out
    assert "3 (37.5 %)" in shown
    assert "q-2: 16 of 23 words in t.jsonl, line 3: solution" in shown


@pytest.mark.parametrize("kind", ["csv", "parquet", "txt", "json", "source"])
def test_other_kinds_of_files(cli: Cli, kind: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [json.loads(line) for line in Path("q.jsonl").read_text().splitlines()][:3]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), "t.parquet")
    elif kind == "csv":
        with Path("t.csv").open("w", newline="") as stream:
            csv.DictWriter(stream, rows[0].keys()).writeheader()
            csv.DictWriter(stream, rows[0].keys()).writerows(rows)
    elif kind == "json":
        Path("t.json").write_text(json.dumps(rows))
    elif kind == "txt":
        Path("t.txt").write_text("\n\n".join(row["question"].replace(" ", "\n") for row in rows))
    else:
        Path("t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    training = "gsm8k@t.jsonl" if kind == "source" else f"t.{kind}"
    ran = cli("eval", "--contamination", training, "--questions", "q.jsonl", "--json")
    assert ran.status == 0, ran.err
    assert json.loads(ran.out)["benchmarks"][0]["whole"] == 3


def test_scores_of_contaminated_and_clean_questions(cli: Cli) -> None:
    rows = [{"question_id": f"q-{i}", "correct": i < 3 or j == 0} for i in range(8) for j in range(2)]
    Path("s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = cli(
        *("eval", "--trajectories", "s.jsonl", "--questions", "q.jsonl", "--contamination", "t.jsonl"),
        *("--out", "R", "--json"),
    )
    assert ran.status == 0, ran.err
    result = json.loads(ran.out)
    split = [row for row in result["rows"] if row["group"] == "contamination"]
    found = {row["value"]: (row["questions"], row["cells"][0]["score"]["mean"]) for row in split}
    assert found == {"contaminated": (3, 1.0), "clean": (5, 0.5)}
    assert result["contamination"]["benchmarks"][0]["contaminated"] == 3
    assert "R/contamination.csv" in result["files"]
    assert "| contaminated | 3 |" in Path("R/scores.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--contamination", "t.jsonl"), "--contamination needs --questions"),
        (("--ngram", "8", "--questions", "q.jsonl"), "--ngram: say with --contamination"),
        (("--contamination", "t.jsonl", "--questions", "q.jsonl", "--ngram", "0"), "--ngram 0: must be 1 or more"),
        (("--contamination", "no.jsonl", "--questions", "q.jsonl"), "no.jsonl: no such file"),
        (("--contamination", "no.txt", "--questions", "q.jsonl"), "no.txt: cannot be read (No such file"),
        (("--contamination", "empty.txt", "--questions", "q.jsonl"), "empty.txt: holds no texts"),
        (("--contamination", "latin.txt", "--questions", "q.jsonl"), "latin.txt, line 1: not UTF-8"),
        (("--contamination", "bad.jsonl", "--questions", "q.jsonl"), "bad.jsonl, line 1: not JSON"),
    ],
)
def test_what_cannot_be_compared(cli: Cli, arguments: tuple[str, ...], message: str) -> None:
    Path("empty.txt").write_text("\n\n")
    Path("latin.txt").write_bytes("café".encode("latin-1"))
    Path("bad.jsonl").write_text("{")
    ran = cli("eval", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith(f"innerloop: {message}"), ran.err
    assert ran.err.count("\n") == 1
    assert not Path("runs").exists()


@pytest.mark.slow
def test_memory_follows_the_benchmark() -> None:
    """A training file of 8 MB is read in less than two."""
    import tracemalloc

    from innerloop.evaluate.contamination import Index, look
    from innerloop.verbs.contamination import training_texts

    line = json.dumps({"text": "word " * 200}) + "\n"
    with Path("large.jsonl").open("w") as stream:
        for _ in range(8000):
            stream.write(line)
    held = Index({"q": LONG}, ngram=13)
    assert look(list(training_texts("t.jsonl")), held) == 6
    tracemalloc.start()
    try:
        assert sum(1 for _ in training_texts("large.jsonl")) == 8000
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["jsonl", "csv", "txt", "parquet"])
def test_progress_knows_how_much_there_is(kind: str) -> None:
    """Counted beforehand, and reached with the last text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from innerloop.verbs.contamination import _placed_texts, amount

    rows = [{"question": f"What is\n{i} plus\n\n{i}?", "other": "so"} for i in range(30)]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), "n.parquet")
    elif kind == "csv":
        with Path("n.csv").open("w", newline="") as stream:
            csv.DictWriter(stream, rows[0].keys()).writeheader()
            csv.DictWriter(stream, rows[0].keys()).writerows(rows)
    elif kind == "txt":
        Path("n.txt").write_text("\n".join(row["question"] for row in rows))
    else:
        Path("n.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    places = [place for place, _, _ in _placed_texts(f"n.{kind}")]
    assert places == sorted(places)
    assert places[-1] == amount(f"n.{kind}") is not None
    assert amount("gym:gcd?size=3") is None


@pytest.mark.slow
def test_gsm8k_itself(cli: Cli, data_dir: Path) -> None:
    """The known state of these files: nothing of the test stands in the training split."""
    ran = cli(
        *("eval", "--contamination", data_dir / "gsm8k_train.jsonl"),
        *("--questions", f"gsm8k@{data_dir / 'gsm8k_test.jsonl'}", "--limit", "100", "--json"),
    )
    (row,) = json.loads(ran.out)["benchmarks"]
    assert (row["ngram"], row["questions"], row["half"], row["whole"]) == (13, 100, 0, 0)
