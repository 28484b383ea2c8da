"""``eval``: score samples with intervals, sample them first where there are none, compare several sets of them."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from innerloop.errors import InputError
from innerloop.ids import prefixes
from innerloop.schema import Question, Score, Trajectory
from innerloop.spreadsheet import write_csv
from innerloop.store import Run, write_file
from innerloop.verbs.benchmark_list import BenchmarkList, benchmark_list
from innerloop.verbs.contamination import Contamination, contamination
from innerloop.verbs.judging import sandbox_for
from innerloop.verbs.rollout import RolloutResult, RolloutSettings, rollout
from innerloop.verbs.scoring import (
    Disagreement,
    Known,
    Samples,
    as_recorded,
    disagreements,
    judge,
    read,
    short_name,
    split,
    together,
)
from innerloop.verbs.shared import (
    QUESTION_SOURCES,
    about,
    at_least,
    configuration,
    extent_fields,
    free_fields,
    out_folder,
)

if TYPE_CHECKING:
    from innerloop.evaluate.compare import Difference
    from innerloop.evaluate.summary import Row


def _numbers(kind: type) -> Any:
    """Reads ``1,8,32`` as well as a repeated option."""

    def convert(_: object, tokens: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(kind(part) for token in tokens for part in token.value.split(",") if part.strip())

    return Parameter(converter=convert, n_tokens=1)


@dataclass(frozen=True, kw_only=True)
class EvalSettings(RolloutSettings):
    """What to score. Without trajectories the model is put to the questions first, as ``rollout`` does."""

    questions: tuple[str, ...] = field(  # type: ignore[assignment]  # several, where one samples
        default=(), metadata=about(f"{QUESTION_SOURCES}; several are scored together and apart.")
    )
    samples: Annotated[int, Parameter(name=("--n", "--samples"))] = field(
        default=8,
        metadata=about("Samples per question to draw where no trajectories are given.", extent=True),
    )
    trajectories: tuple[str, ...] = field(
        default=(), metadata=about("Score these samples: FILEs (question_id, correct, answer, text …) or RUN folders.")
    )
    compare: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "Compare these with the first of them: FILEs or RUN folders; a single one is split by model or mode."
        ),
    )
    reference: str | None = field(
        default=None, metadata=about("With what --compare compares: a name it shows; by default the first.", free=True)
    )
    verdicts: Literal["keep", "redo", "compare"] = field(
        default="keep",
        metadata=about("keep those recorded and judge the rest; redo all; or compare ours with the recorded ones."),
    )
    k: Annotated[tuple[int, ...], _numbers(int)] = field(
        default=(), metadata=about("Of how many samples, e.g. 1,8,32; by default 1 and all.", free=True)
    )
    tau: Annotated[tuple[float, ...], _numbers(float)] = field(
        default=(0.5, 0.75, 1.0), metadata=about("Shares that G-Pass@k asks for, e.g. 0.5,1.", free=True)
    )
    trained_on: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "Domains that the model was trained on, e.g. math: adds averages over the benchmarks within these domains "
            "and over all others.",
            free=True,
        ),
    )
    contamination: str | None = field(
        default=None,
        metadata=about(
            "Look for the questions in this training data (FILE.jsonl|.csv|.parquet|.txt or a source of questions); "
            "with --trajectories or --compare contaminated and clean questions are scored apart."
        ),
    )
    ngram: int | None = field(
        default=None,
        metadata=about("Words in a row that make a question contaminated; by default 13, for short questions 8 or so."),
    )
    list: bool = field(
        default=False, metadata=about("Show the benchmarks and prompts that are known by name.", free=True)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for k in self.k:
            at_least("k", k, 1)
        for tau in self.tau:
            if not 0 <= tau <= 1:
                raise InputError(f"--tau {tau:g}: must lie between 0 and 1")
        at_least("ngram", self.ngram, 1)
        if self.ngram is not None and self.contamination is None:
            raise InputError("--ngram: say with --contamination what to compare the questions with")
        if self.contamination is not None and not self.questions:
            raise InputError("--contamination needs --questions: the benchmarks to look for")
        if self.trajectories and self.compare:
            raise InputError("--trajectories and --compare: give one of them; --compare scores its sources too")


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Our verdicts beside the recorded ones."""

    compared: int
    disagreements: tuple[Disagreement, ...]


@dataclass(frozen=True, kw_only=True)
class EvalResult:
    """Scores as fractions with intervals; ``differences`` only where series were compared.

    ``sandbox`` says what code ran in, where there was code to judge; ``cached_verdicts`` were known from equal answers.
    """

    run: Path
    questions: int
    samples: int
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    agreement: Agreement | None
    files: tuple[Path, ...]
    sandbox: str | None
    cached_verdicts: int
    contamination: Contamination | None = None


