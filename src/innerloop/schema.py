"""The records that flow from stage to stage, and their Arrow schemas.

Everything downstream (tables, statistics, the page) is a reader of these. Unknown is ``None`` (null in Parquet),
never 0 and never an empty string.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Self

import pyarrow as pa


class Status(StrEnum):
    """How a trajectory ended."""

    COMPLETE = "complete"
    TRUNCATED = "truncated"  # the token limit came before the end
    ERROR = "error"  # the engine failed; ``Trajectory.reason`` says why


class Outcome(StrEnum):
    """What a verifier says of a final answer. Undecided is never counted as wrong."""

    RIGHT = "right"
    WRONG = "wrong"
    UNDECIDED = "undecided"


class Mode(StrEnum):
    """Which way the model was asked to answer."""

    PLAIN = "plain"  # a chain of thought in the visible answer, no thinking delimiters
    THINKING = "thinking"
    NO_THINKING = "no-thinking"


class Source(StrEnum):
    """Where a trajectory comes from. The controls are made from the trajectories of the same run."""

    SOLUTION = "solution"  # the question's own worked solution
    ORACLE = "oracle"  # derived step by step for a reasoning-gym question
    FILE = "file"
    SAMPLE = "sample"  # sampled from an engine
    OTHER_QUESTION = "other-question"  # control: a trajectory that belongs to another question
    SHUFFLED = "shuffled"  # control: the same tokens in random order
    FILLER = "filler"  # control: as many tokens that say nothing

    @property
    def is_control(self) -> bool:
        """Whether the trajectory was made to carry no reasoning about its question."""
        return self in (Source.OTHER_QUESTION, Source.SHUFFLED, Source.FILLER)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A verifier's word on one final answer. ``reason`` is always given where the outcome is undecided."""

    outcome: Outcome
    reason: str | None = None
    answer: str | None = None  # the final answer that was found in the text, as written


class _Record:
    """Conversion between a frozen dataclass and rows of its Arrow ``SCHEMA``."""

    SCHEMA: ClassVar[pa.Schema]

    @classmethod
    def to_table(cls, records: Iterable[Self]) -> pa.Table:
        """One row per record, columns as in ``SCHEMA``."""
        rows = [{name: getattr(record, name) for name in cls.SCHEMA.names} for record in records]
        return pa.Table.from_pylist(rows, schema=cls.SCHEMA)

    @classmethod
    def from_table(cls, table: pa.Table) -> list[Self]:
        """The records of a table written by ``to_table``.

        Columns that this version does not know are left out; where the table says nothing, the field's default holds.
        """
        known = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]  # dataclass by contract
        return [
            cls(
                **{
                    name: cls._restore(name, value)
                    for name, value in row.items()
                    if name in known and value is not None
                }
            )
            for row in table.to_pylist()
        ]

    @classmethod
    def _restore(cls, name: str, value: Any) -> Any:  # noqa: ARG003  # subclasses look at the name
        return value


@dataclass(frozen=True, kw_only=True)
class Question(_Record):
    """One task.

    ``answer`` is the reference answer a; ``verifier`` names how a final answer is judged (``math``, ``text``,
    ``choice``, ``number``, ``quantity``, ``literal``, ``code``, ``gym:FAMILY``, ``none``; ``None`` means math);
    ``candidates`` are rival answers for the belief over candidates; ``metadata`` is a JSON text that a verifier may
    need (reasoning-gym's entry, the unit tests of code). ``answer`` is empty where only tests judge.
    ``prompt_template`` is the user's turn with ``{question}`` in the question's place (`innerloop.prompts`), and
    ``system_turn`` what is said before it: None leaves that to the model, an empty text says nothing.
    ``prompt_date`` is the day (``2025-03-01``) that the model's chat template wrote, where it writes one.
    """

    id: str
    question: str
    answer: str
    solution: str | None = None
    domain: str | None = None
    level: str | None = None
    verifier: str | None = None
    candidates: tuple[str, ...] = ()
    metadata: str | None = None
    prompt_template: str | None = None
    system_turn: str | None = None
    prompt_date: str | None = None

    SCHEMA: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("question", pa.string(), nullable=False),
            pa.field("answer", pa.string(), nullable=False),
            ("solution", pa.string()),
            ("domain", pa.string()),
            ("level", pa.string()),
            ("verifier", pa.string()),
            ("candidates", pa.list_(pa.string())),
            ("metadata", pa.string()),
            ("prompt_template", pa.string()),
            ("system_turn", pa.string()),
            ("prompt_date", pa.string()),
        ]
    )

    @classmethod
    def _restore(cls, name: str, value: Any) -> Any:
        return tuple(value) if name == "candidates" else value


