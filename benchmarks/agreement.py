"""How often the verifier says what somebody else recorded, source by source.

    python benchmarks/agreement.py                    # every source, up to 400 rows of each
    python benchmarks/agreement.py --rows 0           # all rows
    python benchmarks/agreement.py --only amc --list  # the disagreements of one source, one by one
    python benchmarks/agreement.py --weaker-sandbox   # code where there is no bubblewrap

``agree`` is the share among those decided here. ``lost`` counts answers that were recorded as right and are not right
here, ``gained`` the other way round; which side is at fault, one must look (``--list``). Sources with a recorded final
answer are judged by that answer, the others by what is found in their texts. Reference solutions of code count as
recorded right. ``left out`` are rows without a recorded verdict or whose question is not among ours. No source is used
that has no verdict of an answer (step labels, missing premises).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from innerloop.evaluate.verify import Attempt, Verifier
from innerloop.questions import load
from innerloop.schema import Outcome, Question, Verdict
from measure import DATA, log, show

Row = Mapping[str, Any]


def _tagged(row: Row) -> str:
    return f"<answer>{row.get('answer') or ''}</answer>"


def _boxed(row: Row) -> str:
    return f"\\boxed{{{row.get('answer') or ''}}}"


def _text(row: Row) -> str:
    return row["text"]


def _final(row: Row) -> str:
    return row.get("final") or ""


MATH = ("q_math500.jsonl", "q_math_l5.jsonl", "q_extra.jsonl")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file with recorded verdicts, its questions, and what of a row is judged."""

    file: str
    questions: tuple[str, ...]
    shown: Callable[[Row], str]
    note: str = ""


SOURCES = {
    "gsm8k-gpt3": Source(file="gsm8k_test_model_trajectories.jsonl", questions=("gsm8k_test.jsonl",), shown=_boxed),
    "gsm8k-long": Source(file="gsm8k_test_long_cot.jsonl", questions=("gsm8k_test.jsonl",), shown=_final),
    "math-qwen": Source(file="t_math100_qwen_n8.jsonl", questions=MATH, shown=_text),
    "math-52": Source(file="t_mip_math52.jsonl", questions=MATH, shown=_final),
    "math-r1": Source(file="t_r1_math500_small.jsonl", questions=MATH, shown=_final),
    "math-l5": Source(file="t_zeroeval_math_l5.jsonl", questions=MATH, shown=_boxed),
    "math-r1-llama": Source(
        file="math_r1_llama8b_trajectories.jsonl", questions=("math_r1_questions.jsonl",), shown=_boxed
    ),
    "amc": Source(file="t_llama3b_rl400_amc23_n16.jsonl", questions=("q_amc23.jsonl",), shown=_tagged),
    "amc-n50": Source(file="scores_llama3b_rl400_amc23_n50.jsonl", questions=("q_amc23.jsonl",), shown=_tagged),
    "orz": Source(
        file="t_orz_ppo_dynamics.jsonl",
        questions=("q_atc.jsonl", "q_orz57k_first2048.jsonl", "q_extra.jsonl", *MATH[:2]),
        shown=_text,
    ),
    "gym": Source(file="t_gym_qwen3b_rl_n3.jsonl", questions=("q_gym_families.jsonl",), shown=_tagged),
    "cruxeval": Source(file="t_zeroeval_crux.jsonl", questions=("q_cruxeval.jsonl",), shown=_tagged),
    "minerva": Source(file="q_minerva.jsonl", questions=("q_minerva.jsonl",), shown=_boxed, note="references"),
    "humaneval": Source(file="q_humaneval.jsonl", questions=("q_humaneval.jsonl",), shown=_text, note="references"),
    "mbpp": Source(file="q_mbpp.jsonl", questions=("q_mbpp.jsonl",), shown=_text, note="references"),
}


