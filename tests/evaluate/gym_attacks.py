"""A program that hands code to every verifier, as answers and as question files, without any sandbox around it.

It is started by ``test_gym_attacks`` in an empty folder, and says in a line of JSON what it saw. An audit hook looks at
everything that is executed: none of it may hold the marker, which stands in all that is handed over.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from types import CodeType
from typing import Any

MARKER = "marker_of_an_attack"
CODE = f"__import__('os').system('touch {MARKER}')"
QUOTED = CODE.replace("(", "\\x28").replace(")", "\\x29")
ANSWERS = (  # {config} is the name of a class that the scorer's module has
    CODE,
    f"[{CODE}]",
    f"exec({CODE!r})",
    f"eval(compile({CODE!r}, 'a', 'eval'))",
    f"open('{MARKER}', 'w')",
    f'[[0 for {{config}}.__class_getitem__ in [exec]], {{config}}["{QUOTED}"]]',
    f"[c for c in ().__class__.__base__.__subclasses__() if c.__name__ == '{MARKER}']",
    f"(lambda: {CODE})()",
    f"Symbol.__class__.__init__.__globals__['sys'].modules['os'].system('touch {MARKER}')",
    f'sqrt(S("{CODE}"))',
    f"x + Function('{MARKER}')(x)",
    f"{{{{x.__class__.__init__.__globals__[{MARKER}]}}}}",
    f"'{{0.__class__.__{MARKER}__}}'.format(1)",
    f"f'{{{CODE}}}'",
    f"1 if {CODE} else 2",
    f"(x := {CODE})",
    f"1;{CODE}",
    f"\\text{{{CODE}}}",
    f"\\{{\\text{{{CODE}}}, 1\\}}",
    f"\\operatorname{{{MARKER}}}({CODE})",
    f"x_{{{CODE}}}",
    f"5 m; {CODE}",
    f"5 {CODE}",
    f"[{CODE}, 1] == [1]",
    f"!!python/object/apply:os.system ['touch {MARKER}']",
    f"cos\nsystem\n(S'touch {MARKER}'\ntR.",
)
DEEP = ("(" * 9_000, "[" * 9_000, "9**9**9", "-" * 9_000 + "1", "{" * 9_000, "1+" * 9_000 + "1")
SLOW = ("knight_swap", "futoshiki", "quantum_lock", "zebra_puzzles", "composite", "boxnet", "rush_hour")

seen: list[str] = []
asked = [""]


def mentions(code: Any) -> bool:
    """Whether a piece of code has the marker among its names or constants."""
    if isinstance(code, CodeType):
        return any(mentions(part) for part in (*code.co_names, *code.co_varnames, *code.co_consts))
    return MARKER in code if isinstance(code, str) else isinstance(code, tuple) and any(map(mentions, code))


def hook(event: str, arguments: tuple[Any, ...]) -> None:
    executed = event == "exec" and mentions(arguments[0])
    started = event in ("os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "socket.connect")
    written = event == "open" and MARKER in str(arguments[0])
    if executed or started or written:
        seen.append(f"{asked[0]}: {event}")


def entries(entry: Any, code: str) -> Iterator[Any]:
    """The entry with one of its texts at a time replaced by code, and once with all numbers."""

    def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        if isinstance(value, dict | list):
            for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value))[:12]:
                yield from places(inner, (*way, key))
        else:
            yield way

    for *way, last in list(places(entry))[:40]:
        changed = copy.deepcopy(entry)
        inner = changed
        for key in way:
            inner = inner[key]
        inner[last] = code
        yield changed


def main() -> None:
    """Asks every verifier, and prints what was seen."""
    from reasoning_gym.factory import DATASETS

    from innerloop.evaluate.verify import gym, literal, math, quantity
    from innerloop.evaluate.verify.job import Job
    from innerloop.evaluate.verify.worker import _run
    from innerloop.questions import load
    from innerloop.schema import Question, Verdict

    part, parts = int(sys.argv[1]), int(sys.argv[2])
    right, count = [], 0
    families = sorted(DATASETS.keys() - set(SLOW))[part::parts]
    questions = {family: load(f"gym:{family}?size=1&seed=4")[0] for family in families}
    for module in (gym, literal, math, quantity):
        module.prepare()
    sys.addaudithook(hook)

    def ask(question: Question, answer: str) -> None:
        nonlocal count
        count += 1
        asked[0] = f"{question.verifier} {answer}"
        word = gym.judge(question, answer)
        outcome = word.outcome if isinstance(word, Verdict) else _run(gym, word.payload)["outcome"]
        if outcome == "right":
            right.append(asked[0])

    def score(question: Question, record: dict[str, Any], answer: str) -> None:
        nonlocal count
        count += 1
        asked[0] = f"{question.verifier} {record} {answer}"
        word = gym.judge(replace(question, answer=CODE, metadata=json.dumps(record)), answer)
        if isinstance(word, Job):
            _run(gym, word.payload)

    for family, question in questions.items():
        record = json.loads(question.metadata or "")
        for answer in (*ANSWERS, *DEEP):
            text = answer.replace("{config}", DATASETS[family][1].__name__)
            ask(question, text)
            score(question, {}, text)
        for code in (CODE, f"['{MARKER}', {CODE}]"):
            for entry in entries(record["entry"], code):
                for answer in ("1", "['1', '2']", "x**2 + 1"):
                    score(question, record | {"entry": entry}, answer)
            for name in ("seed", "size", "data_file", "datasets", "__class__", "operators"):
                score(question, record | {"parameters": {name: code}}, "1")
    if part == 0:
        for answer in ANSWERS:
            for module, reference in ((math, "x + 1"), (math, answer + " "), (literal, "[1]"), (quantity, "10 m")):
                asked[0] = json.dumps([module.__name__, reference, answer])
                _run(module, {"reference": reference, "answer": answer})
                count += 1
    json.dump({"seen": seen[:9], "right": right[:9], "count": count}, sys.stdout)


if __name__ == "__main__":
    main()
