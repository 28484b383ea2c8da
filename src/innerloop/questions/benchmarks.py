"""Benchmarks by name: where they live, how their rows are read, and how their answers are judged.

``NAME`` loads from the hub; ``NAME@FILE`` reads a local copy, in our row format or with the hub's own field names.
Competition problems stay their organisers' property whatever the licence of the collection says.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from innerloop.errors import InputError, first_line
from innerloop.input_files import expanded
from innerloop.nearest import nearest
from innerloop.questions import files, hub, livecodebench
from innerloop.questions.mapping import to_row
from innerloop.questions.rows import Row, check_row, collect, scalar_text
from innerloop.schema import Question

Reader = Callable[[Mapping[str, Any], str, int], dict[str, Any]]  # row, where it stands, seed


def _plain(row: Mapping[str, Any], where: str, seed: int) -> dict[str, Any]:  # noqa: ARG001  # seed: for options
    return to_row(row, where)


def _math(row: Mapping[str, Any], where: str, seed: int) -> dict[str, Any]:
    """MATH-500's ``unique_id`` (``test/algebra/12.json``) gives the id ``math-test/algebra/12``."""
    result = _plain(row, where, seed)
    if "unique_id" in row and "id" not in row:
        result["id"] = "math-" + str(row["unique_id"]).removesuffix(".json")
    return result


def _numbered(row: Mapping[str, Any], where: str, seed: int) -> dict[str, Any]:
    """For collections whose own ids are bare numbers: they are dropped, the rows are counted instead."""
    result = _plain(row, where, seed)
    if (scalar_text(result.get("id")) or "").isdigit():
        del result["id"]
    return result


def _gpqa(row: Mapping[str, Any], where: str, seed: int) -> dict[str, Any]:
    """Four options in an order drawn from the seed and the question; the answer is a letter, the rivals the others."""
    if "Correct Answer" not in row:
        return _plain(row, where, seed)
    own = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
    options = [str(row[name]).strip() for name in own]
    question = str(row["Question"]).strip()
    order = list(range(4))
    random.Random(f"{seed}\n{question}").shuffle(order)
    listed = "\n".join(f"({letter}) {options[i]}" for letter, i in zip("ABCD", order, strict=True))
    answer = "ABCD"[order.index(0)]
    result: dict[str, Any] = {
        "question": f"{question}\n\n{listed}",
        "answer": answer,
        "solution": row.get("Explanation"),
        "candidates": [letter for letter in "ABCD" if letter != answer],
        "subdomain": row.get("Subdomain"),
    }
    return result | ({"id": f"gpqa-{row['Record ID']}"} if row.get("Record ID") else {})


def _humaneval(row: Mapping[str, Any], where: str, seed: int) -> dict[str, Any]:
    if "canonical_solution" not in row:
        return _plain(row, where, seed)
    return {
        "id": row["task_id"],
        "question": row["prompt"],
        "answer": row["canonical_solution"],
        "tests": row["test"],
        "entry_point": row["entry_point"],
    }


def _mbpp(row: Mapping[str, Any], where: str, seed: int) -> dict[str, Any]:
    """The tests belong to the question: without them nobody knows what the function is to be called."""
    if "test_list" not in row:
        return _plain(row, where, seed)
    tests = "\n".join(row["test_list"])
    return {
        "id": f"mbpp-{row['task_id']}",
        "question": f"{row.get('text') or row['prompt']}\n\nYour code should pass these tests:\n\n{tests}",
        "answer": row["code"],
        "tests": tests,
        "setup": row.get("test_setup_code") or None,
    }


def _cruxeval(row: Mapping[str, Any], where: str, seed: int) -> dict[str, Any]:
    """The prediction of outputs (CRUXEval-O)."""
    if "output" not in row or "code" not in row:
        return _plain(row, where, seed)
    return {
        "id": f"crux-{row['id']}",
        "question": (
            "You are given a Python function and an assertion with an input to the function. Give the literal that "
            f"stands for ??, the output of the code on that input.\n\n{row['code']}\nassert f({row['input']}) == ??"
        ),
        "answer": row["output"],
    }


