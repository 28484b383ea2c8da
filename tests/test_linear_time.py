"""Nothing that reads a text takes longer than in proportion to its length, whatever the text says.

The shapes are made from the patterns themselves: what each of their parts matches, repeated, alone and in pairs, behind
what leads there and before what does not fit. A pattern or a reader is worse than linear where four times the text
takes much more than four times the processor's time; fixed limits alone would depend on the machine.
"""

from __future__ import annotations

import ast
import gc
import importlib
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import innerloop
from innerloop import boxed, chat, nearest, printable
from innerloop.evaluate import contamination
from innerloop.evaluate.verify import choice, code, extract, gym, literal, number, plain, quantity, values, votes
from innerloop.evaluate.verify.verifier import NAMES, Attempt, Verifier
from innerloop.inner import positions, written
from innerloop.outer.select.diverse import runs
from innerloop.questions import disjoint, mapping, oracles
from innerloop.rollout import sample
from innerloop.schema import Curve, Question
from innerloop.text_forms import nfkc

PACKAGE = Path(innerloop.__file__).parent
SHORT, LONG = 6_000, 100_000  # characters that a pattern and a reader are given
SOME = 8_000  # that a reader is given where minutes are too long
VALUE = 20_000  # characters of the longest answer that is judged
FAST, SLOW = 1e-6, 3e-4  # seconds a character: what needs no second look, and what no linear reader takes

Run = Callable[[str], object]


# Measuring


def seconds(run: Run, text: str, times: int = 1) -> float:
    """Processor time of the quickest of some runs."""
    taken = []
    gc.disable()  # how long that takes says how much the other tests left behind
    try:
        for _ in range(times):
            start = time.process_time()
            run(text)
            taken.append(time.process_time() - start)
    finally:
        gc.enable()
    return min(taken)


