"""Code judged by unit tests: finding it in a text, completing a prompt, and the verdicts."""

from __future__ import annotations

import json
import sys
import textwrap

import pytest

from innerloop.evaluate.verify import Attempt, Verifier
from innerloop.evaluate.verify.code import find, judge
from innerloop.evaluate.verify.sandbox import Limits, choose
from innerloop.questions import load
from innerloop.schema import Outcome, Question, Status

RIGHT, WRONG, UNDECIDED = Outcome.RIGHT, Outcome.WRONG, Outcome.UNDECIDED
PROMPT = '''from typing import List


def total(numbers: List[int]) -> int:
    """Their sum.
    >>> total([1, 2])
    3
    """
'''
CHECK = "def check(candidate):\n    assert candidate([]) == 0\n    assert candidate([1, 2, 3]) == 6\n"


def completion(**fields) -> Question:
    metadata = json.dumps({"tests": CHECK, "entry_point": "total"} | fields)
    return Question(id="h", question=PROMPT, answer="    return sum(numbers)\n", verifier="code", metadata=metadata)


def written(**fields) -> Question:
    metadata = json.dumps({"tests": "assert double(2) == 4\nassert double(-1) == -2"} | fields)
    return Question(id="m", question="Write double.", answer="-", verifier="code", metadata=metadata)


@pytest.fixture(scope="module")
def verifier():
    if choose().kind is None:
        pytest.skip(choose().reason)
    with Verifier(workers=2, code_limits=Limits(time=4, memory=256)) as verifier:
        yield verifier


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\ndef f(): pass\n```", "def f(): pass"),
        ("Like so:\n```\ndef f(): pass\n```\nand then\n```python\nprint(f())\n```", "def f(): pass"),
        ("```python\ndef f(): return 1\n```\nBetter:\n```python\ndef f(): return 2\n```", "def f(): return 2"),
        ("```python\nx = 1\n```\n```python\ny = 2\n```", "y = 2"),
        ("~~~\ndef f(): pass\n~~~", "def f(): pass"),
        ("````md\n```\ndef f(): pass\n```\n````", "```\ndef f(): pass\n```"),
        ("1. step\n   ```python\n   def f():\n       pass\n   ```", "def f():\n    pass"),
        ("```python\n    return 1\n```", "    return 1"),
        ("[PYTHON]\ndef f(): pass\n[/PYTHON]", "def f(): pass"),
        ("[BEGIN]\ndef f(): pass\n[DONE]\n", "def f(): pass"),
        ("<answer>def f(): pass</answer>", "def f(): pass"),
        ("\\boxed{def f(): return {1: 2}}", "def f(): return {1: 2}"),
        ("def f(): pass", "def f(): pass"),
        ("\n    return 1\n", "    return 1"),
        ("```python\n```", None),
        ("", None),
    ],
)
def test_finding_code(text, code):
    found = find(text, {"f"}, complete=True)[0]
    assert (found and found.strip("\n")) == code or (code is None and not (found or "").strip("`python\n"))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\ndef f():\n    return 1", None),  # the fence is open: more may have followed
        ("```python\ndef f(): pass\n```\nThis is beca", "def f(): pass"),
        ("    return 1\n\n\ndef another(", "    return 1\n\n"),  # the body is whole, what was cut is not asked for
        ("    return 1 + ", None),
        ("def f(): return", None),
    ],
)
def test_truncated_code(text, code):
    found, cut = find(text, {"f"}, complete=False)
    assert found == code
    assert cut in (None, code)


@pytest.mark.parametrize(
    "metadata", [None, "{", "[]", '{"tests": ""}', '{"tests": 5}', '{"entry_point": "f"}'], ids=repr
)
def test_a_question_without_tests_is_undecided(metadata):
    verdict = judge(Question(id="q", question="?", answer="x", metadata=metadata), "def f(): pass", complete=True)
    assert verdict.outcome is UNDECIDED
    assert "no unit tests" in verdict.reason


def test_a_name_that_is_none_is_never_called():
    program = judge(
        completion(entry_point="total); import os; os.abort("), "def total(n): return sum(n)", complete=True
    )
    assert not any("abort" in source for source in program.sources)


@pytest.mark.model  # several process starts
@pytest.mark.parametrize(
    "text",
    [
        "    return sum(numbers)\n",
        "return sum(numbers)",  # its indentation lost
        "result = 0\n    for n in numbers:\n        result += n\n    return result",  # lost on the first line only
        "    return sum(numbers)\n\n\ndef main():\n    print(total([1]",  # it runs on
        "<think>def total(): maybe</think>\n    return sum(numbers)",
        f"{PROMPT}    return sum(numbers)\n",
        "```python\ndef total(numbers):\n    return sum(numbers)\n```",
        "```python\nfrom __future__ import annotations\ndef total(numbers):\n    return sum(numbers)\n```",
        "```python\nimport math\ndef total(numbers: List[int]):\n    return int(math.fsum(numbers))\nprint(0)\n```",
        "Sure!\n```python\n    return sum(numbers)\n```\nThis adds them.",
    ],
)
def test_ways_to_complete_a_function(verifier, text):
    (verdict,) = verifier.verify([(completion(), text)])
    assert verdict.outcome is RIGHT, verdict


