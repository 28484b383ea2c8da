"""``probe``: the answer loss along trajectories, given or sampled, and along their controls."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from innerloop.errors import InputError
from innerloop.progress import progress
from innerloop.schema import Curve, Question, Status, Trajectory
from innerloop.store import Run
from innerloop.verbs.shared import (
    QUESTION_SOURCES,
    InputSettings,
    OutputSettings,
    Shards,
    about,
    at_least,
    configuration,
    free_fields,
    missing_questions,
    numbers,
    out_folder,
    write_questions,
)
from innerloop.verbs.trajectories import as_stored, gather, judged, make_controls, rivals

if TYPE_CHECKING:
    from innerloop.inner.probe import ProbeItem
    from innerloop.models import LoadedModel

log = logging.getLogger("innerloop")

Control = Literal["other-question", "shuffled"]
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


@dataclass(frozen=True, kw_only=True)
class ProbeSettings(OutputSettings, InputSettings):
    """Which trajectories to measure, with which model, and how finely."""

    questions: str | None = field(
        default=None,
        metadata=about(f"{QUESTION_SOURCES}; by default those of the first RUN among --trajectories."),
    )
    trajectories: tuple[str, ...] = field(
        default=("solutions",),
        metadata=about("solutions (the questions' own), a FILE or a RUN folder; repeat it for several."),
    )
    controls: tuple[Control, ...] = field(
        default=(),
        metadata=about("Also measure trajectories without reasoning about their question; repeat it for both."),
    )
    controls_of: Literal["all", "solution", "file", "sample"] = field(
        default="all", metadata=about("Which trajectories controls are made of.")
    )
    every: int | Literal["all", "sentence"] = field(
        default="all", metadata=about("Measure at every N-th token, at sentence ends, or at all tokens.")
    )
    candidates: Literal["none", "question", "answers"] = field(
        default="none",
        metadata=about(
            "Rival answers to measure beside the reference: the question's own candidates, or the other final "
            "answers found in the trajectories."
        ),
    )
    suffix: str | None = field(
        default=None, metadata=about("Text between trajectory and answer; by default **Final Answer** \\boxed{.")
    )
    method: Literal["shared", "cached", "plain"] = field(
        default="shared", metadata=about("shared is fastest; plain, a full forward per position, is the definition.")
    )
    memory: int | str | None = field(
        default=None,
        metadata=about("Memory to use beside the weights, e.g. 2GiB; by default most of what is free.", free=True),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.every, int):
            at_least("every", self.every, 1)
        if not self.trajectories:
            raise InputError("--trajectories: nothing given; name solutions, a FILE or a RUN folder")
        parse_memory(self.memory)


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """What was measured. ``groups`` and ``differences`` are the numbers of the page, with 95 % intervals.

    ``new_curves`` of the ``trajectories`` were measured now, the others before; ``skipped`` names those that cannot be
    measured, with the reason.
    """

    run: Path
    model: str
    questions: int
    trajectories: int
    new_curves: int
    skipped: dict[str, str]
    groups: tuple[dict[str, Any], ...]
    differences: tuple[dict[str, Any], ...]


def probe(settings: ProbeSettings, *, command: Sequence[str] | None = None) -> ProbeResult:
    """Measure the answer loss along trajectories into a run folder (RaML alg. 3); goes on where an earlier run ended.

    Without missing curves the model is not even loaded. Raises `InputError` for unusable input; ``command`` is what
    the manifest records as the command line.
    """
    out = out_folder("probe", settings)
    questions, given = gather(settings.questions, settings.trajectories, limit=settings.limit, seed=settings.seed)
    with Run.start(out, "probe", configuration(settings), command=command, free=free_fields(settings)) as run:
        work = _Work(run, settings, questions, given)
        done = run.done("curves")
        missing = [trajectory for trajectory in work.wanted if trajectory.id not in done]
        if missing:
            work.measure(missing)
        else:
            work.keep_inputs()
            log.info("nothing to do: %s holds all %d curves of this command", out, len(work.wanted))
    seen = numbers(out)
    return ProbeResult(
        run=out,
        model=settings.model,
        questions=len(questions),
        trajectories=len(work.wanted),
        new_curves=len(missing),
        skipped=work.skipped,
        groups=tuple(seen["groups"]),
        differences=tuple(seen["differences"]),
    )


class _Work:
    """What one call of ``probe`` is about. The model is loaded when it is first needed.

    ``wanted`` are the trajectories to measure, controls included; ``skipped`` those that cannot be, with the reason.
    Nothing is written before the first curve is there, so that unusable input leaves no folder behind.
    """

    def __init__(
        self, run: Run, settings: ProbeSettings, questions: Sequence[Question], given: Sequence[Trajectory]
    ) -> None:
        self._run = run
        self._settings = settings
        self._questions = {question.id: question for question in questions}
        self._new_questions = missing_questions(run, questions)
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
    def _loaded(self) -> LoadedModel:
        loaded = self._settings.load(suffix=self._settings.suffix)
        self._run.record_model(loaded.describe())
        return loaded

    def _controls(self, usable: Sequence[Trajectory]) -> tuple[list[Trajectory], dict[str, str]]:
        """The controls, from the folder where they stand there; and those that cannot be made."""
        chosen = self._settings.controls_of
        bases = [trajectory for trajectory in usable if chosen in ("all", trajectory.source)]
        if self._settings.controls and not bases:
            raise InputError(f"--controls-of {chosen}: there is no such trajectory; use all or add a source")
        names = [f"{base.id}/{kind}" for kind in self._settings.controls for base in bases]
        impossible: dict[str, str] = self._run.noted("no_control") or {}
        found = {trajectory.id: trajectory for trajectory in self._run.trajectories()}
        if any(name not in found and name not in impossible for name in names):
            questions = list(self._questions.values())
            made = make_controls(self._settings.controls, bases, questions, self._loaded, self._settings.seed)
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

    def measure(self, missing: Sequence[Trajectory]) -> None:
        """Probe the missing trajectories, and write their curves as they come."""
        loaded, settings = self._loaded, self._settings  # a misspelt name is told before torch is imported
        from innerloop.inner.probe import position_count
        from innerloop.inner.probe import probe as curves

        items = [self._item(trajectory) for trajectory in missing]
        total = sum(position_count(loaded, item, settings.every) for item in items)
        with progress("probing", total, "positions") as shown, Shards(self._run, "curves", Curve) as shards:
            for number, curve in enumerate(
                curves(
                    loaded,
                    items,
                    every=settings.every,
                    method=settings.method,
                    memory=parse_memory(settings.memory),
                    on_progress=shown.advance,
                )
            ):
                if number == 0:
                    self.keep_inputs()
                shards.add(curve)

    def _item(self, trajectory: Trajectory) -> ProbeItem:
        from innerloop.inner.probe import ProbeItem

        question = self._questions[trajectory.question_id]
        answers = (question.answer, *self._candidates(question))
        for answer in answers:
            try:
                self._loaded.answer_ids(answer)
            except InputError as error:
                raise InputError(f"question {question.id!r}: {error}") from error
        # Sampled tokens hold delimiters and the final part too; the reasoning alone is the text.
        own = trajectory.token_ids if trajectory.source.is_control else None
        return ProbeItem(
            trajectory_id=trajectory.id,
            question_id=question.id,
            prompt=tuple(self._loaded.prompt(question.question, mode=trajectory.mode)),
            trajectory=own if own is not None else tuple(self._loaded.encode(trajectory.text)),
            answer=question.answer,
            candidates=answers[1:],
        )

    def _candidates(self, question: Question) -> tuple[str, ...]:
        """The reference answer and its rivals, or nothing where there is no rival."""
        kind = self._settings.candidates
        others: Sequence[str] = ()
        if kind == "question":
            others = question.candidates
        elif kind == "answers":
            others = [answer for answer in rivals(self.wanted, question) if self._loaded.encode(answer)]
        others = [answer for answer in others if answer != question.answer]
        return (question.answer, *others) if others else ()


def parse_memory(memory: int | str | None) -> int | None:
    """Bytes of ``2GiB``, ``500 MB`` or a plain number; powers of 1024. `InputError` for anything else."""
    if memory is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", str(memory), re.IGNORECASE)
    size = int(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
    if size < 1:
        raise InputError(f"--memory {memory}: write a size such as 2GiB or 500MiB")
    return size
