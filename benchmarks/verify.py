"""How fast mathematical answers are verified, beside calling math-verify in one process.

    python benchmarks/verify.py                       # 10,000 answers
    python benchmarks/verify.py --count 500 --workers 1 --distinct
    python benchmarks/verify.py --gym 2000            # answers to reasoning-gym's questions

Real answers of models to GSM8K, MATH and AMC questions, each beside its reference, as they were recorded, repeats
included; where they are too few, answers beside another question's reference (drawn from a seed). Both get the answer
in a box. math-verify is called as its own documentation has it, gold first, with its default time limits, in this
process. Ours runs with one and with several workers, judging repeats once, and once more with all replies kept; with
``--distinct`` there are no repeats. The methods take turns chunk by chunk, because the speed of shared machines drifts;
workers are started before the clock.
With ``--gym`` the answers are to questions of reasoning-gym, half of them another question's: of families whose scorers
evaluate text, which need the sandbox, and of others. One worker judges them in the sandbox, with its start and without,
and one outside of any sandbox, which leaves undecided what needs one.

``other`` counts the answers on which a method's verdict is not math-verify's (ours refuses a few of its readings, see
``evaluate/verify/math.py``).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence

from innerloop.evaluate.verify import Verifier
from innerloop.questions import load
from innerloop.schema import Outcome, Question
from measure import DATA, log, show, spread

SOURCES = {  # files of answers → files of questions
    "gsm8k_test_model_trajectories.jsonl": ("gsm8k_test.jsonl",),
    "gsm8k_test_long_cot.jsonl": ("gsm8k_test.jsonl",),
    "t_math100_qwen_n8.jsonl": ("q_math500.jsonl", "q_math_l5.jsonl", "q_extra.jsonl"),
    "t_zeroeval_math_l5.jsonl": ("q_math_l5.jsonl", "q_extra.jsonl"),
    "scores_llama3b_rl400_amc23_n50.jsonl": ("q_amc23.jsonl",),
}
FAMILIES = {
    "scorers that evaluate": ("countdown", "number_sorting", "polynomial_multiplication", "simple_integration"),
    "other scorers": ("n_queens", "prime_factorization", "gsm_symbolic", "propositional_logic"),
}
Case = tuple[Question, str]


def cases(count: int, seed: int, *, distinct: bool) -> list[Case]:
    """Questions with the texts of answers, in random order; ``distinct`` takes each reference and answer once."""
    found: list[Case] = []
    for file, sources in SOURCES.items():
        questions = {question.id: question for source in sources for question in load(str(DATA / source))}
        with (DATA / file).open() as lines:
            rows = map(json.loads, lines)
            found += [
                (questions[row["question_id"]], f"\\boxed{{{row['answer']}}}")
                for row in rows
                if row["question_id"] in questions and row.get("answer")
            ]
    draw = random.Random(seed)
    real = list(found)
    while len(found) < count or distinct:
        found += [(draw.choice(real)[0], draw.choice(real)[1]) for _ in range(count)]
        if distinct:
            found = list({(question.answer, text): (question, text) for question, text in found}.values())
            if len(found) >= count:
                break
    draw.shuffle(found)
    return found[:count]


def gym_cases(families: Sequence[str], count: int, seed: int) -> list[Case]:
    """Every other answer is right; dollars keep it from being the reference's text, which needs no scorer."""
    size = -(-count // (2 * len(families)))
    found: list[Case] = []
    for family in families:
        questions = load(f"gym:{family}?size={size}&seed={seed}")
        answers = [question.answer for question in questions]
        shifted = answers[1:] + answers[:1]
        for pair in (answers, shifted):
            found += [(q, f"<answer>${a}$</answer>") for q, a in zip(questions, pair, strict=True)]
    random.Random(seed).shuffle(found)
    return found[:count]


def gym(count: int, chunk: int, seed: int) -> None:
    """The table of reasoning-gym's answers."""
    from innerloop.evaluate.verify.pool import Pool
    from innerloop.evaluate.verify.sandbox import Choice

    table = []
    for name, families in FAMILIES.items():
        items = gym_cases(families, count, seed)
        with Verifier() as inside, Verifier() as plain:
            plain._pool = Pool(1, 10.0, 4096, lambda: Choice(kind=None, reason="none in this row"))
            began = time.perf_counter()
            inside.verify(items[:1])
            start = time.perf_counter() - began
            plain.verify(items[:1])
            for where, verifier in (("sandbox", inside), ("no sandbox", plain)):
                times, undecided = [], 0
                for first in range(1, len(items), chunk):
                    part = items[first : first + chunk]
                    began = time.perf_counter()
                    verdicts = verifier.verify(part)
                    times.append(1e3 * (time.perf_counter() - began) / len(part))
                    undecided += sum(verdict.outcome is Outcome.UNDECIDED for verdict in verdicts)
                first_one = f"{start:.1f}" if verifier is inside else ""
                table.append([name, where, spread(times, 2), first_one, str(undecided)])
    show(f"{count} answers each", ["families", "where", "ms per answer", "start (s)", "undecided"], table)


def one_process(items: Sequence[Case]) -> list[bool]:
    """math-verify alone; what it raises or gives up on is not right."""
    from math_verify import parse, verify

    found = []
    for question, text in items:
        try:
            found.append(bool(verify(parse(f"\\boxed{{{question.answer}}}"), parse(text))))
        except Exception:  # noqa: BLE001  # its time-outs, and sympy's errors
            found.append(False)
    return found


def ours(verifier: Verifier) -> Callable[[Sequence[Case]], list[bool]]:
    """The verifier, with its workers started."""
    algebra = Question(id="warm", question="?", answer="x + y")
    verifier.verify([(algebra, f"\\boxed{{y + {i}}}") for i in range(20)])
    return lambda items: [verdict.outcome is Outcome.RIGHT for verdict in verifier.verify(items)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--chunk", type=int, default=500)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gym", type=int, default=0, metavar="COUNT", help="only reasoning-gym's answers")
    parser.add_argument("--distinct", action="store_true", help="no answer to the same reference twice")
    settings = parser.parse_args()
    if settings.gym:
        gym(settings.gym, settings.chunk, settings.seed)
        return
    if not (DATA / "gsm8k_test.jsonl").exists():
        sys.exit(f"no data at {DATA}: set INNERLOOP_DATA to the folder that holds it")
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    items = cases(settings.count, settings.seed, distinct=settings.distinct)
    distinct = len({(question.answer, text) for question, text in items})
    log(f"{len(items)} answers, {distinct} of them different")
    many = f"ours, {settings.workers} workers"
    names = [
        "math-verify, one process",
        "ours, one worker",
        *([many] if settings.workers > 1 else []),
        "ours, all kept",
    ]
    times: dict[str, list[float]] = {name: [] for name in names}
    other = dict.fromkeys(names, 0)
    with Verifier() as single, Verifier(workers=settings.workers) as several:
        methods = {names[0]: one_process, names[1]: ours(single), many: ours(several), "ours, all kept": ours(single)}
        one_process(items[:20])
        for start in range(0, len(items), settings.chunk):
            chunk = items[start : start + settings.chunk]
            verdicts: dict[str, list[bool]] = {}
            for name in names:  # all kept comes last: the one worker has just seen them
                begin = time.perf_counter()
                verdicts[name] = methods[name](chunk)
                times[name].append((time.perf_counter() - begin) / len(chunk))
                other[name] += sum(a != b for a, b in zip(verdicts[name], verdicts[names[0]], strict=True))
            log(f"{start + len(chunk)} of {len(items)}")
    table = []
    for name in names:
        ratios = [base / own for base, own in zip(times[names[0]], times[name], strict=True)]
        rate = 1 / statistics.fmean(times[name])
        milliseconds = [1e3 * value for value in times[name]]
        table.append([name, f"{rate:.0f}", spread(milliseconds, 2), spread(ratios, 2), str(other[name])])
    columns = ["method", "answers / s", "ms per answer", "times as fast", "other"]
    show(f"{len(items)} answers ({distinct} different), chunks of {settings.chunk}", columns, table)


if __name__ == "__main__":
    main()