def asked_as(question: Question, other: Question) -> Question:
    """The question in the prompt of another one."""
    own = {name: getattr(other, name) for name in ("prompt_template", "system_turn", "prompt_date")}
    return dataclasses.replace(question, **own)


@dataclass(frozen=True, kw_only=True)
class Trajectory(_Record):
    """One chain of thought t = t₁…tₙ for one question.

    ``id`` is stable and unique in a run, e.g. ``gsm8k-test-0/solution``, ``…/file-2``, ``…/sample-0``,
    ``…/no-thinking-0``, ``…/oracle-division-short-0``; a control's id ends in the control's name:
    ``…/solution/shuffled``.
    ``text`` is the reasoning between the prompt and the answer, without thinking delimiters; ``final`` is what the
    model showed after its thinking, where there was a thinking part. ``token_ids`` are the tokens that the model
    itself produced (all of them, delimiters and final part included), absent for given text; ``tokenizer`` names the
    tokenizer that they belong to (`innerloop.tokenizer_identity`). ``tokens`` counts them and ``logprob`` is their
    total log-probability in nats under the model at temperature 1. ``seed`` is the row's own.

    ``outcome`` is the verdict that counts. Of a trajectory that came with a verdict and was judged again, ``recorded``
    is the one that it came with and ``judged`` the new one: both are kept, whichever counts.
    """

    id: str
    question_id: str
    text: str
    source: Source
    mode: Mode = Mode.PLAIN
    sample: int = 0
    model: str | None = None
    final: str | None = None
    answer: str | None = None
    status: Status = Status.COMPLETE
    reason: str | None = None
    token_ids: tuple[int, ...] | None = None
    tokenizer: str | None = None
    tokens: int | None = None
    logprob: float | None = None
    seed: int | None = None
    outcome: Outcome | None = None
    outcome_reason: str | None = None
    recorded: Outcome | None = None
    recorded_reason: str | None = None
    judged: Outcome | None = None
    judged_reason: str | None = None

    SCHEMA: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("question_id", pa.string(), nullable=False),
            pa.field("text", pa.string(), nullable=False),
            pa.field("source", pa.string(), nullable=False),
            ("mode", pa.string()),
            ("sample", pa.int32()),
            ("model", pa.string()),
            ("final", pa.string()),
            ("answer", pa.string()),
            ("status", pa.string()),
            ("reason", pa.string()),
            ("token_ids", pa.list_(pa.int32())),
            ("tokenizer", pa.string()),
            ("tokens", pa.int32()),
            ("logprob", pa.float64()),
            ("seed", pa.int64()),
            ("outcome", pa.string()),
            ("outcome_reason", pa.string()),
            ("recorded", pa.string()),
            ("recorded_reason", pa.string()),
            ("judged", pa.string()),
            ("judged_reason", pa.string()),
        ]
    )

    @property
    def made_of(self) -> str | None:
        """The id of the trajectory that a control was made of; None for any other trajectory."""
        origin, _, name = self.id.rpartition("/")
        return origin if self.source.is_control and name == self.source.value else None

    @classmethod
    def _restore(cls, name: str, value: Any) -> Any:
        kinds: dict[str, Any] = {
            "source": Source,
            "mode": Mode,
            "status": Status,
            "outcome": Outcome,
            "recorded": Outcome,
            "judged": Outcome,
            "token_ids": tuple,
        }
        return kinds[name](value) if name in kinds else value


