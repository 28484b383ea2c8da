"""What one measuring command is about: its questions, its trajectories with their controls, and the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from innerloop.errors import InputError
from innerloop.ids import apart
from innerloop.prompts import used
from innerloop.schema import Question, Status, Trajectory
from innerloop.store import Run
from innerloop.verbs.cluster_settings import ClusterSettings
from innerloop.verbs.day import as_dated, of_the_day, warn_of_unknown_days
from innerloop.verbs.shared import (
    QUESTION_SOURCES,
    InputSettings,
    OutputSettings,
    about,
    missing_questions,
    write_questions,
)
from innerloop.verbs.trajectories import as_stored, judged, make_controls

if TYPE_CHECKING:
    from innerloop.inner.probe import ProbeItem
    from innerloop.models import LoadedModel
    from innerloop.speaker import Speaker


@dataclass(frozen=True, kw_only=True)
class TrajectorySettings(OutputSettings, InputSettings):
    """Which trajectories to measure, of which questions, with which controls."""

    questions: str | None = field(
        default=None,
        metadata=about(f"{QUESTION_SOURCES}; by default those of the first RUN among --trajectories."),
    )
    trajectories: tuple[str, ...] = field(
        default=("solutions",),
        metadata=about(
            "solutions (the questions' own), oracle?style=short|long|corrected|wrong&per_question=K (derived step by "
            "step, for gym questions), a FILE or a RUN folder; several are possible."
        ),
    )
    controls: tuple[Literal["other-question", "shuffled", "filler"], ...] = field(
        default=(),
        metadata=about("Also measure trajectories without reasoning about their question; several are possible."),
    )
    controls_of: Literal["all", "solution", "oracle", "file", "sample"] = field(
        default="all", metadata=about("Which trajectories controls are made of.")
    )
    suffix: str | None = field(
        default=None, metadata=about("Text between trajectory and answer; by default **Final Answer** \\boxed{.")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.trajectories:
            raise InputError("--trajectories: nothing given; name solutions, oracle, a FILE or a RUN folder")


class Work:
    """What one call is about. The model is loaded when it is first needed.

    ``wanted`` are the trajectories to measure, controls included; ``skipped`` those that cannot be, with the reason.
    Nothing is written before `keep_inputs` is called, so that unusable input leaves no folder behind.
    """

    def __init__(
        self, run: Run, settings: TrajectorySettings, questions: Sequence[Question], given: Sequence[Trajectory]
    ) -> None:
        self._run = run
        self._settings = settings
        known = run.questions()
        questions = as_dated(known, questions)
        self.questions = {question.id: question for question in questions}
        for question in questions:
            if not question.answer.strip():
                raise InputError(
                    f"question {question.id!r} has no reference answer (only tests judge it), and an answer loss needs "
                    "one; give other questions, or add the field answer"
                )
        self._new_questions = missing_questions(run, questions, known)
        self._given = judged(as_stored(run, given), questions)
        usable = [trajectory for trajectory in self._given if trajectory.status is not Status.ERROR]
        controls, impossible = self._controls(usable)
        self.wanted = [*usable, *controls]
        self.skipped = impossible | {
            trajectory.id: trajectory.reason or "the engine failed"
            for trajectory in self._given
            if trajectory.status is Status.ERROR
        }
        self._impossible = impossible

    @cached_property
    def loaded(self) -> LoadedModel:
        """The model, with the settings' suffix."""
        loaded = of_the_day(self._run, self._settings.load(suffix=self._settings.suffix))
        self._run.record_model(loaded.describe())
        return loaded

    @cached_property
    def speaker(self) -> Speaker:
        """What puts questions and trajectories into tokens: the model, or its tokenizer alone where workers hold it."""
        settings = self._settings
        if not (isinstance(settings, ClusterSettings) and settings.on_cluster):
            return self.loaded
        from innerloop.speaker import load_speaker

        speaker = load_speaker(settings.model, trust_remote_code=settings.trust_remote_code, **settings.manner())
        speaker = of_the_day(self._run, speaker)
        return speaker if settings.suffix is None else replace(speaker, suffix=settings.suffix)

    def _controls(self, usable: Sequence[Trajectory]) -> tuple[list[Trajectory], dict[str, str]]:
        """The controls, from the folder where they stand there; and those that cannot be made."""
        chosen = self._settings.controls_of
        bases = [trajectory for trajectory in usable if chosen in ("all", trajectory.source)]
        if self._settings.controls and not bases:
            raise InputError(f"--controls-of {chosen}: there is no such trajectory; use all or add a source")
        names = [f"{base.id}/{kind}" for kind in self._settings.controls for base in bases]
        apart(names, {trajectory.id for trajectory in self._given}, "a control")
        impossible: dict[str, str] = self._run.noted("no_control") or {}
        found = {trajectory.id: trajectory for trajectory in self._run.trajectories()}
        if any(name not in found and name not in impossible for name in names):
            questions = list(self.questions.values())
            made = make_controls(self._settings.controls, bases, questions, self.speaker, self._settings.seed)
            found |= {trajectory.id: trajectory for trajectory in made}
            impossible = {name: "no control can be made of this trajectory" for name in names if name not in found}
        return [found[name] for name in names if name in found], impossible

    def keep_inputs(self) -> None:
        """Write the questions and trajectories that the folder lacks."""
        write_questions(self._run, self._new_questions)
        self._new_questions = []
        stored = self._run.done("trajectories")
        if new := [trajectory for trajectory in (*self._given, *self.wanted) if trajectory.id not in stored]:
            self._run.write("trajectories", Trajectory.to_table({entry.id: entry for entry in new}.values()))
        self._run.note("no_control", self._impossible)
        # Known once something is measured; where nothing is, an earlier start has noted the prompts.
        if (speaker := vars(self).get("speaker") or vars(self).get("loaded")) is not None:
            self._run.note("prompts", used(self.questions.values(), speaker.instruction, speaker.system))
            warn_of_unknown_days(speaker, self.questions, self.wanted)

    def item(
        self, trajectory: Trajectory, candidates: Sequence[str] = (), *, loaded: LoadedModel | None = None
    ) -> ProbeItem:
        """A trajectory with its question, in tokens. `InputError` names the question whose answer has none."""
        return probe_item(loaded or self.speaker, self.questions[trajectory.question_id], trajectory, candidates)


def probe_item(
    speaker: Speaker, question: Question, trajectory: Trajectory, candidates: Sequence[str] = ()
) -> ProbeItem:
    """What the probe reads of a trajectory. `InputError` names the question whose answer has no tokens."""
    from innerloop.inner.context import context
    from innerloop.inner.probe import ProbeItem

    for answer in (question.answer, *candidates):
        try:
            speaker.answer_ids(answer)
        except InputError as error:
            raise InputError(f"question {question.id!r}: {error}") from error
    prompt, own = context(speaker, question, trajectory)
    return ProbeItem(
        trajectory_id=trajectory.id,
        question_id=question.id,
        prompt=prompt,
        trajectory=own,
        answer=question.answer,
        candidates=tuple(candidates),
    )