def is_slow(run: Run, shape: Callable[[int], str], length: int, fast: float = FAST) -> bool:
    """Whether the time grows faster than the text, or is out of all proportion to it."""
    for few in (24, 40, length // 16):  # what is far worse than quadratic would never end on the long text
        if seconds(run, shape(few)) > 0.1 + SLOW * few:
            return True
    short = seconds(run, shape(length))
    if short <= fast * length or (short := min(short, seconds(run, shape(length), 2))) <= fast * length:
        return False
    return short > SLOW * length or seconds(run, shape(4 * length)) > 8 * short


class Shape:
    """``before``, the unit as often as it fits, ``after``."""

    def __init__(self, unit: str, before: str = "", after: str = "", then: str = "") -> None:
        self.unit, self.before, self.after, self.then = unit, before, after, then

    def __call__(self, length: int) -> str:
        count = max(length // len(self.unit + self.then), 1)
        return self.before + self.unit * count + self.then * count + self.after

    def __repr__(self) -> str:
        return f"{self.before!r} + {self.unit!r} * n + {self.then!r} * n + {self.after!r}"


# From patterns to shapes


def matched(tree: Sequence[tuple[object, object]]) -> list[str]:
    """A few short texts that a part of a pattern matches, look-arounds left out."""
    found = [""]
    for operation, argument in tree:
        own = one(operation, argument)[:4]
        found = [before + after for before, after in itertools.islice(itertools.product(found, own), 6)]
    return found


def one(operation: object, argument: object) -> list[str]:
    """The same for one node."""
    if operation is sre.LITERAL:
        return [chr(argument)]
    if operation is sre.NOT_LITERAL:
        return ["a" if chr(argument) != "a" else "b"]
    if operation is sre.ANY:
        return ["a", " "]
    if operation is sre.IN:
        return members(argument)
    if operation in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
        least, _, body = argument
        return [text * max(least, 1) for text in matched(body)] or [""]
    if operation is sre.SUBPATTERN:
        return matched(argument[3])
    if operation is sre.ATOMIC_GROUP:
        return matched(argument)
    if operation is sre.BRANCH:
        return [text for branch in argument[1] for text in matched(branch)[:2]]
    return [""]


LETTERS = " \n1aA_-.,!$*\\{}()[]#<>`~\"'/^%&é\u4e00≈"


def members(argument: Sequence[tuple[object, object]]) -> list[str]:
    """Characters of a set, one of each kind."""
    pattern = _parser.SubPattern(_parser.State(), [(sre.IN, argument)])
    fits = re.compile(_source(pattern[0][1]))
    found = [letter for letter in LETTERS if fits.fullmatch(letter)]
    own = [chr(value) for kind, value in argument if kind is sre.LITERAL]
    return list(dict.fromkeys([*found[:3], *(own if argument[0][0] is not sre.NEGATE else [])]))


_CLASSES = {
    sre.CATEGORY_SPACE: r"\s",
    sre.CATEGORY_NOT_SPACE: r"\S",
    sre.CATEGORY_DIGIT: r"\d",
    sre.CATEGORY_NOT_DIGIT: r"\D",
    sre.CATEGORY_WORD: r"\w",
    sre.CATEGORY_NOT_WORD: r"\W",
}


def _source(argument: Sequence[tuple[object, object]]) -> str:
    parts = []
    for kind, value in argument:
        if kind is sre.NEGATE:
            parts.append("^")
        elif kind is sre.LITERAL:
            parts.append(re.escape(chr(value)))
        elif kind is sre.RANGE:
            parts.append(f"{re.escape(chr(value[0]))}-{re.escape(chr(value[1]))}")
        else:
            parts.append(_CLASSES[value])
    return f"[{''.join(parts)}]"


def repeats(tree: Sequence[tuple[object, object]], before: str = "") -> Iterator[tuple[str, str]]:
    """Every repeated part of a pattern: what leads to it, and what it repeats."""
    for operation, argument in tree:
        if operation in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
            yield from ((before, unit) for unit in matched(argument[2]) if unit)
            yield from repeats(argument[2], before)
        elif operation is sre.SUBPATTERN:
            yield from repeats(argument[3], before)
        elif operation is sre.ATOMIC_GROUP:
            yield from repeats(argument, before)
        elif operation is sre.BRANCH:
            for branch in argument[1]:
                yield from repeats(branch, before)
        elif operation in (sre.ASSERT, sre.ASSERT_NOT):
            yield from repeats(argument[1], before)
        before += next(iter(one(operation, argument)), "")


def units(pattern: re.Pattern[str]) -> list[str]:
    """What may be repeated to trouble a pattern: its repeated parts, what leads to them, and all that it matches."""
    tree = _parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE)
    found = [text for text in matched(tree) if text]
    for before, unit in repeats(tree):
        found += [unit, *filter(None, (before, before + unit))]
    return list(dict.fromkeys(found))


def shapes(pattern: re.Pattern[str]) -> Iterator[Shape]:
    """Texts that trouble patterns like this one."""
    tree = _parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE)
    unfit = re.findall(r"\[\^\\?([^\w\s])", pattern.pattern)[:3]  # what its sets leave out
    for before, unit in dict.fromkeys(repeats(tree)):
        yield from (Shape(unit, before, after) for after in ("", "\0", "b", "\n!", *unfit))
    own = units(pattern)[:8]
    for unit in own:
        yield from (Shape(unit, after=after) for after in ("", "\0", "b"))
    for unit, other in itertools.permutations(own, 2):
        yield Shape(unit + other)
        yield Shape(unit, then=other)


# The patterns of the package


def sources() -> list[Path]:
    return [file for file in sorted(PACKAGE.rglob("*.py")) if "import re\n" in file.read_text(encoding="utf-8")]


def patterns() -> dict[str, tuple[re.Pattern[str], Run]]:
    """All compiled patterns by MODULE.NAME, with the dearest way in which their module uses them."""
    found = {}
    for file in sources():
        module = ".".join(("innerloop", *file.relative_to(PACKAGE).with_suffix("").parts))
        text = file.read_text(encoding="utf-8")
        for name, value in vars(importlib.import_module(module.removesuffix(".__init__"))).items():
            if isinstance(value, re.Pattern) and re.search(rf"^{name}\b.*=", text, re.MULTILINE):
                uses = re.findall(rf"\b{name}\b(?:\.(\w+)|(?!\s*[=,]))", text)
                anchored = {"match", "fullmatch"}.issuperset(uses) and uses
                whole = "fullmatch" if set(uses) == {"fullmatch"} else "match"
                run = getattr(value, whole) if anchored else lambda text, own=value: sum(1 for _ in own.finditer(text))
                found[f"{module}.{name}"] = value, run
    return found


