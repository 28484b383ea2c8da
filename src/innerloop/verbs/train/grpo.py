"""``train grpo``: learn from one's own rollouts by their reward (RaML table 1, sections 3.2 and 4.1, eq. 21)."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from innerloop.errors import InputError
from innerloop.outer.forms import Form, check_form
from innerloop.schema import Mode, Question
from innerloop.verbs.engine_settings import more_than_zero
from innerloop.verbs.shared import QUESTION_SOURCES, about, at_least
from innerloop.verbs.train.apart import apart
from innerloop.verbs.train.mixing import mix_of
from innerloop.verbs.train.opening import opening
from innerloop.verbs.train.result import TrainResult
from innerloop.verbs.train.settings import EXPORT, TrainSettings

if TYPE_CHECKING:
    from innerloop.models import LoadedModel
    from innerloop.speaker import Speaker
    from innerloop.verbs.train.planning import DryRun
    from innerloop.verbs.train.rewarding import Rewarding
    from innerloop.verbs.train.verl_export import ExportResult

log = logging.getLogger("innerloop")

_PATIENCE = 20  # steps in which some group must have two different rewards


@dataclass(frozen=True, kw_only=True)
class GrpoSettings(TrainSettings):
    """Which questions to answer, how often, what an answer earns, and which rollouts give the gradient."""

    questions: tuple[str, ...] = field(metadata=about(f"{QUESTION_SOURCES}; several at once."))
    passes: int = field(default=1, metadata=about("Passes over the questions."))
    group: int = field(default=8, metadata=about("Rollouts of a question (G); --batch-size counts rollouts."))
    gradient_on: int | None = field(
        default=None, metadata=about("Rollouts of each question that give the gradient (n of G); by default all.")
    )
    choose: Literal["random", "max-variance", "extremes"] = field(
        default="random", metadata=about("Which n: random as in the paper; largest variance of reward; best and worst.")
    )
    reward: Literal["raml", "right", "right-short"] = field(
        default="raml",
        metadata=about("raml: 1, 0, −0.5, −1 by answer and form (eq. 21); right: 1 or 0; right-short: less if long."),
    )
    form: str = field(
        default="box",
        metadata=about(
            "What a rollout looks like. box: an answer in a box after the reasoning; think-conclusion: a thinking "
            "block, then <conclusion> with the box in it, nothing else; or a regular expression (RE2) for the whole "
            "rollout, e.g. --form '.*<answer>.*</answer>'.",
            later=True,
        ),
    )
    loss: Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo"] = field(
        default="dapo", metadata=about("How token losses are added up; TRL's names.")
    )
    scale: Literal["group", "batch", "none"] = field(
        default="group",
        metadata=about("Divide advantages by the rewards' deviation in the group, the step, or not."),
    )
    clip_low: float = field(default=0.2, metadata=about("How far below 1 the ratio of probabilities counts."))
    clip_high: float = field(default=0.28, metadata=about("How far above 1 (clip-higher)."))
    kl: float = field(default=0.0, metadata=about("Weight of the divergence from the model it began with."))
    temperature: float = field(default=1.0, metadata=about("Of the rollouts."))
    top_k: int = field(default=0, metadata=about("Sample from the K likeliest tokens; 0: from all."))
    max_tokens: int = field(default=256, metadata=about("Length at which a rollout is cut off."))
    export: tuple[Literal["verl"], Path] | None = field(default=None, metadata=EXPORT)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("passes", "max_tokens"):
            at_least(name, getattr(self, name), 1)
        at_least("group", self.group, 2)
        for name in ("kl", "clip_low", "clip_high", "top_k"):
            at_least(name, getattr(self, name), 0)
        more_than_zero("temperature", self.temperature)
        check_form(self.form)
        if not self.questions:
            raise InputError("--questions: nothing given; name what to ask")
        if self.gradient_on is not None and not 1 <= self.gradient_on <= self.group:
            raise InputError(f"--gradient-on {self.gradient_on}: must lie between 1 and --group {self.group}")
        if self.batch_size % (self.group * self.parts):
            raise InputError(
                f"--batch-size {self.batch_size}: must be a multiple of --group {self.group}"
                + (f" times --parts {self.parts}" if self.parts > 1 else "")
                + ", so that a question's rollouts stay together"
            )

    def form_for(self, speaker: Speaker) -> Form:
        """The form, with the model's thinking delimiters."""
        thinking = (speaker.think_start, speaker.think_end)
        return Form(name=self.form, thinking=thinking, opened=speaker.opens_thinking(Mode.PLAIN))

    def rows_at_once(self) -> int:
        """Rollouts that one process works through together, whole groups; `InputError` where they are not."""
        rows = super().rows_at_once()
        if rows % self.group:
            raise InputError(
                f"--batch-size {self.batch_size}: must be a multiple of --group {self.group}, --parts "
                f"{self.parts} and the number of processes together, so that a question's rollouts stay together"
            )
        return rows


