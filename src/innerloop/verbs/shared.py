"""What the verbs share: common settings, keeping inputs in the run folder, plain results."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json as jsonlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from innerloop.errors import InputError
from innerloop.schema import Question, asked_as
from innerloop.settings import about as about  # the verbs take these three from here
from innerloop.settings import at_least as at_least
from innerloop.settings import check_choices as check_choices
from innerloop.store import Run

if TYPE_CHECKING:
    from innerloop.models import LoadedModel
    from innerloop.prompts import Prompt

log = logging.getLogger("innerloop")

SHARD_CHARACTERS = 1 << 28  # of metadata; Arrow's texts of one column end at 2 GiB


QUESTION_SOURCES = (
    "FILE.jsonl|.csv|.parquet, hf:NAME[:CONFIG]:SPLIT, gym:FAMILY?size=50&seed=0, a benchmark's name or NAME@FILE"
)


@dataclass(frozen=True, kw_only=True)
class OutputSettings:
    """Where results go and how they are told."""

    out: Path | None = field(
        default=None,
        metadata=about("Run folder; by default runs/VERB-HASH, the same one for the same settings.", free=True),
    )
    json: bool = field(
        default=False, metadata=about("Print one JSON object on standard output instead of a table.", free=True)
    )
    debug: bool = field(default=False, metadata=about("Show more log lines, and an error's traceback.", free=True))


@dataclass(frozen=True, kw_only=True)
class InputSettings:
    """Which questions, which model, and how to talk to it. ``None`` takes what the source or model brings along."""

    questions: str | None = field(default=None, metadata=about(QUESTION_SOURCES))
    limit: int | None = field(default=None, metadata=about("Take only the first N questions."))
    draw: bool = field(
        default=False,
        metadata=about(
            "Draw the N questions of --limit from --seed instead, e.g. --limit 500 --draw; a larger N keeps them.",
            later=True,
        ),
    )
    # As `innerloop.questions.cleaning` has them, which is not imported for a help.
    clean: tuple[Literal["integer-answer", "no-choice", "no-proof", "no-picture", "unique"], ...] = field(
        default=(),
        metadata=about(
            "Leave out questions first, and say how many: keep whole-number answers (RaML appendix C.2), no options, "
            "no proofs, no pictures, each question once; e.g. --clean integer-answer --clean unique.",
            later=True,
        ),
    )
    seed: int = field(default=0, metadata=about("Of everything that is drawn."))
    model: str = field(
        default="smollm2", metadata=about("smollm2 (bundled), a folder, a .gguf file or a hub id (organisation/name).")
    )
    # Written out: the annotations of a base are also looked up in the modules of the verbs' own settings.
    dtype: Literal["auto", "float32", "bfloat16", "float16", "float64"] = field(
        default="auto", metadata=about("Type of the weights; auto: float32 on a CPU, bfloat16 on a GPU.")
    )
    device: str = field(default="auto", metadata=about("auto, cpu, cuda or cuda:N.", free=True))
    threads: int | None = field(default=None, metadata=about("CPU threads; by default all cores.", free=True))
    prompt: str | None = field(
        default=None,
        metadata=about(
            "What is said around every question: paper, raml-grpo, choice, function … (eval --list shows them) or a "
            "text with {question} in it; by default what fits the benchmark or the kind of answer."
        ),
    )
    instruction: str | None = field(
        default=None, metadata=about("What every prompt says behind the question, in place of --prompt.")
    )
    system: str | None = field(
        default=None,
        metadata=about(
            'System turn before every question, e.g. --system "Answer in English.", or the name of a prompt that has '
            "one; by default that of --prompt, the question's file or the model; an empty text leaves it out.",
            later=True,
        ),
    )
    think_start: str | None = field(default=None, metadata=about("Opens the thinking part, e.g. <think>."))
    think_end: str | None = field(default=None, metadata=about("Closes the thinking part, e.g. </think>."))
    no_thinking: Literal["switch", "text"] = field(
        default="switch",
        metadata=about(
            "How a model with a thinking switch is asked not to think: by the switch, or as all others by the paper's "
            "text after the opening delimiter, e.g. --mode no-thinking --no-thinking text.",
            later=True,
        ),
    )
    date: str | None = field(
        default=None,
        metadata=about(
            "The day that a chat template with a date writes into prompts, e.g. --date 2025-03-01; by default that of "
            "the run, else today.",
            later=True,
        ),
    )
    trust_remote_code: bool = field(
        default=False, metadata=about("Let Python code that comes with the model run; only for sources you trust.")
    )

    def __post_init__(self) -> None:
        at_least("limit", self.limit, 1)
        if self.draw and self.limit is None:
            raise InputError("--draw: say with --limit how many questions to draw")
        at_least("seed", self.seed, 0)
        at_least("threads", self.threads, 1)
        check_choices(self)
        if self.date is not None:
            check_day(self.date)
        self._prompt()
        self._system()

    def which(self) -> dict[str, Any]:
        """Which questions of a source are taken, as `innerloop.questions.load` takes it."""
        return {"limit": self.limit, "seed": self.seed, "draw": self.draw, "clean": self.clean}

    def worded(self, questions: Sequence[Question]) -> list[Question]:
        """The questions, each with the template and the system turn that it is put in; ``None`` leaves it to the model.

        What is stored with a run says how it was asked, so that all that goes on with the run asks in the same way.
        """
        from innerloop.prompts import default

        own, asked = self._prompt(), self._system()

        def system(question: Question) -> str | None:
            if asked is not None:
                return asked
            return question.system_turn if own is None else own.system

        return [
            replace(
                question,
                prompt_template=own.template if own else question.prompt_template or default(question),
                system_turn=system(question),
            )
            for question in questions
        ]

    def _prompt(self) -> Prompt | None:
        from innerloop.prompts import SLOT, Prompt, resolve

        if self.prompt is not None and self.instruction is not None:
            raise InputError("--prompt and --instruction: give one of them; a prompt has an instruction of its own")
        if self.instruction is not None:
            return Prompt(template=f"{SLOT}\n\n{self.instruction}" if self.instruction else SLOT, about="given")
        return None if self.prompt is None else resolve(self.prompt, "--prompt")

    def _system(self) -> str | None:
        from innerloop.prompts import PROMPTS

        known = PROMPTS.get(self.system or "")
        if known is not None and known.system is None:
            raise InputError(f"--system {self.system}: that prompt has no system turn; write a text, or use --prompt")
        return self.system if known is None else known.system

    def manner(self) -> dict[str, Any]:
        """How to talk to the model, as `innerloop.speaker.load_speaker` takes it."""
        names = ("instruction", "think_start", "think_end", "no_thinking", "date")
        own = {name: getattr(self, name) for name in names}
        return own | {"system": self._system()}

    def load(self, *, suffix: str | None = None) -> LoadedModel:
        """The model of these settings. This is the slow step: call it only when there is work to do."""
        from innerloop import models

        log.info("loading %s", self.model)
        return models.load(
            self.model,
            dtype=self.dtype,
            device=self.device,
            threads=self.threads,
            suffix=suffix,
            trust_remote_code=self.trust_remote_code,
            **self.manner(),
        )


def free_fields(settings: Any) -> set[str]:
    """Names of the settings that do not affect results."""
    return {entry.name for entry in dataclasses.fields(settings) if entry.metadata.get("free")}


def extent_fields(settings: Any) -> set[str]:
    """Names of the settings that say how much is done."""
    return {entry.name for entry in dataclasses.fields(settings) if entry.metadata.get("extent")}


def configuration(settings: Any) -> dict[str, Any]:
    """The settings as JSON-able values, for the manifest; where they stand for other ones, those."""
    instead = settings.stands_for() if hasattr(settings, "stands_for") else {}
    unsaid = {
        entry.name
        for entry in dataclasses.fields(settings)
        if entry.metadata.get("later") and getattr(settings, entry.name) == entry.default
    }
    return {name: value for name, value in jsonable(settings).items() if name not in unsaid} | instead


def out_folder(verb: str, settings: Any) -> Path:
    """``--out``, or a folder under ``runs`` whose name follows from everything that affects results."""
    if settings.out is not None:
        return Path(settings.out)
    free = free_fields(settings) | extent_fields(settings)
    decisive = {name: value for name, value in configuration(settings).items() if name not in free}
    digest = hashlib.sha256(jsonlib.dumps(decisive, sort_keys=True).encode()).hexdigest()
    return Path("runs") / f"{verb}-{digest[:8]}"


def check_day(text: str) -> None:
    """`InputError` for what is no day of the calendar."""
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        raise InputError(f"--date {text}: write a day such as 2025-03-01") from None


def jsonable(value: Any) -> Any:
    """Plain JSON values: dataclasses as objects, paths and enums as text, NaN and infinities as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {entry.name: jsonable(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): jsonable(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(entry) for entry in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def missing_questions(
    run: Run, questions: Sequence[Question], stored: Sequence[Question] | None = None
) -> list[Question]:
    """The questions that the folder lacks; `InputError` when it holds another question under the same id.

    ``stored`` are those that it holds, where they have been read already.
    """
    known = {question.id: question for question in (run.questions() if stored is None else stored)}
    for question in questions:
        before = known.get(question.id, question)
        if before != question and asked_as(before, question) == question:
            raise InputError(
                f"{run.path}: question {question.id!r} was put in another prompt when this run began; give the same "
                "--prompt or --instruction again (and --system, --date), or choose another --out"
            )
        if before != question:
            raise InputError(
                f"{run.path}: question {question.id!r} is not the same as when this run began; "
                f"restore the source or choose another --out"
            )
    return [question for question in questions if question.id not in known]


def write_questions(run: Run, questions: Sequence[Question]) -> None:
    """Add questions to the folder, where there are any; in several shards where their hidden tests are large."""
    part: list[Question] = []
    size = 0
    for question in questions:
        part.append(question)
        size += len(question.metadata or "")
        if size >= SHARD_CHARACTERS:
            run.write("questions", Question.to_table(part))
            part, size = [], 0
    if part:
        run.write("questions", Question.to_table(part))
