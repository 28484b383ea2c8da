"""Benchmarks by name, from local copies in our row format and with the hub's own fields."""

from __future__ import annotations

import json

import pytest

from innerloop.errors import InputError
from innerloop.prompts import PROMPTS, SLOT, user_turn
from innerloop.questions import load
from innerloop.questions.benchmarks import BENCHMARKS


def copy(tmp_path, *rows):
    path = tmp_path / "copy.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_names_are_those_of_the_design():
    assert set(BENCHMARKS) == {
        "aime24",
        "aime25",
        "math500",
        "math500-l5",
        "gsm8k",
        "livemathbench-hard",
        "livemathbench-hard-cn",
        "gpqa-diamond",
        "livecodebench",
        "humaneval",
        "mbpp",
        "cruxeval",
    }


def test_gsm8k_with_the_hubs_fields(tmp_path):
    (q,) = load(f"gsm8k@{copy(tmp_path, {'question': 'x', 'answer': 'a <<1=1>>b.' + chr(10) + '#### 1,000'})}")
    assert (q.id, q.answer, q.solution, q.domain, q.verifier) == ("gsm8k-test-0", "1000", "a b.", "math", "math")


def test_math500_keeps_its_ids_and_filters_levels(tmp_path):
    rows = [
        {"unique_id": f"test/algebra/{i}.json", "problem": "p", "solution": "s", "answer": "1", "level": level}
        for i, level in enumerate([5, 4, "Level 5", "5", 1])
    ]
    path = copy(tmp_path, *rows)
    assert [q.id for q in load(f"math500@{path}")] == [f"math-test/algebra/{i}" for i in range(5)]
    hard = load(f"math500-l5@{path}")
    assert [q.id for q in hard] == ["math-test/algebra/0", "math-test/algebra/2", "math-test/algebra/3"]
    assert load(f"math500-l5@{path}", limit=2) == hard[:2]


def test_a_level_filter_needs_levels(tmp_path):
    with pytest.raises(InputError, match=r"line 1: no level, and this benchmark takes level 5 only"):
        load(f"math500-l5@{copy(tmp_path, {'problem': 'p', 'answer': '1'})}")
    with pytest.raises(InputError, match=r"holds no questions of this benchmark"):
        load(f"math500-l5@{copy(tmp_path, {'problem': 'p', 'answer': '1', 'level': 3})}")


def test_bare_numbers_are_no_ids(tmp_path):
    path = copy(tmp_path, {"id": 60, "problem": "p", "answer": "204", "year": "2024"})
    assert load(f"aime24@{path}")[0].id == "aime24-0"
    assert load(f"aime25@{copy(tmp_path, {'id': 'mine', 'question': 'p', 'answer': '1'})}")[0].id == "mine"


GPQA = {
    "Record ID": "rec1",
    "Question": "Which?",
    "Correct Answer": "right",
    "Incorrect Answer 1": "wrong 1",
    "Incorrect Answer 2": "wrong 2",
    "Incorrect Answer 3": "wrong 3",
    "Explanation": "Because.",
}


def test_gpqa_draws_the_order_of_options_from_the_seed(tmp_path):
    path = copy(tmp_path, GPQA)
    letters = set()
    for seed in range(12):
        (q,) = load(f"gpqa-diamond@{path}", seed=seed)
        assert f"({q.answer}) right" in q.question
        assert sorted((q.answer, *q.candidates)) == ["A", "B", "C", "D"]
        assert (q.id, q.verifier, q.domain, q.solution) == ("gpqa-rec1", "choice", "science", "Because.")
        assert load(f"gpqa-diamond@{path}", seed=seed) == [q]
        letters.add(q.answer)
    assert len(letters) >= 3


def test_humaneval_with_the_hubs_fields(tmp_path):
    row = {"task_id": "HumanEval/0", "prompt": "def f():\n", "canonical_solution": "    return 1\n"}
    (q,) = load(f"humaneval@{copy(tmp_path, row | {'test': 'assert f() == 1', 'entry_point': 'f'})}")
    assert (q.id, q.answer, q.verifier) == ("HumanEval/0", "    return 1\n", "code")
    assert json.loads(q.metadata) == {"tests": "assert f() == 1", "entry_point": "f"}


def test_mbpp_shows_its_tests(tmp_path):
    row = {"task_id": 11, "text": "Write double.", "code": "def double(x):\n    return 2 * x", "test_setup_code": ""}
    (q,) = load(f"mbpp@{copy(tmp_path, row | {'test_list': ['assert double(1) == 2', 'assert double(0) == 0']})}")
    assert (q.id, q.verifier, q.domain) == ("mbpp-11", "code", "code")
    assert q.question.startswith("Write double.")
    assert q.question.endswith("assert double(1) == 2\nassert double(0) == 0")
    assert json.loads(q.metadata) == {"tests": "assert double(1) == 2\nassert double(0) == 0"}


def test_cruxeval_asks_for_the_output(tmp_path):
    row = {"id": "sample_0", "code": "def f(x):\n    return x + 'b'", "input": "'a'", "output": "'ab'"}
    (q,) = load(f"cruxeval@{copy(tmp_path, row)}")
    assert (q.id, q.answer, q.verifier, q.domain) == ("crux-sample_0", "'ab'", "literal", "code")
    assert q.question.endswith("def f(x):\n    return x + 'b'\nassert f('a') == ??")