@pytest.mark.model
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("    return len(numbers)\n", "AssertionError"),
        ("    return sum(nubmers)\n", "NameError"),
        ("    while True: pass\n", "time limit of 4 s"),
        ("    x = [0] * 10 ** 9\n    return sum(numbers)\n", "memory limit of 256 MiB"),
        ("    import os; os._exit(0)\n", "ended before its end"),
        ("    exit()\n", "NameError"),
        ("    raise SystemExit(0)\n", "SystemExit"),
        ("I cannot do that, I am afraid.", "SyntaxError"),
        ("```python\ndef other(): pass\n```", "AssertionError"),
        ("", "no code"),
    ],
)
def test_what_does_not_pass_is_wrong(verifier, text, reason):
    (verdict,) = verifier.verify([(completion(), text)])
    assert verdict.outcome is WRONG
    assert verdict.reason.startswith(reason)


@pytest.mark.model
def test_functions_by_description(verifier):
    right = "Here:\n```python\ndef double(x):\n    return 2 * x\n```\nExample:\n```python\nprint(double(4))\n```"
    setup = written(setup="four = double(2)", tests="assert four == 4")
    same, wrong, other = verifier.verify([(written(), right), (written(), right.replace("2 *", "3 *")), (setup, right)])
    assert [same.outcome, wrong.outcome, other.outcome] == [RIGHT, WRONG, RIGHT]
    assert same.answer == "def double(x):\n    return 2 * x"


@pytest.mark.model
def test_truncated_and_failed_attempts(verifier):
    cut = Attempt(question=written(), text="```python\ndef double(x):\n    return 2", status=Status.TRUNCATED)
    failed = Attempt(question=written(), text="", status=Status.ERROR, reason="no memory")
    first, second = verifier.verify([cut, failed])
    assert (first.outcome, first.reason) == (WRONG, "truncated before the code was complete")
    assert (second.outcome, second.reason) == (UNDECIDED, "no text: no memory")


def test_without_a_sandbox_code_is_undecided(monkeypatch, tmp_path):
    from innerloop.evaluate.verify.sandbox import sandbox

    monkeypatch.setenv("PATH", str(tmp_path))
    sandbox._fault.cache_clear()
    try:
        with Verifier() as verifier:
            (verdict,) = verifier.verify([(written(), "def double(x): return 2 * x")])
            assert "no sandbox" in verifier.sandbox().describe()
    finally:
        sandbox._fault.cache_clear()
    assert verdict.outcome is UNDECIDED
    assert "apt-get install bubblewrap" in verdict.reason


@pytest.mark.skipif(sys.platform == "win32", reason="no sandbox there")
@pytest.mark.model
def test_the_weaker_sandbox_judges_the_same(monkeypatch, tmp_path):
    from innerloop.evaluate.verify.sandbox import Kind, sandbox

    monkeypatch.setenv("PATH", str(tmp_path))
    sandbox._fault.cache_clear()
    try:
        with Verifier(weaker_sandbox=True) as verifier:
            if verifier.sandbox().kind is None:
                pytest.skip(verifier.sandbox().reason)
            assert verifier.sandbox().kind is Kind.WEAKER
            verdicts = verifier.verify([(completion(), "    return sum(numbers)"), (completion(), "    return 1")])
    finally:
        sandbox._fault.cache_clear()
    assert [verdict.outcome for verdict in verdicts] == [RIGHT, WRONG]


@pytest.mark.model
def test_a_prompt_keeps_its_helpers(verifier):
    helper = "def twice(x):\n    return 2 * x\n\n\n" + PROMPT
    question = Question(id="h", question=helper, answer="-", verifier="code", metadata=completion().metadata)
    body = textwrap.indent("return sum(twice(n) for n in numbers) // 2", "    ")
    assert verifier.verify([(question, f"```python\n{body}\n```")])[0].outcome is RIGHT


@pytest.mark.model  # hundreds of processes
@pytest.mark.parametrize(
    ("file", "step", "faults"),
    [
        ("q_humaneval.jsonl", 4, set()),
        ("q_mbpp.jsonl", 12, {"mbpp-367"}),  # its own tests contradict its solution
    ],
)
def test_reference_solutions_pass(verifier, data_dir, file, step, faults):
    """Every ``step``-th here; benchmarks/agreement.py runs them all."""
    questions = load(str(data_dir / file))[::step]
    verdicts = verifier.verify([(question, question.answer) for question in questions])
    failed = {q.id: v for q, v in zip(questions, verdicts, strict=True) if v.outcome is not RIGHT}
    assert failed.keys() <= faults, failed
