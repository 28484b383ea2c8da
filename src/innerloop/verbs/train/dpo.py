"""``train dpo``: learn to prefer right trajectories to wrong ones of the same question (RaML table 1)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path  # noqa: F401  # cyclopts looks the annotations of the bases up here
from typing import TYPE_CHECKING, Literal

from innerloop.errors import InputError
from innerloop.processes import world
from innerloop.schema import Question
from innerloop.verbs.engine_settings import more_than_zero
from innerloop.verbs.sampling import with_samples
from innerloop.verbs.shared import QUESTION_SOURCES, about, at_least
from innerloop.verbs.train.apart import apart
from innerloop.verbs.train.mixing import mix_of
from innerloop.verbs.train.opening import opening
from innerloop.verbs.train.result import TrainResult
from innerloop.verbs.train.settings import TrainSettings

if TYPE_CHECKING:
    from innerloop.outer.pairs import Pair, PairRow
    from innerloop.speaker import Speaker
    from innerloop.verbs.train.planning import DryRun

log = logging.getLogger("innerloop")


@dataclass(frozen=True, kw_only=True)
class DpoSettings(TrainSettings):
    """Which trajectories to hold against each other, how many pairs per question, and how strongly."""

    questions: tuple[str, ...] = field(
        default=(), metadata=about(f"{QUESTION_SOURCES}; several at once; by default those of a RUN.")
    )
    trajectories: tuple[str, ...] = field(
        metadata=about(
            "Where right and wrong ones come from: FILEs, RUN folders, oracle, solutions, several at once; "
            "sample?n=16&temperature=1: sample them first, with rollout's options."
        )
    )
    pairs_per_question: int | None = field(
        default=None, metadata=about("Pairs of a right and a wrong trajectory of each question; by default all.")
    )
    passes: int = field(default=1, metadata=about("Passes over the questions; each shows one pair of each."))
    learning_rate: float = field(default=1e-6, metadata=about("Highest learning rate of AdamW."))
    loss: Literal["sigmoid", "sigmoid_norm", "hinge", "ipo", "robust"] = field(
        default="sigmoid", metadata=about("sigmoid is DPO's own; sigmoid_norm counts per token; TRL's names.")
    )
    beta: float = field(default=0.1, metadata=about("How strongly the reference holds; ipo: its τ."))
    label_smoothing: float = field(
        default=0.0, metadata=about("Share of the verdicts that may be turned around, with --loss robust.")
    )
    sft_weight: float = field(
        default=0.0, metadata=about("Weight of the right trajectories' own loss, in nats per token, beside it.")
    )
    reference: Literal["start", "none"] = field(
        default="start", metadata=about("What the model is compared with: itself at the start; none: no reference.")
    )
    max_length: int | None = field(default=None, metadata=about("Leave out pairs with more tokens; at most a tenth."))

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("pairs_per_question", "passes", "max_length"):
            at_least(name, getattr(self, name), 1)
        more_than_zero("beta", self.beta)
        at_least("sft_weight", self.sft_weight, 0)
        if not self.trajectories:
            raise InputError("--trajectories: nothing given; name what holds right and wrong ones")
        if not 0 <= self.label_smoothing < 0.5:
            raise InputError(f"--label-smoothing {self.label_smoothing}: must be 0 or more and less than 0.5")
        if (self.label_smoothing > 0) != (self.loss == "robust"):
            raise InputError("--label-smoothing and --loss robust: give both or neither; no other loss takes it")


def dpo(settings: DpoSettings, *, command: Sequence[str] | None = None) -> TrainResult | DryRun:
    """Train a model to prefer right trajectories to wrong ones, into a run folder; goes on from the last checkpoint.

    Raises `InputError` for unusable input; ``command`` is what the manifest records as the command line.
    """
    questions, sets = _pairs(settings, with_samples(settings, "dpo"))
    if settings.dry_run:
        return _plan(settings, questions, sets, command)
    with opening("dpo", settings, questions, command) as opened:
        if not opened.finished:
            loaded = opened.load()
            rows, dropped = _rows(settings, loaded, questions, sets)
            if world() > 1:  # the last step would have other pairs on each number of processes
                rows = rows[: len(rows) // settings.batch_size * settings.batch_size]
            opened.keep(rows=len(rows), dropped=dropped)
            from innerloop.outer.dpo import Preference, dpo_trainer
            from innerloop.verbs.train.training import train_with

            preference = Preference(
                kind=settings.loss,
                beta=settings.beta,
                smoothing=settings.label_smoothing,
                likelihood=settings.sft_weight,
                reference=settings.reference == "start",
            )
            train_with(
                settings,
                opened.run,
                loaded,
                rows=len(rows),
                make=lambda arguments, lora, callbacks: dpo_trainer(
                    loaded.model,
                    loaded.tokenizer,
                    _taken(settings, rows),
                    arguments,
                    preference,
                    lora=lora,
                    callbacks=callbacks,
                ),
            )
        return opened.result()


def _plan(
    settings: DpoSettings,
    questions: Sequence[Question],
    sets: dict[str, tuple[Pair, ...]],
    command: Sequence[str] | None,
) -> DryRun:
    from innerloop.outer.estimate import build_of, forward, training
    from innerloop.verbs.train.planning import FORWARD, Extent, phase, planned, skeleton, trained_by

    made, dropped = _rows(settings, settings.speaker(), questions, sets)
    build = build_of(skeleton(settings))
    steps = settings.steps_of(len(made))
    taken = _taken(settings, made)
    phases = [phase("training", training(build, _lengths(taken)), trained_by(settings))]
    if settings.reference == "start":
        read = forward(build, _lengths(list(dict.fromkeys(taken))))
        phases.insert(0, phase("reading with the reference", read, FORWARD))
    extent = Extent(
        questions=len(questions),
        rows=len(made),
        dropped=dropped,
        steps=steps,
        rows_at_once=2 * settings.rows_at_once(),
        longest=max(map(len, made)),
        tokens_per_pass=round(sum(_lengths(made)) / settings.passes),
    )
    return planned("dpo", settings, build, extent, phases, command, logits=True)


def _taken(settings: DpoSettings, rows: Sequence[PairRow]) -> Sequence[PairRow]:
    """The rows that the steps come to; --max-steps may leave some, and the reference need not read those."""
    return rows[: settings.steps_of(len(rows)) * settings.batch_size]


def _lengths(rows: Sequence[PairRow]) -> list[int]:
    """Tokens of each side with its prompt."""
    return [len(row.prompt) + len(side) for row in rows for side in (row.right, row.wrong)]


def _pairs(settings: DpoSettings, sources: tuple[str, ...]) -> tuple[list[Question], dict[str, tuple[Pair, ...]]]:
    """The questions that have pairs, and these."""
    from innerloop.outer.pairs import pair_sets
    from innerloop.verbs.trajectories import gather, judged

    questions, given = gather(settings.questions, sources, **settings.which())
    questions = apart(settings, questions)
    names = {question.id for question in questions}
    given = judged([trajectory for trajectory in given if trajectory.question_id in names], questions)
    found = pair_sets(questions, given, settings.pairs_per_question, settings.seed, shown=settings.passes)
    for count, said in (
        (found.undecided, "trajectories are left out: they have no verdict"),
        (found.no_right, "questions are left out: they have no right trajectory"),
        (found.no_wrong, "questions are left out: they have no wrong trajectory"),
        (
            found.short,
            f"questions have fewer than {settings.pairs_per_question} pairs; all of those are taken",
        ),
    ):
        if count:
            log.info("%d %s", count, said)
    return [question for question in questions if question.id in found.sets], found.sets


def _rows(
    settings: DpoSettings, speaker: Speaker, questions: Sequence[Question], sets: dict[str, tuple[Pair, ...]]
) -> tuple[list[PairRow], int]:
    """Every pair of every pass in order, and how many were too long."""
    from innerloop.outer.pairs import pair_row
    from innerloop.outer.rows import within
    from innerloop.outer.support import rows_in_order

    by_id = {question.id: question for question in questions}
    order = rows_in_order(
        sets,
        settings.passes,
        settings.seed,
        lambda name, pair: pair_row(speaker, by_id[name], pair),
        mix=mix_of(settings, sets),
    )
    return within(order, settings.max_length or speaker.max_context)
