"""``train sft``: learn from trajectories that are there (RaML table 1, section 3.2)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from innerloop.errors import InputError
from innerloop.schema import Question, Trajectory
from innerloop.verbs.sampling import with_samples
from innerloop.verbs.shared import QUESTION_SOURCES, about, at_least
from innerloop.verbs.train.apart import apart
from innerloop.verbs.train.mixing import mix_of
from innerloop.verbs.train.opening import opening
from innerloop.verbs.train.result import TrainResult
from innerloop.verbs.train.settings import EXPORT, TrainSettings

if TYPE_CHECKING:
    from innerloop.outer.rows import Row, Weights
    from innerloop.speaker import Speaker
    from innerloop.verbs.train.planning import DryRun
    from innerloop.verbs.train.verl_export import ExportResult

log = logging.getLogger("innerloop")


@dataclass(frozen=True, kw_only=True)
class SftSettings(TrainSettings):
    """Which trajectories to learn from, how many per question, and what of them counts."""

    questions: tuple[str, ...] = field(
        default=(), metadata=about(f"{QUESTION_SOURCES}; several at once; by default those of a RUN.")
    )
    trajectories: tuple[str, ...] = field(
        default=("solutions",),
        metadata=about(
            "solutions, oracle, a FILE or a RUN folder, several at once; sample?n=64&temperature=0.7&top_k=50: sample "
            "them first, with rollout's options; none: learn answers alone."
        ),
    )
    support: int | None = field(
        default=None, metadata=about("Trajectories per question (the size of its support set); by default all.")
    )
    select: Literal["random", "shortest", "first", "diverse"] = field(
        default="random",
        metadata=about("Which of a question's trajectories are taken; the command select knows more ways."),
    )
    keep: Literal["right", "all"] = field(
        default="right", metadata=about("Learn from trajectories that lead to the right answer only, or from all.")
    )
    skip_short: bool = field(
        default=False, metadata=about("Leave out questions with fewer than --support trajectories instead of stopping.")
    )
    at_most: bool = field(
        default=False,
        metadata=about(
            "Take what there is of questions with fewer than --support trajectories, so that every K has the same "
            "questions, as in RaML fig. 8; e.g. --support 32 --at-most.",
            later=True,
        ),
    )
    passes: int = field(
        default=1, metadata=about("Passes over the questions, whatever --support; each shows one trajectory of each.")
    )
    per_pass: Literal["once", "right"] = field(
        default="once",
        metadata=about(
            "How often a pass shows a question: once, or as often as it has trajectories to choose from, whatever "
            "--support, as in RaML's code; e.g. --per-pass right.",
            later=True,
        ),
    )
    trajectory_weight: float = field(default=1.0, metadata=about("Weight of the trajectory's tokens in the loss."))
    answer_weight: float = field(default=1.0, metadata=about("Weight of the answer's tokens."))
    form_weight: float = field(
        default=1.0, metadata=about("Weight of what is around the answer: suffix, closing brace, end.")
    )
    max_length: int | None = field(default=None, metadata=about("Leave out rows with more tokens; at most a tenth."))
    export: tuple[Literal["verl"], Path] | None = field(default=None, metadata=EXPORT)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("support", "passes", "max_length"):
            at_least(name, getattr(self, name), 1)
        if self.at_most and self.skip_short:
            raise InputError("--at-most and --skip-short: give one of them; one keeps what the other leaves out")
        if self.at_most and self.support is None:
            raise InputError("--at-most: say with --support how many trajectories of a question are taken at most")
        if "none" in self.trajectories and len(self.trajectories) > 1:
            raise InputError("--trajectories none: stands for answers alone; leave it out or name nothing else")
        self.weights()

    def weights(self) -> Weights:
        """What each token counts; `InputError` for values that make no sense."""
        from innerloop.outer.rows import Weights

        return Weights(trajectory=self.trajectory_weight, answer=self.answer_weight, form=self.form_weight)


def sft(settings: SftSettings, *, command: Sequence[str] | None = None) -> TrainResult | DryRun | ExportResult:
    """Fine-tune a model on trajectories into a run folder; goes on from the last checkpoint.

    Raises `InputError` for unusable input; ``command`` is what the manifest records as the command line.
    """
    sources = with_samples(settings, "sft")
    support = _support(settings, sources)
    if settings.dry_run:
        return _plan(settings, support, command)
    if settings.export is not None:
        return _export(settings, support)
    with opening("sft", settings, support.questions, command) as opened:
        if not opened.finished:
            loaded = opened.load()
            made, dropped = _rows(settings, loaded, support)
            opened.keep(rows=len(made), dropped=dropped)
            from innerloop.outer.sft import sft_trainer
            from innerloop.verbs.train.training import train_with

            train_with(
                settings,
                opened.run,
                loaded,
                rows=len(made),
                make=lambda arguments, lora, callbacks: sft_trainer(
                    loaded.model, loaded.tokenizer, made, arguments, lora=lora, callbacks=callbacks
                ),
            )
        return opened.result()


@dataclass(frozen=True)
class _Support:
    """The questions, what each of them is learnt with, and how often a pass shows it where that is not once."""

    questions: list[Question]
    sets: dict[str, tuple[Trajectory | None, ...]]
    often: dict[str, int] | None = None


def _plan(settings: SftSettings, support: _Support, command: Sequence[str] | None) -> DryRun:
    from innerloop.outer.estimate import build_of, training
    from innerloop.verbs.train.planning import Extent, phase, planned, skeleton, trained_by

    made, dropped = _rows(settings, settings.speaker(), support)
    build = build_of(skeleton(settings))
    steps = settings.steps_of(len(made))
    lengths = [len(row.input_ids) for row in made]
    extent = Extent(
        questions=len(support.questions),
        rows=len(made),
        dropped=dropped,
        steps=steps,
        rows_at_once=settings.rows_at_once(),
        longest=max(lengths),
        tokens_per_pass=round(sum(lengths) / settings.passes),
    )
    work = training(build, lengths[: steps * settings.batch_size])
    return planned(
        "sft", settings, build, extent, [phase("training", work, trained_by(settings))], command, logits=False
    )


def _export(settings: SftSettings, support: _Support) -> ExportResult:
    from innerloop.verbs.train.verl_export import export_sft

    made, _ = _rows(settings, settings.speaker(), support)
    known = {(name, shown.id if shown else None): shown for name, own in support.sets.items() for shown in own}
    order = [(row.question_id, known[row.question_id, row.trajectory_id]) for row in made]
    return export_sft(settings, support.questions, order, max(len(row.input_ids) for row in made))


def _support(settings: SftSettings, sources: tuple[str, ...]) -> _Support:
    """The questions, and the trajectories that each of them is learnt with."""
    from innerloop.outer.select import CHOICES
    from innerloop.outer.support import by_question, enough, support_sets

    if sources == ("none",):
        from innerloop.questions import load_all

        if not settings.questions:
            raise InputError("--questions is missing: answers alone come from the questions")
        questions = apart(settings, load_all(settings.questions, **settings.which()))
        return _Support(questions, {question.id: (None,) for question in questions})
    from innerloop.verbs.trajectories import gather, right_ones

    questions, given = gather(settings.questions, sources, **settings.which())
    questions = apart(settings, questions)
    if settings.keep == "right":
        given, others = right_ones(given, questions)
        if others:
            log.info("%d trajectories are left out: they do not lead to the right answer", others)
    if settings.skip_short:
        questions, short = enough(questions, given, settings.support)
        log.info("%d questions are left out: they have fewer than %d trajectories", short, settings.support or 1)
    if settings.at_most:
        questions, none = enough(questions, given, 1)
        log.info("%d questions are left out: they have no trajectory", none)
    choice = CHOICES[settings.select](settings.seed)
    sets = support_sets(questions, given, settings.support, choice, at_most=settings.at_most)
    often = {name: len(own) for name, own in by_question(questions, given).items()}
    return _Support(questions, dict(sets), often if settings.per_pass == "right" else None)


def _rows(settings: SftSettings, speaker: Speaker, support: _Support) -> tuple[list[Row], int]:
    """Every row of every pass in order, and how many were too long."""
    from innerloop.outer.rows import make_row, within
    from innerloop.outer.support import rows_in_order

    by_id, weights = {question.id: question for question in support.questions}, settings.weights()
    order = rows_in_order(
        support.sets,
        settings.passes,
        settings.seed,
        lambda name, trajectory: make_row(speaker, by_id[name], trajectory, weights),
        often=support.often,
        mix=mix_of(settings, support.sets),
    )
    return within(order, settings.max_length or speaker.max_context)
