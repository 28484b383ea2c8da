"""``innerloop eval``: what it scores, what it says, what it writes, what it refuses."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from innerloop.schema import Outcome, Question, Source, Trajectory
from innerloop.store import Run
from innerloop.testing.runs import curve, write_run

Cli = Callable[..., Any]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, rows: list[dict[str, Any]]) -> Path:
    path = Path(name)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def samples(name: str, right: list[int], n: int = 4, **more: Any) -> Path:
    """A file with n samples of each question; ``right`` of them give the answer 2i, the others 1."""
    rows = [
        {"question_id": f"q-{i}", "sample": j, "answer": str(2 * i) if j < count else "1", "correct": j < count} | more
        for i, count in enumerate(right)
        for j in range(n)
    ]
    return write(name, rows)


def scored(cli: Cli, *arguments: str | Path) -> dict[str, Any]:
    ran = cli("eval", *arguments, "--json")
    assert ran.status == 0, ran.err
    return json.loads(ran.out)


def cells(result: dict[str, Any], series: int = 0) -> dict[str, float]:
    rows = [row for row in result["rows"] if row["group"] == "all"]
    return {cell["measure"]: cell["score"]["mean"] for cell in rows[series]["cells"]}


def test_recorded_verdicts_are_scored_without_questions_or_texts(cli: Cli) -> None:
    result = scored(cli, "--trajectories", samples("s.jsonl", [4, 2, 0, 1]), "--k", "1,2,4", "--tau", "1")
    found = cells(result)
    assert found["avg@4"] == found["Pass@1"] == pytest.approx(7 / 16)
    assert found["Pass@2"] == pytest.approx((1 + 5 / 6 + 0 + 1 / 2) / 4)
    assert found["Pass@4"] == pytest.approx(3 / 4)
    assert found["maj@4"] == pytest.approx((1 + 1 / 2 + 0 + 0) / 4)
    assert found["G-Pass@4 (τ=1)"] == pytest.approx(1 / 4)
    assert (result["questions"], result["samples"], result["agreement"]) == (4, 16, None)
    scores = Run.open(result["run"]).scores()
    assert [(score.right, score.wrong) for score in scores] == [(4, 0), (2, 2), (0, 4), (1, 3)]


def test_every_number_is_in_the_files(cli: Cli) -> None:
    file = samples("s_1.jsonl", [4, 2, 0, 1])
    result = scored(cli, "--trajectories", file, "--k", "2", "--out", "R")
    assert [Path(name).name for name in result["files"]] == ["scores.csv", "scores.md", "scores.tex"]
    rows = list(csv.DictReader(Path("R/scores.csv").read_text().splitlines()))
    assert {row["measure"]: float(row["mean"]) for row in rows} == pytest.approx(cells(result))
    assert all(float(row["low"]) <= float(row["mean"]) <= float(row["high"]) for row in rows)
    text = Path("R/scores.tex").read_text()
    assert r"s\_1" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1
    assert "| avg@4 | 43.8 [" in Path("R/scores.md").read_text()
    again = scored(cli, "--trajectories", file, "--k", "2,4", "--out", "R")
    assert "Pass@4" in cells(again), "another k is no other run"
    assert len(list(Path("R/scores").glob("*.parquet"))) == 1, "the same scores are written once"


def test_the_table_for_people(cli: Cli) -> None:
    ran = cli("eval", "--trajectories", samples("s.jsonl", [4, 2, 0, 1]))
    assert ran.status == 0
    assert "avg@4" in ran.out
    assert "43.8 [" in ran.out
    assert "16 samples of 4 questions in runs/eval-" in ran.out
    assert "next: innerloop report runs/eval-" in ran.out


@pytest.mark.slow
def test_samples_that_were_only_scored_are_kept_in_the_run(cli: Cli) -> None:
    """So that the page can show them, and the folder can be scored again without its source."""
    file = samples("s.jsonl", [4, 2, 0, 1])
    scored(cli, "--trajectories", file, "--out", "R")
    kept = Run.open("R").trajectories()
    assert len(kept) == 16
    assert {trajectory.id.partition("/")[0] for trajectory in kept} == {"s"}
    file.unlink()
    assert cells(scored(cli, "--trajectories", "R", "--out", "S"))["avg@4"] == pytest.approx(7 / 16)
    ran = cli("report", "R", "--json")
    assert ran.status == 0
    assert json.loads(ran.out)["statements"][0].startswith("s, over 4 questions: avg@4 43.8 [")


def test_verdicts_are_redone_and_compared(cli: Cli, questions_file: Path) -> None:
    file = write(
        "s.jsonl",
        [
            {"question_id": "q-3", "answer": "6", "correct": False},
            {"question_id": "q-3", "text": r"So it is \boxed{6}.", "correct": True},
            {"question_id": "q-4", "answer": "9", "correct": True},
            {"question_id": "q-4", "text": "I do not know.", "correct": False},
            {"question_id": "q-5", "answer": "10"},
            {"question_id": "q-5", "answer": "11"},
        ],
    )
    common = ("--trajectories", file, "--questions", questions_file, "--k", "1")
    keep = scored(cli, *common)
    assert cells(keep)["avg@2"] == pytest.approx(1 / 2)
    assert keep["rows"][0]["undecided"] == 0, "what has no verdict is judged"
    assert cells(scored(cli, *common, "--verdicts", "redo"))["avg@2"] == pytest.approx((1 + 0 + 1 / 2) / 3)

    result = scored(cli, *common, "--verdicts", "compare", "--out", "R")
    assert result["agreement"]["compared"] == 4
    assert [
        (entry["trajectory_id"], entry["recorded"], entry["verdict"]) for entry in result["agreement"]["disagreements"]
    ] == [("q-3/file-0", "wrong", "right"), ("q-4/file-0", "right", "wrong")]
    assert [row["series"] for row in result["rows"]] == ["s", "s, our verdicts"]
    assert result["rows"][0]["undecided"] == 2, "recorded are four of six"
    assert len(list(csv.DictReader(Path("R/disagreements.csv").read_text().splitlines()))) == 2
    shown = cli("eval", *common, "--verdicts", "compare", "--out", "R")
    assert "4 recorded verdicts, 2 of them other than ours" in shown.out


@pytest.mark.parametrize(("verdicts", "counts"), [("compare", Outcome.WRONG), ("redo", Outcome.RIGHT)])
def test_a_run_judged_again_in_its_own_folder_keeps_both_verdicts(
    cli: Cli, questions_file: Path, verdicts: str, counts: Outcome
) -> None:
    came = Trajectory(
        id="q-3/sample-0",
        question_id="q-3",
        text=r"\boxed{6}",
        source=Source.FILE,
        outcome=Outcome.WRONG,
        outcome_reason="by hand",
    )
    write_run(Path("R"), trajectories=[came])
    own = ("--trajectories", "R", "--questions", questions_file, "--k", "1", "--out", "R", "--verdicts", verdicts)
    for _ in range(2):  # the first time used to replace what the second compares with
        result = scored(cli, *own)
        if verdicts == "compare":
            [entry] = result["agreement"]["disagreements"]
            assert (entry["recorded"], entry["verdict"]) == ("wrong", "right")
        assert cells(result)["avg@1"] == (counts is Outcome.RIGHT)
        [kept] = Run.open(Path("R")).trajectories()
        assert (kept.outcome, kept.judged) == (counts, Outcome.RIGHT)
        assert (kept.recorded, kept.recorded_reason) == (Outcome.WRONG, "by hand")


def test_undecided_samples_are_told_and_bounded(cli: Cli) -> None:
    rows = [{"question_id": f"q-{i}", "correct": [True, False, None][j]} for i in range(3) for j in range(3)]
    file = write("s.jsonl", rows)
    ran = cli("eval", "--trajectories", file, "--k", "1")
    assert "3 of 9 samples undecided, 0 truncated; avg@3 is 33.3 if the undecided are wrong, 66.7" in ran.out
    result = scored(cli, "--trajectories", file, "--k", "1,3")
    assert cells(result)["avg@3"] == 0.5
    last = next(cell for cell in result["rows"][0]["cells"] if cell["measure"] == "Pass@3")
    assert last["score"]["mean"] is None, "three decided samples are not there"
    assert (last["if_wrong"], last["if_right"]) == (1, 1)


def test_samples_of_two_files_are_scored_together(cli: Cli, questions_file: Path) -> None:
    """Their rows have the same ids, and other answers."""
    one, two = (write(f"{answer}.jsonl", [{"question_id": "q-1", "answer": answer}] * 2) for answer in "23")
    result = scored(cli, "--trajectories", one, two, "--questions", questions_file)
    assert cells(result)["avg@4"] == 0.5
    assert cells(result)["maj@4"] == 0.5


def test_each_run_is_ranked_by_its_own_answer_losses(cli: Cli) -> None:
    runs = []
    for name, losses in (("A", (0.1, 2.0)), ("B", (2.0, 0.1))):
        asked = [Question(id=f"q-{i}", question="?", answer="1") for i in range(3)]
        told = [
            Trajectory(
                id=f"{question.id}/sample-{j}",
                question_id=question.id,
                text="x",
                source=Source.SAMPLE,
                sample=j,
                answer=str(j),
                outcome=Outcome.WRONG if j else Outcome.RIGHT,
            )
            for question in asked
            for j in range(2)
        ]
        curves = [curve(t, ["x"], [3.0, losses[t.sample]]) for t in told]
        runs.append(write_run(Path(name), asked, told, curves))
    result = scored(cli, "--compare", *runs)
    assert [cells(result, i)["best of 2 by answer loss"] for i in (0, 1)] == [1.0, 0.0]


def test_modes_are_never_thrown_together(cli: Cli) -> None:
    rows = [
        {"question_id": f"q-{i}", "mode": mode, "correct": mode == "thinking"}
        for i in range(3)
        for mode in ("thinking", "no-thinking")
    ]
    file = write("s.jsonl", rows)
    result = scored(cli, "--trajectories", file)
    assert [(row["series"], row["right"]) for row in result["rows"]] == [("s thinking", 3), ("s no-thinking", 0)]
    compared = scored(cli, "--compare", file)
    assert compared["differences"][0]["difference"]["mean"] == -1


def test_two_files_are_compared_question_by_question(cli: Cli, questions_file: Path) -> None:
    a, b = samples("a.jsonl", [0, 1, 2, 3, 1, 0]), samples("b.jsonl", [4, 3, 4, 3, 4, 3])
    result = scored(cli, "--compare", a, b, "--k", "1,4", "--questions", questions_file, "--out", "R")
    first = result["differences"][0]
    assert (first["series"], first["reference"], first["measure"]) == ("b", "a", "avg@4")
    assert first["difference"]["mean"] == pytest.approx((4 + 2 + 2 + 0 + 3 + 3) / 24)
    assert first["difference"]["paired"] is True
    assert first["p"] == pytest.approx(2 / 32), "five differences of one sign"
    assert first["p_holm"] >= first["p"]
    assert len(list(csv.DictReader(Path("R/differences.csv").read_text().splitlines()))) == len(result["differences"])
    shown = cli("eval", "--compare", a, b, "--k", "1,4", "--reference", "b")
    assert "A = b" in shown.out
    assert "B − A" in shown.out


def test_models_are_never_pooled(cli: Cli) -> None:
    rows = [
        {"question_id": f"q-{i}", "correct": model == "good", "model": model}
        for i in range(3)
        for model in ("good", "bad")
    ]
    result = scored(cli, "--trajectories", write("s.jsonl", rows), "--k", "1")
    assert [row["series"] for row in result["rows"] if row["group"] == "all"] == ["good", "bad"]
    assert (cells(result, 0)["avg@1"], cells(result, 1)["avg@1"]) == (1, 0)
    assert result["differences"] == []


def test_one_file_of_several_models_is_compared_by_model(cli: Cli) -> None:
    rows = [
        {"question_id": f"q-{i}", "model": model, "correct": (i + j) % 3 == 0}
        for i in range(6)
        for j, model in enumerate(("base", "trained"))
    ]
    result = scored(cli, "--compare", write("s.jsonl", rows))
    assert [row["series"] for row in result["rows"]] == ["base", "trained"]


def test_tables_by_level_and_benchmark(cli: Cli) -> None:
    questions = [
        {"id": f"q-{i}", "question": "?", "answer": str(2 * i), "level": 1 + i % 2, "domain": "math"} for i in range(6)
    ]
    one, two = write("one.jsonl", questions[:3]), write("two.jsonl", questions[3:])
    result = scored(
        cli, "--trajectories", samples("s.jsonl", [4, 0, 4, 0, 4, 0]), "--questions", one, two, "--verdicts", "redo"
    )
    found = {(row["group"], row["value"]): row["cells"][0]["score"]["mean"] for row in result["rows"]}
    assert found == {
        ("all", "all"): 0.5,
        ("benchmark", "one"): pytest.approx(2 / 3),
        ("benchmark", "two"): pytest.approx(1 / 3),
        ("level", "1"): 1.0,
        ("level", "2"): 0.0,
    }


@pytest.mark.slow
def test_benchmarks_within_and_across_domains(cli: Cli) -> None:
    domains = {"aime": "math", "gpqa": "science", "lcb": "code"}
    for name, domain in domains.items():
        write(
            f"{name}.jsonl", [{"id": f"{name}-{i}", "question": "?", "answer": "1", "domain": domain} for i in range(4)]
        )
    files = [
        write(f"{series}.jsonl", [{"question_id": f"{n}-{i}", "correct": i < right} for n in domains for i in range(4)])
        for series, right in (("a", 1), ("b", 3))
    ]
    questions = [f"{name}.jsonl" for name in domains]
    common = ("--compare", *files, "--questions", *questions, "--trained-on", "math", "--out", "R")
    result = scored(cli, *common)
    found = [(r["series"], r["value"], r["questions"]) for r in result["rows"] if r["group"] == "generalisation"]
    assert found == [(s, side, n) for s in "ab" for side, n in (("within domain", 4), ("cross domain", 8))]
    between = {d["benchmark"]: d for d in result["differences"]}
    assert between["cross domain"]["difference"]["mean"] == 0.5
    assert {"within domain", "cross domain"} <= {
        row["value"] for row in csv.DictReader(Path("R/scores.csv").read_text().splitlines())
    }
    assert "b − a, cross domain" in Path("R/scores.md").read_text()
    assert "Within domain: math; cross domain: all others." in Path("R/scores.md").read_text()
    again = scored(cli, *common[:-3], "code", "--out", "R")  # no other run: it is a way to look at the scores
    assert [r["questions"] for r in again["rows"] if r["value"] == "within domain"] == [4, 4]
    wrong = cli("eval", *common[:-3], "maths")
    assert "--trained-on maths: no question is of this domain (they are of code, math, science)" in wrong.err


def test_questions_of_one_template_make_the_interval_wider(cli: Cli) -> None:
    rows = [{"id": f"q-{i}", "question": "?", "answer": "1", "template": i // 5} for i in range(20)]
    file = samples("s.jsonl", [4] * 10 + [0] * 10)
    plain = scored(cli, "--trajectories", file)["rows"][0]
    aware = scored(cli, "--trajectories", file, "--questions", write("q.jsonl", rows))["rows"][0]
    assert (plain["clusters"], aware["clusters"]) == (None, 4)
    width = [row["cells"][0]["score"]["high"] - row["cells"][0]["score"]["low"] for row in (plain, aware)]
    assert width[1] > 1.5 * width[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to score: give --trajectories, --compare, or --questions to put to the model"),
        (("--trajectories", "s.jsonl", "--k", "8"), "--k 8: question 'q-0' has only 4 samples; take a k up to 4"),
        (("--questions", "other.jsonl", "--n", "4", "--k", "8"), "--k 8: there will be 4 samples per question; raise"),
        (("--trajectories", "s.jsonl", "--k", "0"), "--k 0: must be 1 or more"),
        (("--trajectories", "s.jsonl", "--k", "x"), "Invalid value for --k"),
        (("--trajectories", "s.jsonl", "--tau", "1.5"), "--tau 1.5: must lie between 0 and 1"),
        (("--trajectories", "s.jsonl", "--verdicts", "redo"), "--verdicts redo needs --questions"),
        (("--trajectories", "s.jsonl", "--verdicts", "kep"), 'Invalid value "kep" for --verdicts'),
        (("--trajectories", "missing.jsonl"), "missing.jsonl: no such file"),
        (("--trajectories", "s.jsonl", "--compare", "s.jsonl"), "--trajectories and --compare: give one of them"),
        (("--compare", "s.jsonl"), "--compare s.jsonl: one source of one model and mode; give a second source"),
        (
            ("--compare", "s.jsonl", "t.jsonl", "--reference", "u"),
            "--reference u: there is no such series; there are s, t",
        ),
        (("--trajectories", "bad.jsonl"), "bad.jsonl, line 1: correct is 'perhaps'; write true or false"),
        (("--trajectories", "empty.jsonl"), "empty.jsonl: "),
        (("--trajectories", "."), ".: not a run folder"),
        (("--trajectories", "s.jsonl", "--questions", "other.jsonl"), "s.jsonl, line 1: there is no question 'q-0'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_scored(cli: Cli, arguments: tuple[str, ...], message: str) -> None:
    samples("s.jsonl", [1, 2])
    samples("t.jsonl", [1, 2])
    write("bad.jsonl", [{"question_id": "q-0", "correct": "perhaps"}])
    write("empty.jsonl", [])
    write("other.jsonl", [{"id": "z", "question": "?", "answer": "1"}])
    ran = cli("eval", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith(f"innerloop: {message}"), ran.err
    assert ran.err.count("\n") == 1
    assert not Path("runs").exists()


def test_the_benchmarks_are_listed(cli: Cli) -> None:
    result = scored(cli, "--list")
    assert {"aime24", "math500", "gsm8k", "humaneval"} <= {row["name"] for row in result["benchmarks"]}
    assert all(row["licence"] and row["source"] and row["verifier"] for row in result["benchmarks"])
    assert (
        next(row for row in result["benchmarks"] if row["name"] == "math500")["source"] == "HuggingFaceH4/MATH-500:test"
    )
    assert all(row["template"] and row["fields"] for row in result["benchmarks"])
    found = {row["name"]: row for row in result["benchmarks"]}
    assert (found["gsm8k"]["group"], found["gpqa-diamond"]["group"]) == ("within-domain", "cross-domain")
    assert found["livecodebench"]["source"] == "livecodebench/code_generation_lite:test4.jsonl+test5.jsonl"
    assert {"paper", "choice", "program"} <= {row["name"] for row in result["prompts"]}
    assert "chain_sum" in result["gym"]["families"]
    coder = scored(cli, "--list", "--trained-on", "code")
    assert {row["group"] for row in coder["benchmarks"] if row["domain"] == "math"} == {"cross-domain"}


def test_the_list_fits_a_small_terminal(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = cli("eval", "--list").out.splitlines()
    assert max(map(len, lines)) <= 80
    for word in ("math500-l5", "HuggingFaceH4/MATH-500:test", "math500-l5@FILE", "level 5", "verifier", "licence"):
        assert any(word in line for line in lines), word
    assert not any("…" in line for line in lines if "python" not in line), "nothing is cut"


# Real files


@pytest.mark.slow
def test_real_scores_of_a_trained_model(cli: Cli, data_dir: Path) -> None:
    file = data_dir / "scores_llama3b_rl400_amc23_n50.jsonl"
    result = scored(cli, "--trajectories", file, "--verdicts", "keep", "--k", "1,8,32")
    counts = [
        sum(row["correct"] for row in map(json.loads, file.read_text().splitlines()) if row["question_id"] == name)
        for name in _ids(file)
    ]
    found = cells(result)
    assert found["avg@50"] == pytest.approx(sum(counts) / 2000)
    for k in (8, 32):
        expected = 0.0
        for c in counts:  # the estimator as the HumanEval paper prints it
            miss = 1.0
            for i in range(50 - c + 1, 51):
                miss *= 1 - k / i if 50 - c >= k else 0
            expected += (1 - miss) / len(counts)
        assert found[f"Pass@{k}"] == pytest.approx(expected, abs=1e-9)


def _ids(file: Path) -> list[str]:
    return list(dict.fromkeys(json.loads(line)["question_id"] for line in file.read_text().splitlines()))


@pytest.mark.model  # hundreds of answers judged
@pytest.mark.parametrize(
    ("file", "questions", "allowed"),
    [
        ("t_math100_qwen_n8.jsonl", ("q_extra.jsonl", "q_math_l5.jsonl"), {"math-test-3661/file-7"}),  # 10,000 = 10000
        ("t_llama3b_rl400_amc23_n16.jsonl", ("q_amc23.jsonl",), {"amc23-25/file-10"}),  # 3+4=7 for 7
    ],
)
def test_real_verdicts_are_ours(
    cli: Cli, data_dir: Path, file: str, questions: tuple[str, ...], allowed: set[str]
) -> None:
    result = scored(
        cli,
        *("--trajectories", data_dir / file, "--verdicts", "compare", "--k", "8"),
        *("--questions", *(data_dir / name for name in questions)),
    )
    found = result["agreement"]["disagreements"]
    assert {entry["trajectory_id"] for entry in found} <= allowed
    assert all((entry["recorded"], entry["verdict"]) == ("wrong", "right") for entry in found)


# With a model


@pytest.mark.model
def test_sampling_and_scoring_are_one_command(cli: Cli, tiny_model: Path, questions_file: Path) -> None:
    arguments = (
        *("--model", tiny_model, "--questions", questions_file, "--limit", "3", "--n", "4", "--max-tokens", "8"),
        *("--threads", "1", "--k", "1,4", "--out", "R"),
    )
    result = scored(cli, *arguments)
    assert (result["questions"], result["samples"]) == (3, 12)
    assert "tokens per sample" in cells(result)
    run = Run.open("R")
    assert list(run.manifest["stages"]) == ["rollout", "eval"]
    assert len(run.trajectories()) == 12, "none stands there twice"
    assert all(trajectory.outcome is not Outcome.UNDECIDED for trajectory in run.trajectories())
    assert scored(cli, *arguments) == result
    assert len(Run.open("R").trajectories()) == 12
    assert cells(scored(cli, "--trajectories", "R", "--k", "1,4"))["avg@4"] == cells(result)["avg@4"]
