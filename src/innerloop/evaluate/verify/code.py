"""Verifier ``code``: the answer is Python that passes the question's unit tests, run in a sandbox.

The question's ``metadata`` holds ``tests`` (statements), and optionally ``entry_point`` (HumanEval: the question is the
beginning of a program, the tests define ``check``, which is called with the function of that name) or ``setup``
(MBPP: statements between the answer and the tests). The model's code is a closed fenced block, the last one that
defines what the tests call; without any fence the whole text. For a question with an entry point it may be the whole
function or its body alone, with or without indentation, and may run on behind the body.

A question of LiveCodeBench holds ``public_test_cases`` and ``private_test_cases`` instead, and ``func_name`` where a
function is asked for (`innerloop.questions.livecodebench`, `Sandbox.run`): the whole program is run on each input.

Right means that the tests ran through to their end within the limits. A program that ends early, prints what it likes
or meets a limit is wrong; only a sandbox that fails leaves the item undecided. Tests are no proof, and a program that
sets out to deceive them in its own interpreter can.
"""

from __future__ import annotations

import builtins
import re
import textwrap
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from innerloop import plain_json
from innerloop.errors import InputError
from innerloop.evaluate.verify.job import CLOSED, NOT_RUN, SANDBOX, Program, Reply, Tests
from innerloop.evaluate.verify.sandbox import Choice, Ended, Limits, Sandbox, Stop, choose
from innerloop.schema import Outcome, Question, Verdict

_TAGS = re.compile(r"\[/?(?:PYTHON|BEGIN|DONE|ANSWER)\]|</?(?:answer|code)>", re.IGNORECASE)
_FENCE = re.compile(r"[ \t]*(?P<mark>`{3,}|~{3,})(?P<language>[^`]*)$")
_CALLED = re.compile(r"(?<![\w.])([A-Za-z_]\w*)\s*\(")
_BUILTIN = frozenset((*dir(builtins), "assert", "check", "candidate"))


def judge(question: Question, shown: str, *, complete: bool) -> Verdict | Program:
    """The program to run for the visible text of an answer; a verdict where there is nothing to run."""
    parts = plain_json.mapping(question.metadata)
    if any(parts.get(name) for name in ("public_test_cases", "private_test_cases")):
        return _tested(parts, shown, complete=complete)
    tests = parts.get("tests")
    if not isinstance(tests, str) or not tests.strip():
        return Verdict(outcome=Outcome.UNDECIDED, reason="the question has no unit tests (field tests)")
    entry = parts.get("entry_point")
    entry = entry if isinstance(entry, str) and entry.isidentifier() else None
    setup = str(parts.get("setup") or "")
    names = {entry} if entry else set(_CALLED.findall(f"{setup}\n{tests}")) - _BUILTIN
    code, cut = find(shown, names, complete=complete)
    if code is None:
        reason = "no code" if complete else "truncated before the code was complete"
        return Verdict(outcome=Outcome.WRONG, reason=reason)
    tail = "\n".join((setup, tests, f"check({entry})" if entry else ""))
    heads = _completed(question.question, code) if entry else [code]
    if cut is not None:  # a body that runs on: as much of it as belongs to the function
        heads += _completed(question.question, cut) if entry else [cut]
    return Program(sources=tuple(f"{head}\n\n{tail}\n" for head in dict.fromkeys(heads)), answer=code)


def _tested(parts: Mapping[str, Any], shown: str, *, complete: bool) -> Verdict | Program:
    """The whole program, to be run on inputs."""
    function = parts.get("func_name")
    tests = Tests(
        function=function if isinstance(function, str) and function.isidentifier() else None,
        public=str(parts.get("public_test_cases") or "[]"),
        private=str(parts.get("private_test_cases") or "[]"),
    )
    code, _ = find(shown, {"Solution", tests.function} if tests.function else set(), complete=complete)
    if code is None:
        reason = "no code" if complete else "truncated before the code was complete"
        return Verdict(outcome=Outcome.WRONG, reason=reason)
    return Program(sources=(code,), answer=code, tests=tests)


def find(text: str, names: set[str], *, complete: bool) -> tuple[str | None, str | None]:
    """The code in a text, and how much of it stands before the first line that is not indented where that is a body.

    Nothing where a truncated text has no closed block.
    """
    if text.startswith("\\boxed{") and text.rstrip().endswith("}"):  # an answer that is known apart
        text = text.rstrip()[len("\\boxed{") : -1]
    blocks = _blocks(_TAGS.sub("\n```\n", text))
    if blocks:
        defining = [block for block in blocks if any(_defines(block, name) for name in names)]
        return (defining or blocks)[-1], None
    text = text.strip("\n")
    lines = text.split("\n")
    ends = (number for number, line in enumerate(lines) if number and line[:1].strip() and line[0] not in ")]}")
    end = next(ends, None)
    cut = "\n".join(lines[:end]) if end and lines[0][:1].isspace() else None
    if complete:
        return (text or None), cut
    return cut, None


