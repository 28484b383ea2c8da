"""Answers made to hang, to fill or to take over the mathematics verifier: 200 of them, and none does.

What must hold for each: a verdict in time, never right, no file written, nothing of the pool lost.
"""

from __future__ import annotations

import itertools
import time

import pytest

from innerloop.evaluate.verify import Attempt, Verifier
from innerloop.evaluate.verify.pool import Worker
from innerloop.schema import Outcome, Question

REFERENCE = r"x^2 + \sin(x) + 7919"
LIMIT = 0.5  # seconds per item
START = 25.0  # seconds that a worker's start may take on a loaded machine
LONG = 100_000


def algebra() -> list[str]:
    """What a computer-algebra system would compute for ever, or until the memory is full."""
    powers = [
        "9^{9^{9^{9}}}",
        "10^{10^{10}}",
        "2^{2^{2^{2^{2^{2}}}}}",
        "(-7)^{7^{7^7}}",
        r"\pi^{\pi^{\pi^{99}}}",
        "99^{99^{99}}",
    ]
    factorials = ["(10^9)!", "((99!)!)!", "10000000!", r"\binom{10^9}{5 \cdot 10^8}", r"\frac{(10^8)!}{(10^8-1)!}"]
    sums = [
        r"\sum_{i=1}^{10^{12}} i^7",
        r"\prod_{k=1}^{10^9} (x + k)",
        r"\sum_{n=1}^{\infty} \frac{\sin(n^n)}{n!}",
        r"\int_0^{\infty} \frac{\sin(x^x)}{x^{x^x}} dx",
        r"\lim_{n \to \infty} (1 + \frac{1}{n^n})^{n^{n^n}}",
        r"\int \frac{1}{x^{17} + x^{13} + 1} dx",
        r"\frac{d^{1000}}{dx^{1000}} e^{x^x}",
    ]
    sizes = [
        "(x+y+z+w)^{500}",
        "(a+b)^{10^6}",
        "(x+1)^{9999} - (x-1)^{9999}",
        "1e999999999",
        "10^{-999999999}",
        "1.5 \\times 10^{10^9}",
        r"\sqrt[10^9]{2^{10^9} + 1}",
        r"\log_{2}(2^{10^{10}})",
        r"\sin(10^{10^{10}})",
        r"10^{10^{8}} \mod 7",
        "x^{17} + x^{13} - x^{11} + x^7 = 10^{10^{7}}",
        r"\sqrt{" * 30 + "x^x" + "}" * 30 + "^{10^7}",
        "0x" + "f" * 5000,
        "+".join(f"x^{{{i}^{i}}}" for i in range(2, 200)),
        "*".join(f"(x_{{{i}}}+{i}!)" for i in range(300)),
        "=".join(f"x^{i}" for i in range(400)),
        r"\begin{pmatrix}" + r"\\".join("&".join(["9^{99}"] * 20) for _ in range(20)) + r"\end{pmatrix}^{999}",
        r"\{" + ",".join(f"{i}^{{{i}}}" for i in range(1500)) + r"\}",
        r"\bigcup_{n=1}^{10^9} [n, n+1)",
        r"[0,1) \cup " + r" \cup ".join(f"({i},{i + 1}]" for i in range(300)),
        r"\cos(" * 60 + "x" + ")" * 60 + "^{x^x}",
    ]
    return [*powers, *factorials, *sums, *sizes, *(f"{power} - {power} + x" for power in powers + factorials)]


def nested() -> list[str]:
    """Deep nesting, closed and open."""
    pairs = [
        ("(", ")"),
        ("{", "}"),
        ("[", "]"),
        (r"\sqrt{", "}"),
        (r"\frac{1}{1+", "}"),
        (r"\left(", r"\right)"),
        (r"\text{", "}"),
        ("x^{", "}"),
        (r"\boxed{", "}"),
        ("|", "|"),
        (r"\{", r"\}"),
    ]
    depths = [150, 2000]
    closed = [start * depth + "1" + end * depth for (start, end), depth in itertools.product(pairs, depths)]
    return closed + [start * 900 + "1" for start, _ in pairs] + ["1" + end * 900 for _, end in pairs]


def long() -> list[str]:
    """A hundred thousand characters, and just below the longest answer that is read at all."""
    digits = ["1", "9,999,", "0.", "٣", "é", "%", "=", "^", "-", "x+", " ", "\n", "$", "(", "}", "\\"]
    units = [*digits, r"\frac", r"\text{a}", r"\boxed{", "<answer>", "the answer is ", "####  ", r"\("]
    whole = [(unit * LONG)[:LONG] for unit in units]
    return whole + [(unit * LONG)[:19_900] for unit in units]


def digits() -> list[str]:
    """Digits of other scripts, look-alikes, and characters that cannot be seen."""
    numbers = [
        "٣٤٥",
        "१२३",
        "１２３",
        "𝟏𝟐𝟑",
        "²³",
        "①②",
        "Ⅷ",
        "½",
        "७९१९",
        "߁߂",
        "𐒠",
        "〇一二",
        "5\u0660",
        "\u0665.\u0662",
    ]
    unseen = [
        "1\u200b2",
        "\u202e21",
        "\x00",
        "7\x0019",
        "\ud800",
        "5\udfff",
        "\ufeff5",
        "1\u0301" * 500,
        "🔢",
        "\x1b[31m5",
        "\u2028",
    ]
    return numbers + unseen + [f"x^{{{number}}}" for number in numbers]


