"""``train meta``: meta-learning over families of questions; support is trajectories, query is what they should help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path  # noqa: F401  # cyclopts looks the annotations of the bases up here
from typing import TYPE_CHECKING, Any, Literal

from innerloop.errors import InputError
from innerloop.processes import is_main
from innerloop.schema import Question, Step, Trajectory
from innerloop.store import Run
from innerloop.verbs.shared import QUESTION_SOURCES, about, at_least
from innerloop.verbs.train.apart import apart
from innerloop.verbs.train.opening import opening
from innerloop.verbs.train.result import TrainResult
from innerloop.verbs.train.settings import OuterSettings

if TYPE_CHECKING:
    from innerloop.models import LoadedModel
    from innerloop.outer.meta.sampler import Record, TaskSampler
    from innerloop.outer.meta.settings import MetaSettings as Algorithm
    from innerloop.outer.meta.train import Metrics
    from innerloop.speaker import Speaker
    from innerloop.verbs.train.planning import DryRun

Families = dict[str, tuple[list[Question], list[Trajectory]]]  # by the name of their source


@dataclass(frozen=True, kw_only=True)
class MetaSettings(OuterSettings):
    """Which families, what a task is made of, which algorithm, and how families are combined."""

    questions: tuple[str, ...] = field(  # type: ignore[assignment]
        metadata=about(f"{QUESTION_SOURCES}; each source is a family.")
    )
    trajectories: tuple[str, ...] = field(
        default=("oracle",), metadata=about("oracle, solutions, a FILE or a RUN folder; those of the right answer.")
    )
    algorithm: Literal["maml", "fomaml", "reptile", "anil", "meta-sgd", "joint"] = field(
        default="fomaml",
        metadata=about(
            "maml, anil and meta-sgd differentiate through the inner loop, fomaml and reptile do not; joint has none."
        ),
    )
    support: int = field(default=4, metadata=about("Trajectories that a task adapts to."))
    query: int = field(default=4, metadata=about("Rows that it is judged on afterwards."))
    query_of: Literal["trajectories", "answers"] = field(
        default="trajectories",
        metadata=about("What these rows are: trajectories with answers, or answers alone."),
    )
    within: Literal["family", "question"] = field(
        default="family",
        metadata=about("Support and query from different questions of a family, or from one, which leaks its answer."),
    )
    inner_steps: int = field(default=1, metadata=about("Steps of gradient descent on the support."))
    inner_rate: float = field(default=0.01, metadata=about("Rate of these steps; meta-sgd only starts from it."))
    tasks: int = field(default=4, metadata=about("Tasks of an outer step, families in turn."))
    combine: Literal["mean", "robust", "pcgrad", "cagrad", "upgrad"] = field(
        default="mean",
        metadata=about("Of the families' gradients: mean; robust: min–max; or surgery where they conflict."),
    )
    adaptive: bool = field(
        default=False, metadata=about("Draw those support trajectories more often that helped most so far.")
    )
    budget_tokens: int | None = field(default=None, metadata=about("Stop before more tokens go through the model."))
    budget_flops: float | None = field(default=None, metadata=about("Stop before more FLOPs are spent."))

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("support", "query"):
            at_least(name, getattr(self, name), 1)
        if not self.questions:
            raise InputError("--questions: nothing given; name a source for each family")
        self.plan()

    def plan(self) -> Algorithm:
        """The settings of the algorithm; `InputError` for values that make no sense."""
        from innerloop.outer.meta.settings import MetaSettings as Algorithm

        return Algorithm(
            algorithm=self.algorithm,
            inner_steps=self.inner_steps,
            inner_rate=self.inner_rate,
            steps=self.max_steps or 100,
            tasks=self.tasks,
            budget_tokens=self.budget_tokens,
            budget_flops=self.budget_flops,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            max_norm=self.clip or None,
            warmup=self.warmup,
            combine=self.combine,
            seed=self.seed,
        )


def meta(settings: MetaSettings, *, command: Sequence[str] | None = None) -> TrainResult | DryRun:
    """Meta-train a model into a run folder; goes on from the last checkpoint. What was spent is in the steps.

    Raises `InputError` for unusable input; ``command`` is what the manifest records as the command line.
    """
    families = _families(settings)
    questions = [question for own, _ in families.values() for question in own]
    if settings.dry_run:
        return _plan(settings, families, command)
    with opening("meta", settings, questions, command) as opened:
        if not opened.finished:
            loaded = opened.load()
            records = _records(loaded, families)
            opened.keep(rows=sum(len(given) for _, given in families.values()))
            _train(settings, opened.run, loaded, records)
        return opened.result()


def _families(settings: MetaSettings) -> Families:
    """Questions and their right trajectories, by the name of their source."""
    from innerloop.verbs.scoring import short_name
    from innerloop.verbs.trajectories import gather, right_ones

    families: Families = {}
    for source in settings.questions:
        name = short_name(source)
        if name in families:
            raise InputError(f"--questions: two sources are called {name}; give one source for each family")
        questions, given = gather(source, settings.trajectories, **settings.which())
        kept, _ = right_ones(given, questions)
        families[name] = (apart(settings, questions), kept)
    return families


def _plan(settings: MetaSettings, families: Families, command: Sequence[str] | None) -> DryRun:
    from innerloop.outer.estimate import build_of
    from innerloop.outer.meta.language import LanguageLoss
    from innerloop.outer.meta.train import MetaTraining
    from innerloop.verbs.train.planning import Extent, Phase, planned, skeleton

    model, plan = skeleton(settings), settings.plan()
    records = _records(settings.speaker(), families)
    tasks = _sampler(settings, records)
    loss = LanguageLoss(model, pad_id=0, second_order=plan.second_order)
    counted = MetaTraining(model, loss, tasks, plan)
    while counted.done < plan.steps and not counted.over_budget(drawn := tasks.draw(counted.done)):
        counted.count(drawn)
    build, longest = build_of(model), max(len(row.input_ids) for r in records for row in (*r.trajectories, r.answer))
    steps = plan.inner_steps if plan.second_order else 1
    extent = Extent(
        questions=len(records),
        rows=sum(len(record.trajectories) for record in records),
        steps=counted.done,
        rows_at_once=2 * steps * settings.support + settings.query  # a second order keeps a way back through each step
        if plan.second_order
        else max(settings.support, settings.query),
        longest=longest,
        tokens_per_pass=None,
    )
    spent = Phase(
        name="inner loops and queries",
        tokens=counted.spent.tokens,
        flops=counted.spent.flops,
        formula="of matrices, as docs/meta.md counts them; padding counts",
    )
    return planned("meta", settings, build, extent, [spent], command, logits=True, copied=build.trained * steps)


def _records(speaker: Speaker, families: Families) -> list[Record]:
    """The records of all families."""
    return [record for name, own in families.items() for record in _of_family(speaker, name, *own)]


def _of_family(
    speaker: Speaker, family: str, questions: Sequence[Question], given: Sequence[Trajectory]
) -> list[Record]:
    from innerloop.outer.meta.sampler import Record
    from innerloop.outer.rows import Weights, make_row

    weights = Weights()
    own: dict[str, list[Trajectory]] = {question.id: [] for question in questions}
    for trajectory in given:
        if trajectory.question_id in own:
            own[trajectory.question_id].append(trajectory)
    return [
        Record(
            family=family,
            question_id=question.id,
            trajectories=tuple(make_row(speaker, question, trajectory, weights) for trajectory in own[question.id]),
            answer=make_row(speaker, question, None, weights),
        )
        for question in questions
    ]


def _sampler(settings: MetaSettings, records: Sequence[Record]) -> TaskSampler:
    from innerloop.outer.meta.choosing import Choosing
    from innerloop.outer.meta.sampler import Shape, TaskSampler

    shape = Shape(support=settings.support, query=settings.query, kind=settings.query_of, scope=settings.within)
    choosing = Choosing() if settings.adaptive else None
    return TaskSampler(records, shape, tasks=settings.tasks, seed=settings.seed, choosing=choosing)


def _train(settings: MetaSettings, run: Run, loaded: LoadedModel, records: Sequence[Record]) -> None:
    from innerloop.outer.callbacks import Clock, Watch
    from innerloop.outer.guard import naming
    from innerloop.outer.meta import checkpoint
    from innerloop.outer.meta.language import LanguageLoss
    from innerloop.outer.meta.train import MetaTraining, meta_train
    from innerloop.verbs.train.recording import recording
    from innerloop.verbs.train.saved import lora_config, save_model
    from innerloop.verbs.train.watching import watcher

    plan = settings.plan()
    model: Any = loaded.model
    if (lora := lora_config(settings)) is not None:
        from peft import get_peft_model

        model = get_peft_model(model, lora)
    tasks = _sampler(settings, records)
    pad = loaded.tokenizer.pad_token_id
    loss = LanguageLoss(model, pad_id=0 if pad is None else pad, second_order=plan.second_order)
    file = run.path / "checkpoints" / "meta.safetensors"
    resume = checkpoint.latest(file)
    clock = Clock((resume.values.get("seconds") or 0.0) if resume is not None else 0.0)
    with recording(run, plan.steps, "meta-training") as kept:
        watch = Watch(watcher(settings, loaded), settings.watch_every, kept.add, clock)

        def on_step(training: MetaTraining, metrics: Metrics) -> None:
            kept.add(Step.of("train", metrics.step, clock.seconds, _numbers(metrics)))
            watch.look(metrics.step)
            if metrics.step % settings.save_every == 0 and is_main():
                kept.flush()
                state = training.state()
                checkpoint.save(checkpoint.MetaState(state.tensors, state.values | {"seconds": clock.seconds}), file)

        if resume is None:
            watch.look(0)
        with naming(settings.model):
            result = meta_train(model, loss, tasks, plan, resume=resume, on_step=on_step)
        watch.look(result.steps, last=True)
    run.note("stopped", result.stopped)
    save_model(settings, run, model, loaded)


def _numbers(metrics: Metrics) -> dict[str, float]:
    """One step in numbers, by the names that all recipes use where they mean the same."""
    found = {
        "loss": metrics.query_loss,
        "support_loss": metrics.support_loss,
        "grad_norm": metrics.gradient_norm,
        "learning_rate": metrics.learning_rate,
        "num_tokens": float(metrics.spent.tokens),
        "flops": float(metrics.spent.flops),
    }
    if metrics.gain is not None:
        found["gain"] = metrics.gain
    found |= {f"loss/{family}": value for family, value in metrics.families.items()}
    return found | {f"weight/{family}": value for family, value in metrics.weights.items()}
