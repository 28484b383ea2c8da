"""From trajectories to training rows: prompt, trajectory, answer suffix, answer and end, each token with its weight.

A row is made as the probe feeds a trajectory: prompt and trajectory as they are, suffix and answer tokenised apart, so
that the loss on the answer is the answer loss L̂ₙ. Behind the answer stand the closing brace and the end token. A
thinking trajectory is closed by its delimiter first. What a model sampled keeps the tokens that it sampled where they
are those of the tokenizer at hand; what another model sampled is encoded anew (`innerloop.rollout.retokenise`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from innerloop.boxed import boxes
from innerloop.errors import InputError
from innerloop.rollout.retokenise import covering, is_sampled, own_tokens, sampled_text
from innerloop.schema import Mode, Question, Status, Trajectory

if TYPE_CHECKING:
    from torch import Tensor

    from innerloop.speaker import Speaker

SizedT = TypeVar("SizedT", bound=Sized)

MOST_DROPPED = 0.1  # share of rows over the length limit that is still taken for granted


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What each token of a row counts in the loss. The prompt counts nothing.

    ``trajectory``: the reasoning; ``answer``: what stands in the answer box; ``form``: what is around it (delimiters,
    suffix, closing brace, end token). (0, 1, 0) is RaML eq. 8, the loss on the answer alone.
    """

    trajectory: float = 1.0
    answer: float = 1.0
    form: float = 1.0

    def __post_init__(self) -> None:
        for name in ("trajectory", "answer", "form"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise InputError(f"--{name}-weight {value}: must be 0 or a positive number")
        if not (self.trajectory or self.answer or self.form):
            raise InputError("--trajectory-weight, --answer-weight and --form-weight are all 0: nothing to learn from")


@dataclass(frozen=True)
class Row:
    """One sequence to learn: ``weights[i]`` belongs to the prediction of ``input_ids[i]``."""

    question_id: str
    trajectory_id: str | None
    input_ids: tuple[int, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        assert len(self.input_ids) == len(self.weights), "a weight for each token"

    def __len__(self) -> int:
        return len(self.input_ids)


def make_row(speaker: Speaker, question: Question, trajectory: Trajectory | None, weights: Weights) -> Row:
    """The row of one trajectory with the question's answer behind it; without a trajectory, of the answer alone."""
    return _row(speaker, question, trajectory, weights, question.answer)


def own_row(speaker: Speaker, question: Question, trajectory: Trajectory, weights: Weights) -> Row:
    """The row of a trajectory with its own answer behind it, right or wrong, where it has come to one."""
    return _row(speaker, question, trajectory, weights, trajectory.answer)


def _row(
    speaker: Speaker, question: Question, trajectory: Trajectory | None, weights: Weights, answer: str | None
) -> Row:
    mode = trajectory.mode if trajectory is not None else Mode.PLAIN
    parts: list[tuple[Sequence[int], float]] = [(speaker.prompt(question, mode=mode), 0.0)]
    if trajectory is not None and is_sampled(trajectory):
        parts += _sampled(speaker, _tokens(speaker, trajectory), weights)
    else:
        if trajectory is not None:
            parts.append((speaker.encode(trajectory.text), weights.trajectory))
        if trajectory is None or trajectory.status is not Status.TRUNCATED:
            parts += _ended(speaker, mode, weights, answer)
    return Row(
        question_id=question.id,
        trajectory_id=trajectory.id if trajectory is not None else None,
        input_ids=tuple(token for tokens, _ in parts for token in tokens),
        weights=tuple(weight for tokens, weight in parts for _ in tokens),
    )


def _ended(speaker: Speaker, mode: Mode, weights: Weights, answer: str | None) -> Iterator[tuple[Sequence[int], float]]:
    """What follows a given text: the end of thinking, suffix, answer and brace where there is an answer, the end."""
    if mode is Mode.THINKING:
        yield speaker.encode(f"\n{speaker.think_end}"), weights.form
    if answer is not None:
        yield speaker.suffix_ids, weights.form
        yield speaker.answer_ids(answer), weights.answer
        yield speaker.encode("}") if speaker.suffix.endswith("{") else (), weights.form
    yield _end(speaker), weights.form


def _tokens(speaker: Speaker, trajectory: Trajectory) -> tuple[int, ...]:
    """What was sampled, in the speaker's tokens, with the end of the turn where it came to one."""
    own = own_tokens(speaker, trajectory)
    if own is not None:
        return own
    end = _end(speaker) if trajectory.status is Status.COMPLETE else ()
    return (*speaker.encode(sampled_text(speaker, trajectory)), *end)


def _sampled(speaker: Speaker, tokens: Sequence[int], weights: Weights) -> Iterator[tuple[Sequence[int], float]]:
    """What a model sampled: tokens within its last answer box are the answer, those after it form."""
    found = boxes(speaker.decode(tokens))
    if not found:
        yield tokens, weights.trajectory
        return
    start, end = found[-1].inner_start, found[-1].inner_end
    first, last = covering(speaker, tokens, start), covering(speaker, tokens, end)
    if len(speaker.decode(tokens[:first])) > start:  # this token reaches into the box
        first -= 1
    yield tokens[:first], weights.trajectory
    yield tokens[first:last], weights.answer
    yield tokens[last:], weights.form


def _end(speaker: Speaker) -> tuple[int, ...]:
    """What ends the model's turn: the end token, where the tokenizer has one."""
    end = speaker.tokenizer.eos_token_id
    return () if end is None else (end,)


def within(rows: Iterable[SizedT], longest: int | None) -> tuple[list[SizedT], int]:
    """The rows of at most ``longest`` tokens, and how many others there were; `InputError` where they are many."""
    everything = list(rows)
    kept = [row for row in everything if longest is None or len(row) <= longest]
    dropped = len(everything) - len(kept)
    if dropped > MOST_DROPPED * len(everything):
        raise InputError(
            f"--max-length {longest}: {dropped} of {len(everything)} rows are longer (up to "
            f"{max(map(len, everything))} tokens); raise it, or leave the long trajectories out"
        )
    return kept, dropped


def collate(rows: Sequence[Row], pad_id: int) -> dict[str, Tensor]:
    """A batch padded on the right: ``input_ids``, ``attention_mask``, ``weights`` and ``labels`` (−100 at weight 0)."""
    import torch

    width = max(len(row.input_ids) for row in rows)
    batch = {
        "input_ids": torch.full((len(rows), width), pad_id),
        "attention_mask": torch.zeros(len(rows), width, dtype=torch.long),
        "weights": torch.zeros(len(rows), width),
    }
    for i, row in enumerate(rows):
        length = len(row.input_ids)
        batch["input_ids"][i, :length] = torch.tensor(row.input_ids)
        batch["attention_mask"][i, :length] = 1
        batch["weights"][i, :length] = torch.tensor(row.weights)
    batch["labels"] = batch["input_ids"].masked_fill(batch["weights"] == 0, -100)
    return batch