def cases(source: Source, most: int) -> tuple[list[tuple[Question, str, bool]], int]:
    """Question, text and recorded verdict per row, and how many rows were left out. ``most`` rows, evenly spread."""
    questions = {question.id: question for file in source.questions for question in load(str(DATA / file))}
    found, left_out = [], 0
    for row in _rows(source, questions):
        question = questions.get(row["question_id"])
        if question is None or row.get("correct") is None:
            left_out += 1
        else:
            found.append((question, source.shown(row), bool(row["correct"])))
    step = max(len(found) / most, 1) if most else 1
    return [found[int(i * step)] for i in range(int(len(found) / step))], left_out


def _rows(source: Source, questions: Mapping[str, Question]) -> Iterator[Row]:
    if source.note == "references":
        for question in questions.values():
            yield {"question_id": question.id, "text": question.answer, "answer": question.answer, "correct": True}
        return
    with (DATA / source.file).open() as lines:
        yield from map(json.loads, lines)


@dataclass
class Tally:
    """Counts of one source."""

    agree: int = 0
    lost: int = 0
    gained: int = 0
    undecided: int = 0
    seconds: float = 0.0

    def add(self, recorded: bool, verdict: Verdict) -> bool:
        """Whether both say the same; an undecided item is neither."""
        if verdict.outcome is Outcome.UNDECIDED:
            self.undecided += 1
        elif (verdict.outcome is Outcome.RIGHT) == recorded:
            self.agree += 1
        elif recorded:
            self.lost += 1
        else:
            self.gained += 1
        return verdict.outcome is not Outcome.UNDECIDED and (verdict.outcome is Outcome.RIGHT) == recorded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400, help="most rows per source, 0 for all (default 400)")
    parser.add_argument("--only", nargs="*", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--workers", type=int, default=max((os.cpu_count() or 2) // 2, 1))
    parser.add_argument("--weaker-sandbox", action="store_true")
    parser.add_argument("--list", action="store_true", help="the disagreements, one a line, as JSON")
    parser.add_argument("--out", type=Path, help="the table as JSON")
    settings = parser.parse_args()
    if not DATA.exists():
        sys.exit(f"no data at {DATA}: set INNERLOOP_DATA to the folder that holds it")
    table, records = [], {}
    with Verifier(workers=settings.workers, weaker_sandbox=settings.weaker_sandbox) as verifier:
        log(verifier.sandbox().describe())
        for name in settings.only:
            items, left_out = cases(SOURCES[name], settings.rows)
            tally, reasons = Tally(), Counter[str]()
            start = time.perf_counter()
            verdicts = verifier.verify([Attempt(question=question, text=text) for question, text, _ in items])
            tally.seconds = time.perf_counter() - start
            for (question, _, recorded), verdict in zip(items, verdicts, strict=True):
                if not tally.add(recorded, verdict):
                    reasons[verdict.reason or "-"] += 1
                    if settings.list:
                        print(json.dumps(_case(name, question, recorded, verdict), ensure_ascii=False))
            decided = len(items) - tally.undecided
            share = f"{100 * tally.agree / decided:.2f} %" if decided else "-"
            cells = (len(items), share, tally.lost, tally.gained, tally.undecided, left_out, f"{tally.seconds:.1f}")
            table.append([name, *map(str, cells)])
            records[name] = {"rows": len(items), "left_out": left_out, **vars(tally), "reasons": dict(reasons)}
            log(f"{name}: {share} of {len(items)}")
    columns = ["source", "rows", "agree", "lost", "gained", "undecided", "left out", "seconds"]
    show(
        "Agreement with recorded verdicts", columns, table, "lost: recorded right, not right here; gained: the reverse"
    )
    if settings.out is not None:
        settings.out.write_text(json.dumps(records, indent=1) + "\n")


def _case(name: str, question: Question, recorded: bool, verdict: Verdict) -> dict[str, Any]:
    return {
        "source": name,
        "question": question.id,
        "recorded": recorded,
        "here": verdict.outcome,
        "reason": verdict.reason,
        "reference": question.answer[:200],
        "answer": (verdict.answer or "")[:200],
    }


if __name__ == "__main__":
    main()
