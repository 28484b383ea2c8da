"""Is the update a descent step? The tables and figures of docs/alignment.md, from one command.

    python examples/alignment.py --gsm8k gsm8k_test.jsonl --samples gsm8k_test_model_trajectories.jsonl

Runs `innerloop update` on GSM8K (worked solutions, and one wrong sample per question) and on reasoning-gym's
`spell_backward` (letter by letter), each with the controls other question, shuffled tokens and filler, and on an
untrained model of the same shape. An interrupted run goes on where it was. Then it writes ``docs/images/*.svg`` and
prints the tables as Markdown. It takes about an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import innerloop
from innerloop.evaluate.alignment import AlignmentRow
from innerloop.evaluate.statistics import Interval
from innerloop.questions import load as load_questions

DOCS = Path(__file__).resolve().parents[1] / "docs"
SPELLING = "gym:spell_backward?size={size}&seed=0&min_word_len=4"
#: What both runs share.
COMMON: dict[str, Any] = {
    "controls": ("other-question", "shuffled", "filler"),
    "controls_of": "all",
    "positions": "parts:2",
    "untrained": True,
}


def wrong_samples(questions: Sequence[innerloop.Question], samples: Path, out: Path) -> Path:
    """The first wrong sample of each question, as a file of trajectories."""
    known = {question.id for question in questions}
    chosen: dict[str, dict[str, Any]] = {}
    for row in map(json.loads, samples.open()):
        if row["question_id"] in known and row["correct"] is False:
            chosen.setdefault(row["question_id"], row)
    return write_rows(out / "wrong.jsonl", chosen.values())


def spelled(questions: Sequence[innerloop.Question], out: Path) -> Path:
    """Each word read letter by letter, then backwards, as a file of trajectories."""
    rows = [
        {
            "question_id": question.id,
            "answer": question.answer,
            "text": f"The letters of the word are {', '.join(reversed(question.answer))}. "
            f"Backwards they are {', '.join(question.answer)}. Together that is {question.answer}.",
        }
        for question in questions
    ]
    return write_rows(out / "spelled.jsonl", rows)


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run_gsm8k(options: argparse.Namespace) -> innerloop.UpdateResult:
    """GSM8K: worked solutions and wrong samples."""
    source = f"gsm8k@{options.gsm8k}"
    wrong = wrong_samples(load_questions(source, limit=options.questions), options.samples, options.out)
    # Controls are made of the solutions alone; wrong samples are a control themselves.
    return innerloop.update(
        innerloop.UpdateSettings(
            **COMMON | {"controls_of": "solution"},
            questions=source,
            limit=options.questions,
            trajectories=("solutions", str(wrong)),
            threads=options.threads,
            out=options.out / "gsm8k",
        )
    )


def run_spelling(options: argparse.Namespace) -> innerloop.UpdateResult:
    """reasoning-gym's spell_backward."""
    source = SPELLING.format(size=options.words)
    file = spelled(load_questions(source), options.out)
    return innerloop.update(
        innerloop.UpdateSettings(
            **COMMON,
            questions=source,
            trajectories=(str(file),),
            threads=options.threads,
            out=options.out / "spell_backward",
        )
    )