def grpo(settings: GrpoSettings, *, command: Sequence[str] | None = None) -> TrainResult | DryRun | ExportResult:
    """Train a model on its own rollouts into a run folder; goes on from the last checkpoint.

    Raises `InputError` for unusable input, among it a reward that cannot tell right from wrong; ``command`` is what the
    manifest records as the command line.
    """
    from innerloop.questions import load_all

    questions = apart(settings, load_all(settings.questions, **settings.which()))
    order = _in_whole_steps(settings, questions)
    rows = len(order) * settings.group
    if settings.dry_run:
        return _plan(settings, questions, order, rows, command)
    if settings.export is not None:
        from innerloop.verbs.train.verl_export import export_grpo
        from innerloop.verbs.train.watching import watched

        return export_grpo(settings, questions, [question for own, _ in watched(settings).values() for question in own])
    with opening("grpo", settings, questions, command) as opened:
        if not opened.finished:
            from innerloop.evaluate.verify import DELIMITERS, Verifier
            from innerloop.outer.callbacks import Flat
            from innerloop.verbs.train.training import train_with

            loaded = opened.load()
            with Verifier(delimiters=(*DELIMITERS, (loaded.think_start, loaded.think_end))) as verifier:
                rewarding = _rewarding(settings, loaded, verifier, questions)
                opened.run.note("audit", rewarding.audit(questions))
                opened.keep(rows=len(order))
                train_with(
                    settings,
                    opened.run,
                    loaded,
                    rows=rows,
                    make=lambda arguments, lora, callbacks: _trainer(
                        settings, loaded, questions, order, rewarding, arguments, lora, [*callbacks, Flat(_PATIENCE)]
                    ),
                )
        return opened.result()


def _in_whole_steps(settings: GrpoSettings, questions: Sequence[Question]) -> list[str]:
    """The ids of the questions in the order in which they are asked: the passes, and what fills the last step.

    TRL drops a step that is not full, and with it its questions; here it is filled from a further pass.
    """
    from innerloop.outer.support import passes

    step = settings.batch_size // settings.group
    asked = settings.passes * len(questions)
    missing = -asked % step
    if missing:
        log.info("the last step is filled from a further pass: %d questions to ask, %d in a step", asked, step)
    further = math.ceil(missing / len(questions))
    sets = {question.id: (None,) for question in questions}
    turns = passes(sets, settings.passes + further, settings.seed, mix=mix_of(settings, sets))
    return [name for name, _ in islice(turns, asked + missing)]


def _plan(
    settings: GrpoSettings,
    questions: Sequence[Question],
    order: Sequence[str],
    rows: int,
    command: Sequence[str] | None,
) -> DryRun:
    from innerloop.outer.estimate import build_of, forward, training
    from innerloop.verbs.train.planning import FORWARD, Extent, phase, planned, skeleton, trained_by

    speaker = settings.speaker()
    longest = {question.id: len(speaker.prompt(question)) + settings.max_tokens for question in questions}
    build = build_of(skeleton(settings))
    steps = settings.steps_of(rows)
    lengths = [longest[name] for name in order[: steps * settings.batch_size // settings.group]]
    kept = settings.gradient_on or settings.group
    rollouts = forward(build, lengths).times(settings.group)
    phases = [phase("generating", rollouts, FORWARD, bound=True)]
    if settings.kl:
        phases.append(phase("comparing with the model it began with", rollouts, FORWARD, bound=True))
    phases.append(phase("training", training(build, lengths).times(kept), trained_by(settings), bound=True))
    extent = Extent(
        questions=len(questions),
        rows=len(order),
        steps=steps,
        rows_at_once=settings.rows_at_once() * kept // settings.group,
        longest=max(longest.values()),
        tokens_per_pass=settings.group * sum(longest.values()),
    )
    copied = build.parameters if settings.kl and settings.lora is None else 0
    return planned("grpo", settings, build, extent, phases, command, logits=True, copied=copied)


def _rewarding(settings: GrpoSettings, loaded: LoadedModel, verifier: Any, questions: Sequence[Question]) -> Rewarding:
    from innerloop.outer.rewards import REWARDS
    from innerloop.rollout.transformers_engine import stop_tokens
    from innerloop.verbs.train.rewarding import Rewarding

    return Rewarding(
        REWARDS[settings.reward],
        verifier,
        loaded,
        {question.id: question for question in questions},
        form=settings.form_for(loaded),
        stops=stop_tokens(loaded),
        limit=settings.max_tokens,
    )


def _trainer(
    settings: GrpoSettings,
    loaded: LoadedModel,
    questions: Sequence[Question],
    order: Sequence[str],
    rewarding: Rewarding,
    arguments: dict[str, Any],
    lora: Any,
    callbacks: Sequence[Any],
) -> Any:
    from innerloop.outer.grpo import Subset, grpo_trainer

    texts = {question.id: loaded.prompt_text(question) for question in questions}
    prompts = {texts[question.id]: loaded.prompt(question) for question in questions}
    own = {
        "num_generations": settings.group,
        "steps_per_generation": settings.parts,
        "loss_type": settings.loss,
        "scale_rewards": settings.scale,
        "epsilon": settings.clip_low,
        "epsilon_high": settings.clip_high,
        "beta": settings.kl,
        "temperature": settings.temperature,
        "top_k": settings.top_k,
        "max_completion_length": settings.max_tokens,
        "shuffle_dataset": False,
    }
    return grpo_trainer(
        loaded.model,
        loaded.tokenizer,
        [{"prompt": texts[name], "question_id": name} for name in order],
        prompts,
        rewarding,
        arguments | own,
        subset=Subset(n=settings.gradient_on or settings.group, choice=settings.choose),
        lora=lora,
        callbacks=callbacks,
    )