def test_patterns_are_compiled_where_they_are_found() -> None:
    """At the top of a module, where the tests below look; but for those that are put together while it runs."""
    strays = []
    for file in sources():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        top = {
            id(call) for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign) for call in ast.walk(node)
        }
        for call in ast.walk(tree):
            written = (
                isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant | ast.JoinedStr)
            )
            if written and ast.unparse(call.func).startswith("re."):
                known = ast.unparse(call.func) == "re.compile" and id(call) in top
                strays += [] if known or ast.unparse(call.func) == "re.escape" else [f"{file.name}:{call.lineno}"]
    assert strays == []
    assert len(patterns()) > 60


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (r"\s+(?:because|since)\b", "finditer"),
        (r"(?m)^\s*def\s", "finditer"),
        (r"\s*(?:<start>)?<end>", "finditer"),
        (r"(~{3,})([^`]*)$", "match"),
        (r"[A-Za-z_]\w*\s*=", "finditer"),
        (r"\d[\d,]*(?!\w)", "finditer"),
        (r"(?s)(.*?)\s*^####", "match"),
        (r"(a|b|ab)*c", "match"),
        (r"\s*(\d+)\s*([km]?)\s*", "fullmatch"),
    ],
)
def test_the_check_finds_what_is_worse_than_linear(pattern: str, method: str) -> None:
    compiled = re.compile(pattern)
    run = getattr(compiled, method)
    assert any(
        is_slow(lambda text: list(run(text) or ()) if method == "finditer" else run(text), shape, SHORT // 3)
        for shape in shapes(compiled)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", patterns())
def test_every_pattern_is_linear(name: str) -> None:
    pattern, run = patterns()[name]
    assert next((shape for shape in shapes(pattern) if is_slow(run, shape, SHORT)), None) is None


# Readers


def asked(text: str, **fields: str) -> Question:
    return Question(id="q", question=text, answer="5", **fields)


def judged(kind: str) -> Run:
    """All of judging that happens in this process, the text being an answer, a statement and a reference."""
    verifier = Verifier()
    tests = '{"tests": "assert f(1) == 2", "entry_point": "f"}'

    def run(text: str) -> None:
        own, other = asked("?", verifier=kind, metadata=tests), replace(asked("?", verifier=kind), answer=text)
        for question, said in ((own, text), (own, f"<answer>{text}</answer>"), (other, "\\boxed{5}")):
            verifier._judge(Attempt(question=question, text=said))

    return run


def curve(text: str) -> Curve:
    pieces = [text[start : start + 5] for start in range(0, len(text), 5)]
    places = tuple(range(len(pieces)))
    return Curve(
        question_id="q",
        trajectory_id="t",
        position=places,
        token_id=places,
        token=tuple(pieces),
        loss=(0.0,) * len(places),
        answer_tokens=1,
    )


def contaminated(text: str) -> None:
    text = text[: len(text) // 8]  # many places of a text that repeats itself are kept, but no more than so many
    index = contamination.Index({"q": text, "r": text + " end"})
    index.meet(text, "here")


def read_by_oracles(text: str) -> None:
    for family in oracles.FAMILIES:
        if family != "string_manipulation":  # it takes the rules of an installed package
            with suppress(ValueError):
                oracles.oracle(family).read(asked(text))


def worked(text: str) -> None:
    oracle = oracles.oracle("gsm_symbolic")
    task = oracle.read(asked("?", solution=text))
    if task is not None:
        oracle.methods["worked"](task)


KINDS = (*NAMES[:-1], "gym:countdown", "gym:game_of_life_halting")
LONGEST = dict.fromkeys(KINDS, 20_000 // 4)  # no longer answer is judged
READERS: dict[str, Run] = {
    **{kind: judged(kind) for kind in KINDS},
    "extraction": lambda text: [extract.extract_answer(text, complete=complete) for complete in (True, False)],
    "boxes": boxed.last_boxed,
    "before_box": sample.before_box,
    "thinking": lambda text: [chat.split_thinking(text, *pair, opened=True) for pair in chat.DELIMITERS],
    "template": lambda text: (chat.find_switch(text), chat.find_delimiters(text, ())),
    "plain": plain.folded,
    "numbers": number.of,
    "values": lambda text: values.read.__wrapped__(text[:VALUE]),
    "votes": lambda text: votes.answer_key.__wrapped__(text, "math", "5"),
    "letter": choice.letter,
    "unit": lambda text: (quantity.split(f"5 {text[:VALUE]}"), quantity._singular(text)),
    "literals": lambda text: (literal.final(text), literal.without_front(text)),
    "code": lambda text: (code.find(text, {"f"}, complete=False), code._defined(text), code._blocks(text)),
    "tests": lambda text: code.judge(asked("?", metadata=json.dumps({"tests": text})), "```\nx=1\n```", complete=True),
    "formulas": lambda text: gym._readings("countdown", text),
    "contamination": contaminated,
    "same questions": lambda text: disjoint.normalised(asked(text)),
    "normal form": nfkc,
    "data sets": mapping.split_hashes,
    "diverse": runs,
    "sentences": lambda text: positions.positions("sentence", text, "".join),
    "written": lambda text: (
        written.written("1.1", curve(text)),
        written.written(text[: len(text) // 2] + "!", curve(text)),
    ),
    "oracles": read_by_oracles,
    "worked": worked,
    "messages": printable.one_line,
    "names": lambda text: nearest.closest(text, ["questions", "trajectories"]),
}
NASTY = (
    *(
        " ",
        "\n",
        "\t",
        "a",
        "1",
        "1,",
        "1, ",
        "a ",
        ". ",
        "$",
        "\\$",
        "\\(",
        "\\)",
        "{",
        "}",
        "[",
        "(",
        "\\boxed{",
        "\\boxed {",
        "boxed",
    ),
    *(
        "\\text{",
        "\\frac{",
        "\\frac1",
        "<answer>",
        "</answer>",
        "<think>",
        "</think>",
        "####",
        "#### 1\n",
        "####\n",
        "```\n",
        "~~~`\n",
    ),
    *(
        "the answer is ",
        "The answer is a",
        "final answer\n",
        "answer: ",
        "**",
        "def ",
        "def f",
        "f(",
        "f(x) ==",
        ") == ",
        "[ANSWER]",
    ),
    *(
        "1 = ",
        "= ",
        "≈",
        "3 \\to ",
        "or ",
        "e\u0315\u0300",
        "\u0f73",
        "\U0001f600",
        "\ud800",
        "\x1b[",
        "\x00",
        "a = ",
        ": ",
        " = 1",
        "1+1=2 ",
    ),
)
AROUND = (
    ("", ""),
    ("The answer is a", "b"),
    ("\\boxed{", "}"),
    ("```python\n", "\n```"),
    ("<answer>", "</answer>x"),
    ("#### ", ""),
)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_every_reader_is_linear_on_what_troubles_people(name: str) -> None:
    for unit, (before, after) in zip(NASTY, itertools.cycle((*AROUND, ("", "!"))), strict=False):
        shape = Shape(unit, before, after)
        assert not is_slow(READERS[name], shape, min(SOME, LONGEST.get(name, SOME)), fast=2e-5), shape


@pytest.mark.long
@pytest.mark.parametrize("name", READERS)
def test_every_reader_is_linear(name: str) -> None:
    """On 100,000 characters of what troubles people, and on what the patterns are made of."""
    made = dict.fromkeys(unit for pattern, _ in patterns().values() for unit in units(pattern)[:6])
    longest = LONGEST.get(name, LONG)
    lengths = itertools.chain(itertools.repeat(longest, len(NASTY)), itertools.repeat(min(SHORT, longest)))
    around = itertools.cycle((*AROUND, ("", "!")))
    for unit, length, (before, after) in zip((*NASTY, *made), lengths, around, strict=False):
        shape = Shape(unit, before, after)
        assert not is_slow(READERS[name], shape, length, fast=2e-5), shape


@settings(max_examples=40)
@given(st.lists(st.sampled_from(NASTY), min_size=1, max_size=3), st.sampled_from(NASTY), st.sampled_from(AROUND))
@pytest.mark.long
def test_no_mixture_takes_longer(parts: list[str], then: str, around: tuple[str, str]) -> None:
    shape = Shape("".join(parts), *around, then=then)
    assert [name for name, run in READERS.items() if is_slow(run, shape, SHORT, fast=2e-5)] == []