def eval(settings: EvalSettings, *, command: Sequence[str] | None = None) -> EvalResult | BenchmarkList | Contamination:
    """Score samples into a run folder: metrics with intervals, tables as files; goes on where an earlier run ended.

    Raises `InputError` for unusable input; ``command`` is what the manifest records as the command line.
    """
    if settings.list:
        return benchmark_list(settings.trained_on)
    if not (settings.questions or settings.trajectories or settings.compare):
        raise InputError("nothing to score: give --trajectories, --compare, or --questions to put to the model")
    from innerloop.evaluate.measures import check_ks

    out = out_folder("eval", settings)
    known = Known()
    sampled: list[RolloutResult] = []
    if settings.trajectories or settings.compare or settings.contamination is not None:
        from innerloop.questions import load

        for source in settings.questions:
            known.add(load(source, seed=settings.seed, clean=settings.clean), short_name(source))
    overlap = None
    if settings.contamination is not None:
        overlap = contamination(
            settings.contamination,
            _looked_for(settings, known),
            known.benchmarks,
            out,
            ngram=settings.ngram,
        )
        if not (settings.trajectories or settings.compare):
            overlap.write()
            return overlap.result
    if settings.trajectories or settings.compare:
        sources = settings.trajectories or settings.compare
    else:
        if settings.k and max(settings.k) > settings.samples:
            raise InputError(f"--k {max(settings.k)}: there will be {settings.samples} samples per question; raise --n")
        sampled = _sampled(settings, out, command)
        sources = tuple(str(result.run) for result in sampled)
    of_each = settings.samples if sampled else None
    draw = settings.seed if settings.draw else None
    found = {
        source: read(source, known, limit=settings.limit, draw=draw, samples=of_each, out=out) for source in sources
    }
    if settings.verdicts != "keep" and not known.questions:
        raise InputError(f"--verdicts {settings.verdicts} needs --questions: verdicts are made against their answers")
    series = _series(settings, found)
    _check_names(series)
    for own in series.values():  # before anything is judged or written
        check_ks(Counter(trajectory.question_id for trajectory in own.trajectories), settings.k)
    free, extent = free_fields(settings), extent_fields(settings)
    with Run.start(out, "eval", configuration(settings), command=command, free=free, extent=extent) as run:
        in_place = len(found) == 1 and found[sources[0]].in_place
        begins = dict.fromkeys(series, "") if in_place else prefixes(series)
        with settings.verifier() as verifier:
            judged = {
                name: judge(
                    run, name, own.trajectories, known, verifier, verdicts=settings.verdicts, prefix=begins[name]
                )
                for name, own in series.items()
            }
            sandbox = sandbox_for(run, known.questions.values(), verifier)
        cached = verifier.cached + sum(result.cached_verdicts for result in sampled)
        agreement = _agreement(series, judged, known) if settings.verdicts == "compare" else None
        if agreement is not None:
            run.note("compared", agreement.compared)
        result = _score(settings, run, series, judged, known, overlap.verdicts if overlap else {})
    return dataclasses.replace(
        result,
        agreement=agreement,
        files=(*result.files, *_kept(out, agreement), *((overlap.write(),) if overlap else ())),
        sandbox=sandbox,
        cached_verdicts=cached,
        contamination=overlap.result if overlap else None,
    )


def _looked_for(settings: EvalSettings, known: Known) -> list[Question]:
    """The questions to look for in training data."""
    from innerloop.questions.choosing import drawn

    questions = list(known.questions.values())
    if not settings.draw:
        return questions[: settings.limit]
    names = drawn(list(known.questions), settings.limit, settings.seed)
    return [question for question in questions if question.id in names]


def _sampled(settings: EvalSettings, out: Path, command: Sequence[str] | None) -> list[RolloutResult]:
    """Put the model to the questions; one folder, or one for each source of questions."""
    shared = {entry.name: getattr(settings, entry.name) for entry in dataclasses.fields(RolloutSettings)}
    names = [short_name(source) for source in settings.questions]
    if len(set(names)) < len(names):
        raise InputError("--questions: two sources have the same name; rename one of the files")
    folders = [out / name for name in names] if len(names) > 1 else [out]
    return [
        rollout(RolloutSettings(**shared | {"questions": source, "out": folder}), command=command)
        for source, folder in zip(settings.questions, folders, strict=True)
    ]


def _series(settings: EvalSettings, found: Mapping[str, Samples]) -> dict[str, Samples]:
    """What is scored separately: models and modes always; for a comparison the sources, or a single one's models."""
    if not settings.compare:
        pooled = together(found)
        return split(pooled, by_model=len({trajectory.model for trajectory in pooled.trajectories}) > 1)
    if len(found) == 1:
        (source, samples), *_ = found.items()
        series = split(samples, by_model=len({t.model for t in samples.trajectories}) > 1)
        if len(series) < 2:
            raise InputError(f"--compare {source}: one source of one model and mode; give a second source")
    else:
        series = {}
        for source, samples in found.items():
            for name, own in split(samples).items():
                series[_free(name, source, series)] = own
    reference = settings.reference
    if reference is not None and reference not in series:
        raise InputError(f"--reference {reference}: there is no such series; there are {', '.join(series)}")
    return series if reference is None else {reference: series[reference]} | series


