"""Benchmarks by name: where they live, how their rows are read, and how their answers are judged.

``NAME`` loads from the hub; ``NAME@FILE`` reads a local copy, in our row format or with the hub's own field names.
Competition problems stay their organisers' property whatever the licence of the collection says.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from innerloop.errors import InputError
from innerloop.questions import files, hub
from innerloop.questions.mapping import to_row
from innerloop.questions.nearest import nearest
from innerloop.questions.rows import Row, collect, scalar_text
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
    if row.get("answer") is None:
        raise InputError(
            f"{where}: LiveCodeBench ships tests but no reference answers, and an answer loss needs one; "
            "use livecodebench@FILE with a file that has the fields question and answer"
        )
    return _plain(row, where, seed)


def _level_5(row: Mapping[str, Any], where: str) -> bool:
    digits = re.search(r"\d+", scalar_text(row.get("level")) or "")
    if digits is None:
        raise InputError(f"{where}: no level, and this benchmark takes level 5 only; add the field level")
    return digits.group() == "5"


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Where a benchmark lives and how it is read. ``keep`` filters rows; ``domain`` and ``verifier`` are defaults."""

    hub: str
    split: str
    licence: str
    config: str | None = None
    domain: str = "math"
    verifier: str = "math"
    read: Reader = _plain
    keep: Callable[[Mapping[str, Any], str], bool] | None = None


BENCHMARKS: dict[str, Benchmark] = {
    "aime24": Benchmark(hub="HuggingFaceH4/aime_2024", split="train", licence="problems © MAA", read=_numbered),
    "aime25": Benchmark(hub="math-ai/aime25", split="test", licence="problems © MAA", read=_numbered),
    "math500": Benchmark(hub="HuggingFaceH4/MATH-500", split="test", licence="MIT", read=_math),
    "math500-l5": Benchmark(hub="HuggingFaceH4/MATH-500", split="test", licence="MIT", read=_math, keep=_level_5),
    "gsm8k": Benchmark(hub="openai/gsm8k", config="main", split="test", licence="MIT"),
    "livemathbench-hard": Benchmark(
        hub="opencompass/LiveMathBench", config="v202412_hard_en", split="test", licence="CC-BY-4.0"
    ),
    "gpqa-diamond": Benchmark(
        hub="Idavidrein/gpqa",
        config="gpqa_diamond",
        split="train",
        licence="CC-BY-4.0 (gated; not to be shown in plain text online)",
        domain="science",
        verifier="choice",
        read=_gpqa,
    ),
    "livecodebench": Benchmark(
        hub="livecodebench/code_generation_lite",
        split="test",
        licence="CC",
        domain="code",
        verifier="code",
        read=_livecodebench,
    ),
    "humaneval": Benchmark(
        hub="openai/openai_humaneval",
        split="test",
        licence="MIT",
        domain="code",
        verifier="code",
        read=_humaneval,
    ),
    "mbpp": Benchmark(
        hub="google-research-datasets/mbpp",
        config="full",
        split="test",
        licence="CC-BY-4.0",
        domain="code",
        verifier="code",
        read=_mbpp,
    ),
    "cruxeval": Benchmark(
        hub="cruxeval-org/cruxeval",
        split="test",
        licence="MIT",
        domain="code",
        verifier="literal",
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
        raw = files.rows(Path(file).expanduser())
    elif benchmark.read is _livecodebench:
        _livecodebench({}, source, seed)  # says why there is nothing to load, before anything is downloaded
    if not file:
        raw = hub.rows(benchmark.hub, benchmark.config, benchmark.split)
    questions = collect(_rows(benchmark, raw, seed), name if benchmark.split == "train" else f"{name}-test", limit)
    if not questions:
        raise InputError(f"{source}: holds no questions of this benchmark; check the file")
    return questions


def _rows(benchmark: Benchmark, raw: Iterator[Row], seed: int) -> Iterator[Row]:
    for where, row in raw:
        if not isinstance(row, Mapping):
            raise InputError(f"{where}: not an object but a {type(row).__name__}; write a row as an object with fields")
        result = benchmark.read(row, where, seed)
        if benchmark.keep is None or benchmark.keep(result, where):
            defaults = {"domain": benchmark.domain, "verifier": benchmark.verifier}
            yield where, result | {name: value for name, value in defaults.items() if not result.get(name)}