def table(rows: Sequence[AlignmentRow], prefix: str = "") -> str:
    """Markdown: a row per kind of trajectory."""
    columns = {
        "correlation": "correlation",
        "null_correlation": "of random patches",
        "slope_origin": "slope",
        "sign_agreement": "same sign",
        "z": "z",
    }
    lines = [
        "| trajectories | points | " + " | ".join(columns.values()) + " |",
        "| --- | --: |" + " --: |" * len(columns),
    ]
    for row in rows:
        label = row.group + (", untrained model" if row.untrained else "")
        cells = [shown(getattr(row, prefix + name)) for name in columns]
        lines.append(f"| {label} | {getattr(row, prefix + 'correlation').values} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def shown(interval: Interval) -> str:
    """``0.52 [0.40, 0.63]``, or a dash."""
    if interval.mean != interval.mean:
        return "–"
    bounds = "" if interval.low != interval.low else f" [{interval.low:.2f}, {interval.high:.2f}]"
    return f"{interval.mean:.2f}{bounds}"


def losses_table(run: Path) -> str:
    """Markdown: where the losses start and end, how large the updates are, and how exact."""
    from statistics import fmean, median

    from innerloop.evaluate.groups import grouped

    store = innerloop.Run.open(run)
    labels = {name: group.label for name, group in grouped(store.trajectories()).items()}
    ends: dict[tuple[bool, str], list[innerloop.Update]] = {}
    for record in {record.id: record for record in store.updates()}.values():  # the last position of each
        ends.setdefault((record.untrained, labels[record.trajectory_id]), []).append(record)
    lines = [
        "| trajectories | n | loss at θ | at θ'ₙ | size ‖Δ‖/‖θ‖ | cos(Δ, −g) | largest residual |",
        "| --- | --: | --: | --: | --: | --: | --: |",
    ]
    for (untrained, label), records in sorted(ends.items(), key=lambda item: item[0][0]):
        cosines = [record.cosine for record in records if record.cosine is not None]
        lines.append(
            f"| {label}{', untrained model' if untrained else ''} | {len(records)} "
            f"| {fmean(r.base_loss for r in records):.2f} | {fmean(r.loss for r in records):.2f} "
            f"| {100 * median(r.relative for r in records):.1f} % | {fmean(cosines):+.4f} "
            f"| {max(r.residual for r in records):.0e} |"
        )
    return "\n".join(lines)


def figure(runs: dict[str, Path], path: Path) -> None:
    """Predicted against actual change, one panel per source, the worked trajectories and their controls."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "innerloop"  # the same data give the same file
    from matplotlib import pyplot

    from innerloop.evaluate.groups import grouped

    drawn, panels = pyplot.subplots(1, len(runs), figsize=(5.2 * len(runs), 4.6), constrained_layout=True)
    for panel, (title, run) in zip(panels, runs.items(), strict=True):
        store = innerloop.Run.open(run)
        labels = {name: group.label for name, group in grouped(store.trajectories()).items()}
        points: dict[str, list[tuple[float, float]]] = {}
        for record in store.updates():
            if record.predicted is not None and not record.untrained:
                change = record.loss - record.base_loss
                points.setdefault(labels[record.trajectory_id], []).append((record.predicted, change))
        for marker, colour, (label, own) in zip("osv^DX", _COLOURS, points.items(), strict=False):
            panel.scatter(*zip(*own, strict=True), s=14, marker=marker, color=colour, alpha=0.6, lw=0, label=label)
        reach = [value for own in points.values() for pair in own for value in pair]
        panel.plot([min(reach), max(reach)], [min(reach), max(reach)], color="grey", lw=0.8, zorder=0)
        panel.set(title=title, xlabel="predicted ⟨θ' − θ, ∇L⟩, nats", ylabel="actual change of the answer loss, nats")
        panel.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, metadata={"Date": None})


_HEADINGS = {"From θ": "", "Step by step": "step_", "Layer-causal gradient": "causal_"}
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def main() -> None:
    """Measure, then draw and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gsm8k", type=Path, required=True, help="GSM8K's test split as JSON lines")
    parser.add_argument("--samples", type=Path, required=True, help="samples on it, with question_id, text and correct")
    parser.add_argument("--questions", type=int, default=60, help="GSM8K questions")
    parser.add_argument("--words", type=int, default=40, help="words to spell")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=Path("runs/alignment"))
    parser.add_argument("--only", choices=["gsm8k", "spelling"], help="measure this part only, and draw nothing")
    options = parser.parse_args()
    if options.only:
        {"gsm8k": run_gsm8k, "spelling": run_spelling}[options.only](options)
        return
    results = {"GSM8K": run_gsm8k(options), "spell_backward": run_spelling(options)}
    figure({title: result.run for title, result in results.items()}, DOCS / "images" / "alignment.svg")
    for title, result in results.items():
        rows = [row for row in result.alignment if isinstance(row, AlignmentRow)]
        print(f"\n## {title}\n\n{losses_table(result.run)}\n")
        for heading, prefix in _HEADINGS.items():
            print(f"\n### {heading}\n\n{table(rows, prefix)}")


if __name__ == "__main__":
    main()