def _check_names(series: Collection[str]) -> None:
    """`InputError` where a series has the name that our verdicts on another one get."""
    from innerloop.evaluate.tally import OURS

    for name in series:
        if f"{name}{OURS}" in series:
            raise InputError(f"the series {name + OURS!r} has the name of our verdicts on {name!r}; rename its model")


def _free(name: str, source: str, taken: Collection[str]) -> str:
    """A name that no other series has."""
    for again in itertools.chain((name, f"{name} ({source})"), (f"{name} ({source}, {i})" for i in itertools.count(2))):
        if again not in taken:
            return again
    raise AssertionError("there is always another one")


def _agreement(series: Mapping[str, Samples], judged: Mapping[str, list[Trajectory]], known: Known) -> Agreement:
    compared, different = 0, []
    for name, own in series.items():
        count, found = disagreements(name, own.trajectories, judged[name], known)
        compared += count
        different += found
    return Agreement(compared=compared, disagreements=tuple(different))


def _score(
    settings: EvalSettings,
    run: Run,
    series: Mapping[str, Samples],
    judged: Mapping[str, list[Trajectory]],
    known: Known,
    contaminated: Mapping[str, bool | None],
) -> EvalResult:
    from innerloop.evaluate import tables
    from innerloop.evaluate.compare import differences
    from innerloop.evaluate.measures import measures
    from innerloop.evaluate.summary import summarise
    from innerloop.evaluate.tally import OURS, tally

    def counted(name: str, of: str, trajectories: Sequence[Trajectory]) -> list[Score]:
        return tally(name, trajectories, known.questions, benchmarks=known.benchmarks, curves=series[of].curves)

    compared = settings.verdicts == "compare"  # then the recorded verdicts count; ours stand beside them
    recorded = {name: list(map(as_recorded, series[name].trajectories)) for name in series}
    own = {name: counted(name, name, (recorded if compared else judged)[name]) for name in series}
    ours = {f"{name}{OURS}": counted(f"{name}{OURS}", name, judged[name]) for name in series}
    scores = own | ours if compared else own
    everything = [score for part in scores.values() for score in part]
    columns = measures(everything, settings.k, settings.tau)
    trained_on = settings.trained_on
    rows = summarise(scores, columns, seed=settings.seed, trained_on=trained_on, contaminated=contaminated)
    between = differences(own, columns, seed=settings.seed, trained_on=trained_on) if settings.compare else []
    _write_scores(run, everything)
    run.note("series", list(scores))
    read_tables = tables.tables(rows, between)
    notes = _notes(settings, bool(between))
    texts = {
        "scores.csv": tables.scores_csv(rows),
        "scores.md": tables.markdown(read_tables, notes),
        "scores.tex": tables.latex(read_tables, notes),
    }
    if between:
        texts["differences.csv"] = tables.differences_csv(between)
    files = tuple(write_file(run.path / name, text.encode()) for name, text in texts.items())
    return EvalResult(
        run=run.path,
        questions=len({score.question_id for score in everything}),
        samples=sum(map(len, judged.values())),
        rows=tuple(rows),
        differences=tuple(between),
        agreement=None,
        files=files,
        sandbox=None,
        cached_verdicts=0,
    )


def _notes(settings: EvalSettings, compared: bool) -> list[str]:
    notes = [
        "Per cent [95 % interval]: bootstrap over questions (over templates where questions share one), "
        "9,999 draws, BCa at expanded levels; exact where no question differs."
    ]
    if compared:
        notes.append(
            "Differences are paired by question; p by sign-flip permutation, two-sided; "
            "p (Holm) corrected over all differences of this command."
        )
    if settings.trained_on:
        notes.append(
            f"Within domain: {', '.join(settings.trained_on)}; cross domain: all others. Means over benchmarks, each "
            "counting once; questions drawn again within each benchmark."
        )
    if settings.verdicts == "redo":
        notes.append("Verdicts were made anew; recorded ones were not used.")
    return notes


def _write_scores(run: Run, scores: Sequence[Score]) -> None:
    """Keep these scores, and no others: those of more samples or questions would be read as part of this evaluation."""
    held = {score.id: score for score in run.scores()}
    if held != {score.id: score for score in scores}:
        run.replace("scores", Score.to_table(scores))


def _kept(out: Path, agreement: Agreement | None) -> list[Path]:
    """The list of disagreements as a file."""
    if agreement is None:
        return []
    names = [entry.name for entry in dataclasses.fields(Disagreement)]
    rows = ([getattr(entry, name) for name in names] for entry in agreement.disagreements)
    return [write_file(out / "disagreements.csv", write_csv(names, rows).encode())]
