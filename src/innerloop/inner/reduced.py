"""The reduced run: question, suffix and answer, without the trajectory between them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from innerloop.inner.task import Task
from innerloop.models import LoadedModel

#: ``kept``: suffix and answer keep the position ids that they have behind the trajectory, so that its content alone is
#: missing. ``contiguous``: they follow the question directly, as whoever loads an adapter will feed them.
Placement = Literal["kept", "contiguous"]


@dataclass(frozen=True, kw_only=True)
class Reduced:
    """The same tokens for every position of a batch; only the position ids differ.

    ``branch`` is how many of the last tokens are suffix and answer (k); ``answer`` the tokens that are scored, the last
    of which is only predicted.
    """

    input_ids: Int[Tensor, "batch token"]
    position_ids: Int[Tensor, "batch token"]
    branch: int
    answer: Int[Tensor, " answer"]

    @property
    def rows(self) -> slice:
        """The branch's tokens."""
        return slice(self.input_ids.shape[1] - self.branch, None)


def reduced(loaded: LoadedModel, task: Task, positions: Sequence[int], placement: Placement) -> Reduced:
    """The reduced run of a task at some of its positions, for its reference answer."""
    branch = task.branch(0)
    question = len(task.prompt)
    starts = torch.tensor([task.seen(i) if placement == "kept" else question for i in positions])
    where = starts[:, None] + torch.arange(len(branch))
    before = torch.arange(question).expand(len(positions), -1)
    ids = torch.tensor([task.prompt + branch]).expand(len(positions), -1)
    return Reduced(
        input_ids=ids.to(loaded.device),
        position_ids=torch.cat([before, where], dim=1).to(loaded.device),
        branch=len(branch),
        answer=torch.tensor(task.answers[0], device=loaded.device),
    )


def logits(loaded: LoadedModel, run: Reduced) -> Float[Tensor, "batch answer vocabulary"]:
    """One forward of the model as it is now (patched or not), with logits where the answer is predicted."""
    # Without a mask, transformers takes a gap in the position ids for the border of packed sequences.
    options = {"attention_mask": torch.ones_like(run.input_ids)}
    if "position_ids" in inspect.signature(loaded.model.forward).parameters:
        options["position_ids"] = run.position_ids
    out = loaded.model(input_ids=run.input_ids, use_cache=False, logits_to_keep=len(run.answer), **options)
    found: Tensor = out.logits
    return found


def answer_log_probs(
    logits: Float[Tensor, "*batch answer vocabulary"], answer: Int[Tensor, " answer"]
) -> Float[Tensor, "*batch answer"]:
    """log p of each answer token, in float64."""
    everything = F.log_softmax(logits.double(), dim=-1)
    return everything.gather(-1, answer.expand(logits.shape[:-1])[..., None]).squeeze(-1)