@dataclass(frozen=True, kw_only=True)
class Curve(_Record):
    """The answer loss along one trajectory (RaML alg. 3), one entry per measured position.

    ``position`` counts the tokens of t that were in the context (0…n, rising). ``token`` is the text consumed since
    the previous measured position and ``token_id`` its last token (both null at position 0), so the texts joined
    give the trajectory back up to the last measured position. ``loss`` is L̂ᵢ in nats per answer token;
    ``answer_tokens`` is |a|, so ``loss × answer_tokens`` is −log p of the whole answer. ``plain_loss`` is the same loss
    by the definition where a fast method was compared with it, else null, or nothing. ``candidate_losses`` holds, per
    position, one loss per candidate answer (nats per candidate token), or nothing.
    """

    question_id: str
    trajectory_id: str
    position: tuple[int, ...]
    token_id: tuple[int | None, ...]
    token: tuple[str | None, ...]
    loss: tuple[float, ...]
    answer_tokens: int
    plain_loss: tuple[float | None, ...] = ()
    candidates: tuple[str, ...] = ()
    candidate_tokens: tuple[int, ...] = ()
    candidate_losses: tuple[tuple[float, ...], ...] = ()

    SCHEMA: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("question_id", pa.string(), nullable=False),
            pa.field("trajectory_id", pa.string(), nullable=False),
            pa.field("position", pa.int32(), nullable=False),
            ("token_id", pa.int32()),
            ("token", pa.string()),
            pa.field("loss", pa.float32(), nullable=False),
            pa.field("answer_tokens", pa.int32(), nullable=False),
            ("plain_loss", pa.float32()),
            ("candidates", pa.list_(pa.string())),
            ("candidate_tokens", pa.list_(pa.int32())),
            ("candidate_losses", pa.list_(pa.float32())),
        ]
    )

    @classmethod
    def to_table(cls, records: Iterable[Curve]) -> pa.Table:
        """One row per position of every curve."""
        rows = [
            {
                "question_id": curve.question_id,
                "trajectory_id": curve.trajectory_id,
                "position": position,
                "token_id": curve.token_id[i],
                "token": curve.token[i],
                "loss": curve.loss[i],
                "answer_tokens": curve.answer_tokens,
                "plain_loss": curve.plain_loss[i] if curve.plain_loss else None,
                "candidates": list(curve.candidates) or None,
                "candidate_tokens": list(curve.candidate_tokens) or None,
                "candidate_losses": list(curve.candidate_losses[i]) if curve.candidate_losses else None,
            }
            for curve in records
            for i, position in enumerate(curve.position)
        ]
        return pa.Table.from_pylist(rows, schema=cls.SCHEMA)

    @classmethod
    def from_table(cls, table: pa.Table) -> list[Curve]:
        """The curves of a table written by ``to_table``, in the order of first appearance, positions rising."""
        grouped: dict[str, list[dict[str, Any]]] = {}
        for row in table.to_pylist():
            grouped.setdefault(row["trajectory_id"], []).append(row)
        curves = []
        for trajectory_id, rows in grouped.items():
            rows.sort(key=lambda row: row["position"])
            first = rows[0]
            curves.append(
                cls(
                    question_id=first["question_id"],
                    trajectory_id=trajectory_id,
                    position=tuple(row["position"] for row in rows),
                    token_id=tuple(row["token_id"] for row in rows),
                    token=tuple(row["token"] for row in rows),
                    loss=tuple(row["loss"] for row in rows),
                    answer_tokens=first["answer_tokens"],
                    plain_loss=tuple(row["plain_loss"] for row in rows)
                    if any(row.get("plain_loss") is not None for row in rows)
                    else (),
                    candidates=tuple(first.get("candidates") or ()),
                    candidate_tokens=tuple(first.get("candidate_tokens") or ()),
                    candidate_losses=tuple(tuple(row["candidate_losses"]) for row in rows)
                    if all(row.get("candidate_losses") is not None for row in rows)
                    else (),
                )
            )
        return curves