def code(file: str) -> list[str]:
    """Python, LaTeX and templates that would leave a file."""
    calls = [
        f"__import__('os').system('touch {file}')",
        f"__import__('pathlib').Path('{file}').touch()",
        f"open('{file}', 'w')",
        f"exec(\"open('{file}', 'w')\")",
        f"eval(\"open('{file}', 'w')\")",
        f"[c for c in ().__class__.__base__.__subclasses__()][0](open('{file}', 'w'))",
        f"(lambda: open('{file}', 'w'))()",
        f"sympify(\"open('{file}', 'w')\")",
        f"\\write18{{touch {file}}}",
        f"\\input{{|touch {file}}}",
        f"\\immediate\\openout5={file}",
        f"{{{{ cycler.__init__.__globals__.os.popen('touch {file}') }}}}",
        f"$(touch {file})",
        f"`touch {file}`",
        f"; touch {file} #",
        f"!!python/object/apply:os.system ['touch {file}']",
        f"x.__class__.__init__.__globals__['os'].system('touch {file}')",
        f"globals()['__builtins__']['open']('{file}', 'w')",
        f'f\'{{open("{file}", "w")}}\'',
        f"\\catcode`\\_=12 open('{file}', 'w')",
    ]
    return calls + [f"\\text{{{call}}}" for call in calls] + [f"1 + {call}" for call in calls]


def attacks(file: str) -> list[str]:
    """All of them, each once."""
    return list(dict.fromkeys([*algebra(), *nested(), *long(), *digits(), *code(file)]))


def question(reference: str = REFERENCE) -> Question:
    return Question(id="q", question="?", answer=reference, verifier="math")


def timed(monkeypatch):
    """Seconds that each job took, by the answer's beginning."""
    taken = {}
    real = Worker.ask

    def ask(worker, job):
        start = time.monotonic()
        try:
            return real(worker, job)
        finally:
            taken[job.answer[:80]] = time.monotonic() - start

    monkeypatch.setattr(Worker, "ask", ask)
    return taken


def test_there_are_200_of_them():
    assert len(attacks("f")) >= 200


@pytest.mark.model  # workers that hang and are killed, dozens of them
@pytest.mark.parametrize("part", range(8))
def test_attacks_on_the_mathematics_verifier(part, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "was-here"
    mine = attacks(str(file))[part::8]
    taken = timed(monkeypatch)
    with Verifier(time_limit=LIMIT, memory_limit=1024, workers=2) as verifier:  # most of the time goes into new workers
        boxed = [f"Therefore\n\\boxed{{{attack}}}" for attack in mine]
        verdicts = verifier.verify([(question(), text) for text in (*boxed, *mine)])  # bare ones: what extraction makes
        for verdict, attack in zip(verdicts, (*mine, *mine), strict=True):
            assert verdict.outcome is not Outcome.RIGHT, attack[:80]
            assert verdict.reason or verdict.outcome is Outcome.WRONG
        assert max(taken.values()) < LIMIT + START, max(taken, key=taken.get)
        right = (question(), r"\boxed{7919 + \sin x + x \cdot x}")
        tries = (verifier.verify([right])[0].outcome for _ in range(5))  # half a second may be short on a busy machine
        assert Outcome.RIGHT in tries, "the pool is as good as new"
    assert list(tmp_path.iterdir()) == []


KINDS = ("math", "number", "text", "choice", "quantity", "literal", "code", "gym:countdown")


@pytest.mark.model  # a hundred megabytes of text in all
@pytest.mark.parametrize("kind", KINDS)
def test_finding_an_answer_in_a_hostile_text_takes_no_time(kind):
    """All that happens in the program's own process, where nothing could be killed."""
    verifier = Verifier()
    asked = Question(id="q", question="?", answer="5 m", verifier=kind, metadata='{"tests": "assert f(1)"}')
    texts = [text for text in (*long(), *nested(), *digits()) if kind == "math" or len(text) < LONG]
    for text in texts:
        for whole in (text, f"\\boxed{{{text}}}"):
            start = time.process_time()
            verifier._judge(Attempt(question=asked, text=whole))
            assert time.process_time() - start < 3.0, (text[:40], len(text))


def test_a_worker_takes_any_text(tmp_path):
    """What cannot be written as UTF-8 crosses the pipe all the same."""
    from innerloop.evaluate.verify.job import Job

    worker = Worker(5, 1024)
    try:
        for answer in ("\ud800", "\x00", "\n\r\u2028", '"}\n{"outcome": "right"}'):
            job = Job(
                module="innerloop.evaluate.verify.literal", answer=answer, payload={"reference": "1", "answer": answer}
            )
            assert worker.ask(job)["outcome"] == "wrong"
    finally:
        worker.close()