def test_livecodebench_from_a_file_with_answers(tmp_path):
    (q,) = load(f"livecodebench@{copy(tmp_path, {'question': 'x', 'answer': ' 1'})}")
    assert (q.id, q.answer, q.verifier) == ("livecodebench-test-0", " 1", "code")


def test_a_rows_own_verifier_and_domain_stay(tmp_path):
    row = {"question": "x", "answer": "1", "verifier": "number", "domain": "physics"}
    (q,) = load(f"livemathbench-hard@{copy(tmp_path, row)}")
    assert (q.verifier, q.domain) == ("number", "physics")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gsm8", r"gsm8: no such file or benchmark \(give FILE\.jsonl.*\); did you mean 'gsm8k'\?"),
        ("GSM8K", r"did you mean 'gsm8k'\?"),
        ("gsm8@x.jsonl", r"gsm8: no such benchmark \(known: aime24, .*\); did you mean 'gsm8k'\?"),
        ("gsm8k@", r"gsm8k@: no file after the @; write gsm8k@FILE"),
        ("gsm8k@nowhere.jsonl", r"nowhere\.jsonl: no such file"),
        ("xyzzy", r"xyzzy: no such file or benchmark"),
    ],
)
def test_faults_are_told_in_one_line(source, message):
    with pytest.raises(InputError, match=message) as caught:
        load(source)
    assert "\n" not in str(caught.value)


def test_a_row_that_is_no_object_is_named(tmp_path):
    path = tmp_path / "copy.jsonl"
    path.write_text("5\n")
    with pytest.raises(InputError, match="line 1: not an object but a int"):
        load(f"gsm8k@{path}")


def test_a_file_with_an_at_sign_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy(tmp_path, {"question": "x", "answer": "1"}).rename(tmp_path / "me@home.jsonl")
    assert load("me@home.jsonl")[0].id == "me@home-0"


def test_livemathbench_in_both_languages(tmp_path):
    """Rows with the fields of the hub: question, answer, question_type."""
    english = {"question": "Find all $n$.", "answer": "$n = 3$", "question_type": "problem-solving"}
    chinese = {"question": "求所有的 $n$。", "answer": "$n = 3$", "question_type": "问答"}
    (q,) = load(f"livemathbench-hard@{copy(tmp_path, english)}")
    assert (q.id, q.verifier, q.prompt_template) == ("livemathbench-hard-test-0", "math", None)
    (q,) = load(f"livemathbench-hard-cn@{copy(tmp_path, chinese)}")
    assert (q.id, q.question, q.answer) == ("livemathbench-hard-cn-test-0", "求所有的 $n$。", "$n = 3$")
    assert user_turn(q, "?").startswith("下面是一个数学问题")
    options = {"question": "Which?", "answer": "B", "question_type": "single-choice", "options": ["A. 1", "B. 2"]}
    (q,) = load(f"livemathbench-hard@{copy(tmp_path, options)}")
    assert (q.question, q.verifier) == ("Which?\nA. 1\nB. 2", "choice")


def test_aime25_with_the_hubs_fields(tmp_path):
    rows = [{"problem": "Find m+n.", "answer": 70, "id": "0"}, {"problem": "Find it.", "answer": "588", "id": "1"}]
    assert [(q.id, q.answer) for q in load(f"aime25@{copy(tmp_path, *rows)}")] == [
        ("aime25-test-0", "70"),
        ("aime25-test-1", "588"),
    ]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_has_a_prompt_that_fits_its_verifier(name):
    benchmark = BENCHMARKS[name]
    assert benchmark.prompt is None or SLOT in PROMPTS[benchmark.prompt].template
    told = {"math": "\\boxed{}", "choice": "\\boxed{}", "literal": "[ANSWER]", "code": "```python"}
    for prompt in [benchmark.prompt] if benchmark.prompt else ["program", "function"]:
        assert told[benchmark.verifier] in PROMPTS[prompt].template
    assert {"question", "answer"} <= benchmark.fields.keys()


def test_a_files_own_prompts(tmp_path):
    rows = [
        {"question": "1?", "answer": "1", "prompt_template": "Q: {question}"},
        {"question": "2?", "answer": "2", "prompt_template": "bare"},
        {"question": "3?", "answer": "3"},
    ]
    assert [user_turn(q, "Think.") for q in load(copy(tmp_path, *rows))] == ["Q: 1?", "2?", "3?\n\nThink."]
    with pytest.raises(InputError, match=r"line 1: prompt_template 'chioce': did you mean choice\? There are paper,"):
        load(copy(tmp_path, rows[0] | {"prompt_template": "chioce"}))


def test_only_tests_make_an_answer_superfluous(tmp_path):
    row = {"question": "Write f.", "verifier": "code", "tests": "assert f() == 1"}
    assert load(copy(tmp_path, row))[0].answer == ""
    with pytest.raises(InputError, match="no answer"):
        load(copy(tmp_path, row | {"tests": ""}))
    with pytest.raises(InputError, match="no answer"):
        load(copy(tmp_path, row | {"verifier": "math"}))


def test_real_copies(data_dir):
    assert len(load(f"gsm8k@{data_dir / 'gsm8k_test.jsonl'}")) == 600
    hard = load(f"math500-l5@{data_dir / 'q_math500.jsonl'}")
    assert {q.level for q in hard} == {"5"}
    assert len(load(f"math500@{data_dir / 'q_math500.jsonl'}")) == 236
    assert {q.verifier for q in load(f"humaneval@{data_dir / 'q_humaneval.jsonl'}")} == {"code"}
    assert len(load(f"aime24@{data_dir / 'q_aime24.jsonl'}")) == 30