@dataclass(frozen=True, kw_only=True)
class Update(_Record):
    """The inner-loop weights θ'ᵢ at one position of one trajectory, in numbers (RaML eq. 4, prop. 2.1).

    ``id`` is the trajectory's, with ``@untrained`` behind it where an untrained model of the same shape was measured.
    Losses are in nats per answer token: ``full_loss`` is L̂ᵢ, ``base_loss`` the loss without the trajectory at the same
    position ids, ``loss`` that of the patched model without the trajectory. ``residual`` is max |Δ log p| between
    patched and full run over the answer's tokens. ``norm`` is ‖θ'ᵢ − θ‖ over all patched weights, ``relative`` its
    ratio to their ‖θ‖, ``condition`` the worst condition number among the layers' solves, ``deficient`` how many
    layers had a solve of less than full rank. ``step_norm`` is ‖θ'ᵢ − θ'ⱼ‖ with j the stored position before.

    Alignment (null where it was not asked for), with g = ∇L_q(θ) on the patched weights: ``predicted`` is ⟨θ'ᵢ − θ, g⟩
    in nats per answer token and ``null_sd`` the standard deviation of what random patches of the same norms in the
    same row spaces predict (their mean is zero); ``gradient_norm`` is ‖g‖ and ``cosine`` is cos(θ'ᵢ − θ, −g).
    ``step_predicted`` is ⟨θ'ᵢ − θ'ⱼ, ∇L_q(θ'ⱼ)⟩. ``causal_…`` take the layer-causal gradient (Deutch et al. 2024).
    The lists have one entry per layer, from the first on; ``layer_error`` is the paper gauge's own approximation error.
    """

    id: str
    question_id: str
    trajectory_id: str
    position: int
    gauge: str
    scope: str
    placement: str
    untrained: bool = False
    loss: float
    full_loss: float
    base_loss: float
    residual: float
    rank: int
    norm: float
    relative: float
    condition: float
    deficient: int = 0
    step_norm: float | None = None
    layer_norm: tuple[float, ...] = ()
    layer_step: tuple[float, ...] | None = None
    layer_error: tuple[float, ...] | None = None
    predicted: float | None = None
    null_sd: float | None = None
    gradient_norm: float | None = None
    cosine: float | None = None
    layer_predicted: tuple[float, ...] | None = None
    layer_null_sd: tuple[float, ...] | None = None
    layer_cosine: tuple[float, ...] | None = None
    step_predicted: float | None = None
    step_null_sd: float | None = None
    causal_predicted: float | None = None
    causal_null_sd: float | None = None
    causal_cosine: float | None = None

    SCHEMA: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("question_id", pa.string(), nullable=False),
            pa.field("trajectory_id", pa.string(), nullable=False),
            pa.field("position", pa.int32(), nullable=False),
            pa.field("gauge", pa.string(), nullable=False),
            pa.field("scope", pa.string(), nullable=False),
            pa.field("placement", pa.string(), nullable=False),
            pa.field("untrained", pa.bool_(), nullable=False),
            pa.field("loss", pa.float64(), nullable=False),
            pa.field("full_loss", pa.float64(), nullable=False),
            pa.field("base_loss", pa.float64(), nullable=False),
            pa.field("residual", pa.float64(), nullable=False),
            pa.field("rank", pa.int32(), nullable=False),
            pa.field("norm", pa.float64(), nullable=False),
            pa.field("relative", pa.float64(), nullable=False),
            pa.field("condition", pa.float64(), nullable=False),
            pa.field("deficient", pa.int32(), nullable=False),
            ("step_norm", pa.float64()),
            ("layer_norm", pa.list_(pa.float32())),
            ("layer_step", pa.list_(pa.float32())),
            ("layer_error", pa.list_(pa.float32())),
            ("predicted", pa.float64()),
            ("null_sd", pa.float64()),
            ("gradient_norm", pa.float64()),
            ("cosine", pa.float64()),
            ("layer_predicted", pa.list_(pa.float32())),
            ("layer_null_sd", pa.list_(pa.float32())),
            ("layer_cosine", pa.list_(pa.float32())),
            ("step_predicted", pa.float64()),
            ("step_null_sd", pa.float64()),
            ("causal_predicted", pa.float64()),
            ("causal_null_sd", pa.float64()),
            ("causal_cosine", pa.float64()),
        ]
    )

    @classmethod
    def _restore(cls, name: str, value: Any) -> Any:  # noqa: ARG003
        return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True, kw_only=True)
class Landscape(_Record):
    """L_q on a grid of weights around θ, without a trajectory in the context (RaML alg. 4, fig. 2).

    ``plane`` says what the axes are: ``random-filter`` and ``random-tensor`` (two random directions, normalised per
    filter, Li et al. 2018, or per tensor), ``path`` (the first two principal directions of θ'₁ − θ … θ'ₙ − θ, in units
    of the path's own length), ``path-line`` (along θ'ₙ − θ) and ``gradient-line`` (along −∇L_q(θ), scaled to the same
    length). ``loss`` is in nats per answer token, row by row: ``alpha`` outside, ``beta`` inside; a line has the one
    ``beta`` 0. The path's own points, where there are some, stand in ``position``, ``path_alpha``, ``path_beta`` and
    ``path_loss``; ``captured`` is the share of the path's squared length that the plane holds.

    Sharpness (null where it was not asked for), of L_q at θ over ``sharpness_weights``: the highest and the lowest
    eigenvalue of the Hessian, its trace and the standard error of that estimate.
    """

    id: str
    question_id: str
    trajectory_id: str | None = None
    plane: str
    seed: int | None = None
    alpha: tuple[float, ...]
    beta: tuple[float, ...]
    loss: tuple[float, ...]
    position: tuple[int, ...] = ()
    path_alpha: tuple[float, ...] = ()
    path_beta: tuple[float, ...] = ()
    path_loss: tuple[float, ...] = ()
    captured: float | None = None
    sharpness_weights: str | None = None
    top_eigenvalue: float | None = None
    low_eigenvalue: float | None = None
    trace: float | None = None
    trace_error: float | None = None

    SCHEMA: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("question_id", pa.string(), nullable=False),
            ("trajectory_id", pa.string()),
            pa.field("plane", pa.string(), nullable=False),
            ("seed", pa.int64()),
            pa.field("alpha", pa.list_(pa.float64()), nullable=False),
            pa.field("beta", pa.list_(pa.float64()), nullable=False),
            pa.field("loss", pa.list_(pa.float32()), nullable=False),
            ("position", pa.list_(pa.int32())),
            ("path_alpha", pa.list_(pa.float64())),
            ("path_beta", pa.list_(pa.float64())),
            ("path_loss", pa.list_(pa.float64())),
            ("captured", pa.float64()),
            ("sharpness_weights", pa.string()),
            ("top_eigenvalue", pa.float64()),
            ("low_eigenvalue", pa.float64()),
            ("trace", pa.float64()),
            ("trace_error", pa.float64()),
        ]
    )

    @classmethod
    def _restore(cls, name: str, value: Any) -> Any:  # noqa: ARG003
        return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True, kw_only=True)