def _livecodebench(row: Mapping[str, Any], where: str, seed: int) -> dict[str, Any]:
    """There are no reference answers: the answer stays empty, and only the tests judge."""
    return _plain(row, where, seed) if "question_content" not in row else livecodebench.read(row, where)


def _livemathbench(row: Mapping[str, Any], where: str, seed: int) -> dict[str, Any]:
    """Options, where a question has some, stand behind it; then the answer is their letter."""
    result = _plain(row, where, seed)
    options = row.get("options")
    if isinstance(options, list) and options and all(isinstance(option, str) for option in options):
        result["question"] = "\n".join([str(result["question"]), *options])
        del result["options"]
    if str(row.get("question_type")) in ("single-choice", "单选"):
        result["verifier"] = result.get("verifier") or "choice"
    return result


def _level_5(row: Mapping[str, Any], where: str) -> bool:
    digits = re.search(r"\d+", scalar_text(row.get("level")) or "")
    if digits is None:
        raise InputError(f"{where}: no level, and this benchmark takes level 5 only; add the field level")
    return digits.group() == "5"


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Where a benchmark lives and how it is read.

    ``files`` names data files of the hub's repository to be read as they are, where it has no data set that can be
    loaded. ``fields`` says which of the source's fields become ours; ``keep`` filters rows, ``only`` says so.
    ``domain``, ``verifier`` and ``prompt`` (a name of `innerloop.prompts`; None: the reader says) are defaults.
    """

    hub: str
    split: str
    licence: str
    config: str | None = None
    files: tuple[str, ...] = ()
    domain: str = "math"
    verifier: str = "math"
    prompt: str | None = "paper"
    fields: Mapping[str, str] = field(default_factory=lambda: {"question": "problem", "answer": "answer"})
    only: str | None = None
    read: Reader = _plain
    keep: Callable[[Mapping[str, Any], str], bool] | None = None

    @property
    def source(self) -> str:
        """``ID:CONFIG:SPLIT`` or ``ID:FILES``."""
        return ":".join(filter(None, (self.hub, self.config, "+".join(self.files) or self.split)))


_MATH_500 = Benchmark(
    hub="HuggingFaceH4/MATH-500",
    split="test",
    licence="MIT",
    fields={"id": "unique_id", "question": "problem", "answer": "answer", "solution": "solution", "level": "level"},
    read=_math,
)
_LIVE_MATH = Benchmark(
    hub="opencompass/LiveMathBench",
    config="v202412_hard_en",
    split="test",
    licence="CC-BY-4.0 (gated; problems © their organisers)",
    fields={"id": "the row's number", "question": "question, options", "answer": "answer"},
    read=_livemathbench,
)

BENCHMARKS: dict[str, Benchmark] = {
    "aime24": Benchmark(
        hub="HuggingFaceH4/aime_2024",
        split="train",
        licence="problems © MAA",
        fields={"id": "the row's number", "question": "problem", "answer": "answer", "solution": "solution"},
        read=_numbered,
    ),
    "aime25": Benchmark(
        hub="math-ai/aime25",
        split="test",
        licence="problems © MAA",
        fields={"id": "the row's number", "question": "problem", "answer": "answer"},
        read=_numbered,
    ),
    "math500": _MATH_500,
    "math500-l5": replace(_MATH_500, only="level 5", keep=_level_5),
    "gsm8k": Benchmark(
        hub="openai/gsm8k",
        config="main",
        split="test",
        licence="MIT",
        fields={
            "id": "the row's number",
            "question": "question",
            "answer": "answer, behind ####",
            "solution": "answer, before ####, without calculator marks",
        },
    ),
    "livemathbench-hard": _LIVE_MATH,
    "livemathbench-hard-cn": replace(_LIVE_MATH, config="v202412_hard_cn", prompt="livemathbench-cn"),
    "gpqa-diamond": Benchmark(
        hub="Idavidrein/gpqa",
        config="gpqa_diamond",
        split="train",
        licence="CC-BY-4.0 (gated; not to be shown in plain text online)",
        domain="science",
        verifier="choice",
        prompt="choice",
        fields={
            "id": "Record ID",
            "question": "Question, with the four answers as options in an order drawn from --seed",
            "answer": "the letter of Correct Answer",
            "solution": "Explanation",
            "candidates": "the other letters",
        },
        read=_gpqa,
    ),
    "livecodebench": Benchmark(
        hub="livecodebench/code_generation_lite",
        split="test",
        files=("test4.jsonl", "test5.jsonl"),
        licence="CC (problems © AtCoder, LeetCode, Codeforces)",
        domain="code",
        verifier="code",
        prompt=None,
        fields={
            "id": "question_id",
            "question": "question_content, starter_code",
            "answer": "none: only tests judge",
            "tests": "public_test_cases, private_test_cases, metadata.func_name",
            "level": "difficulty",
        },
        only="the files of releases 4 and 5, as RaML's evaluation code has it (1.8 GB)",
        read=_livecodebench,
    ),
    "humaneval": Benchmark(
        hub="openai/openai_humaneval",
        split="test",
        licence="MIT",
        domain="code",
        verifier="code",
        prompt="completion",
        fields={
            "id": "task_id",
            "question": "prompt",
            "answer": "canonical_solution",
            "tests": "test, entry_point",
        },
        read=_humaneval,
    ),
    "mbpp": Benchmark(
        hub="google-research-datasets/mbpp",
        config="full",
        split="test",
        licence="CC-BY-4.0",
        domain="code",
        verifier="code",
        prompt="function",
        fields={
            "id": "task_id",
            "question": "text, test_list",
            "answer": "code",
            "tests": "test_list, test_setup_code",
        },
        read=_mbpp,
    ),
    "cruxeval": Benchmark(
        hub="cruxeval-org/cruxeval",
        split="test",
        licence="MIT",
        domain="code",
        verifier="literal",
        prompt="literal",
        fields={"id": "id", "question": "code, input", "answer": "output"},
        read=_cruxeval,
    ),
}


def load(source: str, limit: int | None = None, seed: int = 0) -> list[Question]:
    """The questions of ``NAME`` or ``NAME@FILE``; ``seed`` orders the options of multiple-choice benchmarks."""
    name, at, file = source.partition("@")
    benchmark = BENCHMARKS.get(name)
    if benchmark is None:
        raise InputError(f"{name}: no such benchmark (known: {', '.join(BENCHMARKS)}){nearest(name, BENCHMARKS)}")
    if at and not file:
        raise InputError(f"{source}: no file after the @; write {name}@FILE, or {name} to load from the hub")
    if file:
        raw = files.rows(expanded(file))
    elif benchmark.files:
        raw = hub.file_rows(benchmark.hub, benchmark.files)
    else:
        raw = hub.rows(benchmark.hub, benchmark.config, benchmark.split)
    questions = collect(_rows(benchmark, raw, seed), name if benchmark.split == "train" else f"{name}-test", limit)
    if not questions:
        raise InputError(f"{source}: holds no questions of this benchmark; check the file")
    return questions


def _rows(benchmark: Benchmark, raw: Iterator[Row], seed: int) -> Iterator[Row]:
    defaults = {"domain": benchmark.domain, "verifier": benchmark.verifier}
    if benchmark.prompt not in (None, "paper"):  # that one is the model's instruction, which may be another
        defaults["prompt_template"] = benchmark.prompt
    for where, row in raw:
        check_row(row, where)
        try:
            result = benchmark.read(row, where, seed)
        except InputError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError) as error:  # a field is missing or no text
            said = f"no field {error}" if isinstance(error, KeyError) else first_line(error, 200)
            raise InputError(f"{where}: not a row of this benchmark ({said}); give the benchmark's own rows") from error
        if benchmark.keep is None or benchmark.keep(result, where):
            yield where, result | {name: value for name, value in defaults.items() if not result.get(name)}