def _blocks(text: str) -> list[str]:
    """What stands in closed fences."""
    blocks: list[str] = []
    mark: str | None = None
    inside: list[str] = []
    for line in text.split("\n"):
        fence = _FENCE.match(line)
        if mark is None and fence is not None:
            mark, inside = fence["mark"], []
        elif mark is not None and fence is not None and fence["mark"].startswith(mark):
            if any(part.strip() for part in inside):
                blocks.append(textwrap.dedent("\n".join(inside)) if _is_whole(inside) else "\n".join(inside))
            # a fence that names a language opens the next block: the one before was never closed
            mark, inside = (fence["mark"], []) if fence["language"].strip() else (None, [])
        elif mark is not None:
            inside.append(line)
    return blocks


def _is_whole(lines: Sequence[str]) -> bool:
    """Whether a block is a program, whose common indentation says nothing, rather than a function's body."""
    first = next(line for line in lines if line.strip())
    return re.match(r"\s*(?:def|class|import|from|async|@)\b|\s*@", first) is not None


def _defines(code: str, name: str) -> bool:
    return (
        re.search(rf"^\s*(?:(?:async\s+)?def|class)\s+{re.escape(name)}\b|^{re.escape(name)}\s*=", code, re.M)
        is not None
    )


def _completed(prompt: str, code: str) -> list[str]:
    """What a program that begins with the prompt may mean, the likeliest first; the first that compiles is run."""
    return [
        prompt + code if code[:1].isspace() else f"{prompt.rstrip()}\n\n{code}",
        f"{prompt}    {code}",  # a body whose first line lost its indentation
        prompt + textwrap.indent(code, "    "),
        code,
    ]


class Programs:
    """Runs programs in the sandbox, ``count`` at a time; the sandbox is chosen when the first one comes."""

    def __init__(self, count: int, limits: Limits, *, weaker: bool) -> None:
        self.count = count
        self.limits = limits
        self.weaker = weaker
        self._choice: Choice | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._sandbox: Sandbox | None = None

    def describe(self) -> dict[str, Any]:
        """What a result of these programs depends on beside the program."""
        return {"limits": asdict(self.limits)}

    def run(self, programs: Sequence[Program]) -> list[Reply]:
        """The replies in the order of the programs. An interrupt ends what runs and passes on."""
        sandbox = self._ready()
        if sandbox is None:
            reason = CLOSED if self._closed else f"{NOT_RUN}: {self.chosen().reason}"
            return [Reply(outcome="undecided", reason=reason, keep="no") for _ in programs]
        with ThreadPoolExecutor(min(self.count, max(len(programs), 1))) as threads:
            futures = [threads.submit(self._one, sandbox, program) for program in programs]
            try:
                return [future.result() for future in futures]
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                self.close()
                raise

    def close(self) -> None:
        """Ends what runs; later programs are undecided."""
        with self._lock:
            self._closed = True
            if self._sandbox is not None:
                self._sandbox.close()

    def chosen(self) -> Choice:
        """The sandbox that was found by trying."""
        if self._choice is None:
            self._choice = choose(weaker=self.weaker)
        return self._choice

    def _ready(self) -> Sandbox | None:
        kind = self.chosen().kind
        with self._lock:
            if self._sandbox is None and kind is not None and not self._closed:
                self._sandbox = Sandbox(kind, self.limits)
            return None if self._closed else self._sandbox

    def _one(self, sandbox: Sandbox, program: Program) -> Reply:
        if program.tests is None:
            return self._reply(sandbox.run(program.sources))
        from innerloop.questions.livecodebench import cases

        parts = {"public_test_cases": program.tests.public, "private_test_cases": program.tests.private}
        kind = "stdin" if program.tests.function is None else "functional"
        try:
            tests = [(case.input, case.output) for own, case in cases(parts, "tests") if own == kind]
        except InputError as error:
            return Reply(outcome="undecided", reason=str(error), keep="no")
        if not tests:
            return Reply(outcome="undecided", reason=f"the question has no tests of kind {kind}", keep="no")
        ended = sandbox.run(program.sources, tests, function=program.tests.function)
        return self._reply(ended, all_tests=ended.error is None)

    def _reply(self, ended: Ended, *, all_tests: bool = False) -> Reply:
        if ended.finished:
            return Reply(outcome="right")
        if ended.stop is Stop.CLOSED:
            return Reply(outcome="undecided", reason=CLOSED, keep="no")
        if not ended.started:
            return Reply(outcome="undecided", reason=f"{SANDBOX}: {ended.error}", keep="no")
        if ended.stop is not None:
            limit = _over(ended.stop, self.limits)
            if all_tests and ended.stop is Stop.TIME:
                limit = f"time limit of {self.limits.total:g} s for all tests together"
            reason = f"{ended.error}: {limit}" if ended.error else limit
            return Reply(outcome="wrong", reason=reason, keep="run")
        return Reply(outcome="wrong", reason=ended.error or "failed")


def _over(stop: Stop, limits: Limits) -> str:
    return {
        Stop.TIME: f"time limit of {limits.time:g} s",
        Stop.MEMORY: f"memory limit of {limits.memory} MiB",
        Stop.PROCESSES: f"limit of {limits.processes} processes",
        Stop.FILES: f"limit of {limits.folder} MiB of files",
        Stop.OUTPUT: f"limit of {limits.output} KiB of output",
    }[stop]