class Score(_Record):
    """What the samples of one question came to, in whole numbers from which every metric can be computed again.

    ``series`` names what is compared (a run, a model, a mode); ``cluster`` is shared by questions made from one
    template. ``failed`` of the undecided samples are those whose engine failed. ``tokens`` is the mean number of tokens
    of a sample, where it is known. Votes: one entry per different answer, how many of the samples that gave it are
    right, wrong and undecided; ``abstained`` samples gave no answer (``abstained_undecided`` of them are undecided).
    ``losses`` are the answer losses (nats per answer token) at the end of the samples that were probed and decided,
    ``loss_values`` 1 where that sample is right and 0 where it is wrong.
    """

    id: str
    series: str
    question_id: str
    benchmark: str | None = None
    domain: str | None = None
    level: str | None = None
    cluster: str | None = None
    right: int
    wrong: int
    undecided: int
    failed: int = 0
    truncated: int = 0
    tokens: float | None = None
    votes_right: tuple[int, ...] = ()
    votes_wrong: tuple[int, ...] = ()
    votes_undecided: tuple[int, ...] = ()
    abstained: int = 0
    abstained_undecided: int = 0
    losses: tuple[float, ...] = ()
    loss_values: tuple[float, ...] = ()

    SCHEMA: ClassVar[pa.Schema] = pa.schema(
        [
            *(pa.field(name, pa.string(), nullable=False) for name in ("id", "series", "question_id")),
            *((name, pa.string()) for name in ("benchmark", "domain", "level", "cluster")),
            *(pa.field(name, pa.int32(), nullable=False) for name in ("right", "wrong", "undecided")),
            *((name, pa.int32()) for name in ("failed", "truncated")),
            ("tokens", pa.float64()),
            *((name, pa.list_(pa.int32())) for name in ("votes_right", "votes_wrong", "votes_undecided")),
            *((name, pa.int32()) for name in ("abstained", "abstained_undecided")),
            ("losses", pa.list_(pa.float64())),
            ("loss_values", pa.list_(pa.float64())),
        ]
    )

    @property
    def samples(self) -> int:
        """All samples, undecided ones included."""
        return self.right + self.wrong + self.undecided

    @classmethod
    def _restore(cls, name: str, value: Any) -> Any:  # noqa: ARG003
        return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True, kw_only=True)
class Step(_Record):
    """What one optimiser step of a training said (``kind`` train), or a look at held-out questions (``watch``) at it.

    ``step`` counts optimiser steps from 1 (0: before the first); ``seconds`` is the time of training until then, over
    restarts. ``metrics`` holds name and value: ``loss`` in nats per weighted token, ``learning_rate``, ``grad_norm``,
    ``entropy`` in nats per token, ``num_tokens`` so far, and what the recipe adds.
    """

    id: str
    kind: str
    step: int
    seconds: float
    metrics: tuple[tuple[str, float], ...]

    SCHEMA: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("kind", pa.string(), nullable=False),
            pa.field("step", pa.int64(), nullable=False),
            pa.field("seconds", pa.float64(), nullable=False),
            pa.field("metrics", pa.map_(pa.string(), pa.float64()), nullable=False),
        ]
    )

    @classmethod
    def of(cls, kind: str, step: int, seconds: float, metrics: Mapping[str, float]) -> Step:
        """A record whose id is made of kind and step, so that a step done again replaces the first time."""
        return cls(id=f"{kind}/{step}", kind=kind, step=step, seconds=seconds, metrics=tuple(metrics.items()))

    @classmethod
    def _restore(cls, name: str, value: Any) -> Any:
        return tuple(map(tuple, value)) if name == "metrics" else value
