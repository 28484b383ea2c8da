"""Code judged by inputs and outputs, as LiveCodeBench has them: programs that read and print, and functions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from innerloop.evaluate.verify import Verifier
from innerloop.evaluate.verify.sandbox import Limits, choose
from innerloop.questions import load
from innerloop.schema import Outcome, Question
from innerloop.testing.livecodebench import row

RIGHT, WRONG, UNDECIDED = Outcome.RIGHT, Outcome.WRONG, Outcome.UNDECIDED
pytestmark = pytest.mark.model  # several process starts each

LIMITS = Limits(time=2, total=6, memory=512)


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    if choose().kind is None:
        pytest.skip(choose().reason)
    with Verifier(workers=2, code_limits=LIMITS) as verifier:
        yield verifier


@pytest.fixture
def asked(tmp_path: Path):
    def make(tests: Sequence[tuple[str, str]], function: str | None = None) -> Question:
        path = tmp_path / "q.jsonl"
        path.write_text(json.dumps(row("a", tests[:1], tests[1:], function=function)))
        return load(f"livecodebench@{path}")[0]

    return make


SUM = [("2\n1 2\n", "3\n"), ("3\n5 6 7\n", "18\n")]
READS = "n = int(input())\nprint(sum(map(int, input().split())))"


@pytest.mark.parametrize(
    "code",
    [
        READS,
        "import sys\nn, *rest = map(int, sys.stdin.read().split())\nprint(sum(rest))",
        "import sys\nlines = sys.stdin.readlines()\nsys.stdout.write(str(sum(map(int, lines[1].split()))))",
        "import sys\ndata = sys.stdin.buffer.read().split()\nprint(sum(map(int, data[1:])), '  \\n\\n')",
        "def f():\n    input()\n    print(sum(map(float, input().split())))\nif __name__ == '__main__':\n    f()",
        f"{READS}\nexit()",
        f"{READS}\nimport sys\nsys.exit(0)",
        f"{READS}\nimport os, sys\nsys.stdout.flush()\nos._exit(0)",
        "n = open(0).read().split()\nprint(reduce(lambda a, b: a + b, map(int, n[1:])))",  # the site's own imports
        "import sys\nprint('to nobody' * 10**5, file=sys.stderr)\n" + READS,
    ],
)
def test_programs_that_are_right(verifier: Verifier, asked, code: str) -> None:
    (verdict,) = verifier.verify([(asked(SUM), f"So:\n```python\n{code}\n```")])
    assert verdict.outcome is RIGHT, verdict


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("input()\nprint(3)", "test 2 of 2: '3' instead of '18'"),
        ("print('1 2')", "test 1 of 2: '1 2' instead of '3'"),
        (f"{READS}\nprint(0)", "test 1 of 2: 2 lines instead of 1"),
        ("pass", "test 1 of 2: '' instead of '3'"),
        ("print(input() + nothing)", "test 1 of 2: NameError: name 'nothing' is not defined"),
        (f"{READS}\nraise ValueError('late')", "test 1 of 2: ValueError: late"),
        ("while True: pass", "test 1 of 2: time limit of 2 s"),
        ("import time\nprint(3, flush=True)\ntime.sleep(60)", "test 1 of 2: time limit of 2 s"),
        ("while True: print('x' * 1000)", "test 1 of 2: limit of 1024 KiB of output"),
        ("x = [0] * 10**9", "test 1 of 2: memory limit of 512 MiB"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "test 1 of 2: killed by signal 9"),
        ("import os\nos._exit(3)", "test 1 of 2: ended with status 3"),
        ("print(3", "SyntaxError"),
        ("import os\nprint(os.read(3, 99))", "test 1 of 2: OSError"),
    ],
)
def test_programs_that_are_wrong(verifier: Verifier, asked, code: str, reason: str) -> None:
    (verdict,) = verifier.verify([(asked(SUM), f"```python\n{code}\n```")])
    assert verdict.outcome is WRONG
    assert (verdict.reason or "").startswith(reason), verdict


def test_one_test_knows_nothing_of_another(verifier: Verifier, asked) -> None:
    """Each runs in a process of its own: what the first left in memory is not there for the second."""
    code = "import builtins\nprint(getattr(builtins, 'seen', 0))\nbuiltins.seen = 1"
    (verdict,) = verifier.verify([(asked([("", "0"), ("", "0")]), f"```\n{code}\n```")])
    assert verdict.outcome is RIGHT, verdict


def test_the_wanted_output_is_not_in_the_programs_memory(verifier: Verifier, asked) -> None:
    code = (
        "import gc, sys\n"
        "texts = [o for o in gc.get_objects() if isinstance(o, (dict, list, tuple))]\n"
        "frames = sys._getframe(); held = []\n"
        "while frames: held += map(str, frames.f_locals.values()); frames = frames.f_back\n"
        "print('found' if any('sec' + 'ret-7' in text for text in held) else 'nothing')\n"
    )
    (verdict,) = verifier.verify([(asked([("x", "secret-7")]), f"```\n{code}\n```")])
    assert verdict.reason == "test 1 of 1: 'nothing' instead of 'secret-7'"


def test_all_tests_together_have_a_limit(verifier: Verifier, asked) -> None:
    code = "import time\ntime.sleep(1.2)\nprint(1)"
    (verdict,) = verifier.verify([(asked([("", "1")] * 20), f"```\n{code}\n```")])
    assert (verdict.outcome, verdict.reason) == (WRONG, "time limit of 6 s for all tests together")


@pytest.mark.parametrize(
    ("printed", "wanted", "right"),
    [
        ("1.0 2", "1 2.000", True),
        ("1e3", "1000", True),
        ("Yes", "yes", False),
        ("50000000000000001", "50000000000000000", False),  # too large for floats
        ("0.1", "0.10000001", False),
        ("a b", "a  b", False),  # words: as the line stands, as LiveCodeBench has it
        ("  a\nb  ", "a\n  b\n", True),
        ("a\n\nb", "a\nb", False),
        ("nan", "nan", True),
    ],
)
def test_how_outputs_are_compared(verifier: Verifier, asked, printed: str, wanted: str, right: bool) -> None:
    (verdict,) = verifier.verify([(asked([("", wanted)]), f"```\nprint({printed!r})\n```")])
    assert verdict.outcome is (RIGHT if right else WRONG), verdict


ADD = [("[1, 2]\n3", "[4, 5]"), ("[]\n1", "[]")]


@pytest.mark.parametrize(
    "code",
    [
        "class Solution:\n    def addTo(self, xs: List[int], n: int) -> List[int]:\n        return [x + n for x in xs]",
        "def addTo(xs, n):\n    return tuple(x + n for x in xs)",
        "class Solution:\n    def addTo(self, xs, n):\n        print('x' * 10**7)\n        return [x + n for x in xs]",
        "def addTo(xs, n):\n    return [x + n for x in xs]\n\nif __name__ == '__main__':\n    raise SystemExit",
    ],
)
def test_functions_that_are_right(verifier: Verifier, asked, code: str) -> None:
    (verdict,) = verifier.verify([(asked(ADD, "addTo"), f"```python\n{code}\n```\nUse: `addTo([1], 2)`")])
    assert verdict.outcome is RIGHT, verdict


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def addTo(xs, n):\n    return xs", "test 1 of 2: '[1, 2]' instead of '[4, 5]'"),
        ("def addTo(xs, n):\n    return [4, 5]", "test 2 of 2: '[4, 5]' instead of '[]'"),
        (
            "def addTo(xs):\n    return xs",
            "test 1 of 2: TypeError: addTo() takes 1 positional",
        ),
        ("def other(xs, n):\n    return xs", "test 1 of 2: KeyError"),
        ("class Solution:\n    pass", "test 1 of 2: KeyError"),
        ("def addTo(xs, n):\n    while True: pass", "test 1 of 2: time limit of 2 s"),
        ("def addTo(xs, n):\n    return 'x' * 10**7", "test 1 of 2: limit of 1024 KiB of output"),
        ("def addTo(xs, n):\n    return {1, 2}", "test 1 of 2: TypeError: Object of type set is not JSON serializable"),
        ("def addTo(xs, n):\n    raise SystemExit(0)", "test 1 of 2: SystemExit"),
        ("def addTo(xs, n):\n    import os\n    os._exit(0)", "test 1 of 2: ended before it had a result"),
        ("def addTo(xs, n):\n    return addTo(xs, n)", "test 1 of 2: "),
        ("class Any:\n    __eq__ = lambda *_: True\ndef addTo(xs, n):\n    return Any()", "test 1 of 2: TypeError"),
    ],
)
def test_functions_that_are_wrong(verifier: Verifier, asked, code: str, reason: str) -> None:
    (verdict,) = verifier.verify([(asked(ADD, "addTo"), f"```python\n{code}\n```")])
    assert verdict.outcome is WRONG
    assert (verdict.reason or "").startswith(reason), verdict


def test_a_large_input_goes_through(verifier: Verifier, asked) -> None:
    numbers = " ".join(map(str, range(400_000)))
    tests = [(numbers, str(sum(range(400_000)))), (numbers, numbers)]
    code = "text = input()\nprint(sum(map(int, text.split())))"
    (verdict,) = verifier.verify([(asked(tests[:1]), f"```\n{code}\n```")])
    assert verdict.outcome is RIGHT, verdict
    (verdict,) = verifier.verify([(asked(tests[:1]), "```\nprint(79999800000)\n```")])  # reads nothing of it
    assert verdict.outcome is RIGHT, verdict


def test_bad_tests_are_undecided(verifier: Verifier) -> None:
    metadata = json.dumps({"public_test_cases": "[]", "private_test_cases": "AAAA"})
    question = Question(id="q", question="?", answer="", verifier="code", metadata=metadata)
    (verdict,) = verifier.verify([(question, "```\npass\n```")])
    assert verdict.outcome is UNDECIDED
    assert "neither a JSON list nor compressed tests" in (verdict.reason or "")


def test_the_weaker_sandbox_judges_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked) -> None:
    from innerloop.evaluate.verify.sandbox import Kind, sandbox

    monkeypatch.setenv("PATH", str(tmp_path))
    sandbox._fault.cache_clear()
    try:
        with Verifier(weaker_sandbox=True, code_limits=LIMITS) as verifier:
            if verifier.sandbox().kind is not Kind.WEAKER:
                pytest.skip(verifier.sandbox().reason)
            question, function = asked(SUM), asked(ADD, "addTo")
            opens = "print(open('/etc/passwd').read())"
            verdicts = verifier.verify(
                [
                    (question, f"```\n{READS}\n```"),
                    (question, "```\nprint(3)\n```"),
                    (question, f"```\n{opens}\n```"),
                    (question, "```\nwhile True: pass\n```"),
                    (function, "```\ndef addTo(xs, n): return [x + n for x in xs]\n```"),
                ]
            )
    finally:
        sandbox._fault.cache_clear()
    assert [verdict.outcome for verdict in verdicts] == [RIGHT, WRONG, WRONG, WRONG, RIGHT], verdicts
    assert "PermissionError" in (verdicts[2].reason or "")
