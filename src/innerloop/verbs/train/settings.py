"""What every training recipe is told: data, optimiser, LoRA, length of the run, held-out questions to watch.

Annotations are no texts here: cyclopts would look the names in them up in the modules of the recipes.
"""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path  # noqa: F401  # cyclopts looks the annotations of the bases up here
from typing import TYPE_CHECKING, Any, Literal

from innerloop.errors import InputError
from innerloop.verbs.engine_settings import more_than_zero
from innerloop.verbs.shared import QUESTION_SOURCES, InputSettings, OutputSettings, about, at_least
from innerloop.verbs.train.reporting import check_reporters

if TYPE_CHECKING:
    from innerloop.models import LoadedModel
    from innerloop.speaker import Speaker


EXPORT = about(
    "verl DIR: train nothing, write what a verl cluster needs to do it into a new folder: data, reward, launch script.",
    free=True,
)


@dataclass(frozen=True, kw_only=True)
class OuterSettings(OutputSettings, InputSettings):
    """What every recipe of the outer loop is told: optimiser, LoRA, length, and what to look at meanwhile."""

    learning_rate: float = field(default=1e-5, metadata=about("Highest learning rate of AdamW."))
    warmup: int = field(default=0, metadata=about("Steps until the learning rate is at its highest."))
    weight_decay: float = field(default=0.0, metadata=about("Of AdamW."))
    clip: float = field(default=1.0, metadata=about("Largest norm of the gradient; 0: no limit."))
    max_steps: int | None = field(default=None, metadata=about("Stop after so many optimiser steps."))
    lora: int | None = field(
        default=None, metadata=about("Train LoRA adapters of this rank instead of all weights; saved merged as well.")
    )
    save_every: int = field(default=100, metadata=about("Steps from checkpoint to checkpoint.", free=True))
    held_out: tuple[str, ...] = field(
        default=(), metadata=about("Sources of questions to keep out of the training; those of --watch are anyway.")
    )
    watch: tuple[str, ...] = field(
        default=(),
        metadata=about(f"Held-out questions to measure during training: {QUESTION_SOURCES}; several also one by one."),
    )
    watch_every: int = field(default=100, metadata=about("Steps from look to look.", free=True))
    watch_limit: int = field(default=32, metadata=about("Questions of each source to look at."))
    watch_samples: int = field(default=1, metadata=about("Samples of each for pass@1; 0: only probe.", free=True))
    watch_trajectories: tuple[str, ...] = field(
        default=(), metadata=about("Trajectories of the held-out questions to probe, as --trajectories.", free=True)
    )
    watch_max_tokens: int = field(default=256, metadata=about("Length at which its samples are cut off.", free=True))
    dry_run: bool = field(
        default=False,
        metadata=about("Only say what it would take: data, tokens, FLOPs, memory, how to launch it.", free=True),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        more_than_zero("learning_rate", self.learning_rate)
        for name in ("max_steps", "lora", "save_every", "watch_every", "watch_limit"):
            at_least(name, getattr(self, name), 1)
        for name in ("warmup", "weight_decay", "clip", "watch_samples"):
            at_least(name, getattr(self, name), 0)
        if len(self.watch) > 1:
            from innerloop.verbs.scoring import short_name

            names = [short_name(source) for source in self.watch]
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise InputError(f"--watch: two sources are called {twice}; rename one, or give them as one")
        if self.watch_trajectories and not self.watch:
            raise InputError("--watch-trajectories: say with --watch which questions they belong to")

    def speaker(self) -> "Speaker":
        """The model's tokenizer and how to talk to it, without its weights."""
        from innerloop.speaker import load_speaker

        return load_speaker(self.model, trust_remote_code=self.trust_remote_code, **self.manner())

    def load_to_train(self) -> "LoadedModel":
        """The model with weights that can be trained, in float32 unless another type is asked for."""
        loaded = (replace(self, dtype="float32") if self.dtype == "auto" else self).load()
        loaded.model.requires_grad_(True).train()
        return loaded


@dataclass(frozen=True, kw_only=True)
class TrainSettings(OuterSettings):
    """What the recipes on TRL's trainers are told beside."""

    questions: tuple[str, ...] = field(  # type: ignore[assignment]
        default=(), metadata=about(f"{QUESTION_SOURCES}; several are trained on together.")
    )
    question_weights: tuple[float, ...] = field(
        default=(),
        metadata=about(
            "With several --questions: the share of the training that each has, e.g. --questions A B "
            "--question-weights 3 1; by default as its questions are many.",
            later=True,
        ),
    )
    schedule: Literal["constant", "linear", "cosine"] = field(
        default="constant", metadata=about("How the learning rate falls after the warm-up.")
    )
    batch_size: int = field(default=32, metadata=about("Rows of an optimiser step, over all processes."))
    parts: int = field(
        default=1,
        metadata=about(
            "Work through a step's rows in so many parts: saves memory, and the padding of short rows.", free=True
        ),
    )
    minutes: float | None = field(
        default=None,
        metadata=about(
            "Stop after so many minutes of training; with more of them the same command goes on.", free=True
        ),
    )
    report_to: tuple[str, ...] = field(
        default=(), metadata=about("Also log to tensorboard, wandb or trackio; repeat it for several.", free=True)
    )

    def __post_init__(self) -> None:
        given: object = self.questions
        if given is None or isinstance(given, str):  # as Python may give them
            object.__setattr__(self, "questions", () if given is None else (given,))
        super().__post_init__()
        if self.question_weights and len(self.question_weights) != len(self.questions):
            raise InputError(
                f"--question-weights: {len(self.question_weights)} weights for {len(self.questions)} sources of "
                "--questions; give each source its weight"
            )
        for weight in self.question_weights:
            if not 0 < weight < float("inf"):
                raise InputError(f"--question-weights {weight:g}: must be more than 0")
        more_than_zero("minutes", self.minutes)
        for name in ("batch_size", "parts"):
            at_least(name, getattr(self, name), 1)
        check_reporters(self.report_to)
        if self.batch_size % self.parts:
            raise InputError(f"--parts {self.parts}: does not divide --batch-size {self.batch_size}")

    def stands_for(self) -> dict[str, Any]:
        """What the manifest records instead: one source as a text, as ever."""
        named = list(self.questions)
        return {"questions": named if len(named) > 1 else named[0] if named else None}

    def steps_of(self, rows: int) -> int:
        """Optimiser steps of a run over so many rows; `InputError` where there is none."""
        steps = math.ceil(rows / self.batch_size)
        steps = steps if self.max_steps is None else min(steps, self.max_steps)
        if not steps:
            raise InputError("nothing to train on: no rows are left")
        return steps

    def rows_at_once(self) -> int:
        """Rows that one process works through together; `InputError` where they do not come out even."""
        from innerloop.processes import world

        if self.batch_size % (self.parts * world()):
            raise InputError(
                f"--batch-size {self.batch_size}: {world()} processes with --parts {self.parts} do not divide it"
            )
        return self.batch_size // self.parts // world()
