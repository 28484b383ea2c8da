"""The full run: question, trajectory up to a position, suffix and answer; and what passes through chosen modules in it.

Shares the prefix among positions where the model can (`innerloop.inner.shared`), else runs every position afresh.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.inner.attention import BranchRun, Group, Prefix, attending, installed
from innerloop.inner.reduced import Placement, answer_log_probs, logits, reduced
from innerloop.inner.shared import packed_logits, run_prefixes
from innerloop.inner.task import Task
from innerloop.inner.watch import Watch, watching
from innerloop.models import LoadedModel

Seen = Mapping[Watch, Float[Tensor, "batch branch dim"]]


class FullRun:
    """One task's full runs at any of its positions. ``shares``: whether the model can share the prefix."""

    def __init__(self, loaded: LoadedModel, task: Task, watches: Sequence[Watch], *, shares: bool) -> None:
        self._loaded, self._task, self._watches = loaded, task, watches
        self._context: Prefix | None = None
        self._question: Prefix | None = None
        if shares:
            with installed(loaded.model), torch.inference_mode():
                self._context, self._question = run_prefixes(loaded, [task.context, task.prompt])

    @torch.inference_mode()
    def at(self, positions: Sequence[int]) -> tuple[Seen, Float[Tensor, "position answer"]]:
        """What the watched modules saw at the branch's tokens, and log p of the answer's tokens, at each position."""
        task = self._task
        with watching(self._loaded.model, self._watches) as seen:
            if self._context is not None:
                starts = [task.seen(i) for i in positions]
                found = self._branches(self._context, starts, starts)
                return {watch: x.reshape(len(positions), -1, x.shape[-1]) for watch, x in seen.items()}, found
            each, found_each = [], []
            for position in positions:
                found_each.append(self._afresh(position))
                each.append({w: x.reshape(1, -1, x.shape[-1])[:, -len(task.branch(0)) :] for w, x in seen.items()})
        return {watch: torch.cat([one[watch] for one in each]) for watch in each[0]}, torch.stack(found_each)

    @torch.inference_mode()
    def without_trajectory(self, positions: Sequence[int], placement: Placement) -> Float[Tensor, "position answer"]:
        """log p of the answer's tokens in the reduced run, with θ as it is."""
        if placement == "contiguous":  # the same run for all of them
            once = self._without_trajectory(positions[:1], placement)
            return once.expand(len(positions), -1)
        return self._without_trajectory(positions, placement)

    def _without_trajectory(self, positions: Sequence[int], placement: Placement) -> Float[Tensor, "position answer"]:
        run = reduced(self._loaded, self._task, positions, placement)
        if self._question is None:
            return answer_log_probs(logits(self._loaded, run), run.answer)
        question = self._question.length
        return self._branches(self._question, [question] * len(positions), run.position_ids[:, question].tolist())

    def _branches(self, prefix: Prefix, seen: Sequence[int], starts: Sequence[int]) -> Float[Tensor, "position answer"]:
        """One packed row of branches behind ``seen`` tokens of a prefix, their position ids from ``starts`` on."""
        branch, answer = self._task.branch(0), torch.tensor(self._task.answers[0], device=self._loaded.device)
        length = len(branch)
        order = sorted(range(len(seen)), key=lambda i: seen[i])
        assert order == list(range(len(seen))), "positions rise"
        where = [start + j for start in starts for j in range(length)]
        keep = [b * length + j for b in range(len(seen)) for j in range(length - len(answer), length)]
        with installed(self._loaded.model), attending(BranchRun([Group(prefix, tuple(seen), length)])):
            found = packed_logits(self._loaded, list(branch) * len(seen), where, keep)
        return answer_log_probs(found.view(len(seen), len(answer), -1), answer)

    def _afresh(self, position: int) -> Float[Tensor, " answer"]:
        """One plain forward over the whole sequence."""
        task = self._task
        tokens = torch.tensor([task.context[: task.seen(position)] + task.branch(0)], device=self._loaded.device)
        answer = torch.tensor(task.answers[0], device=self._loaded.device)
        found = self._loaded.model(input_ids=tokens, use_cache=False, logits_to_keep=len(answer)).logits
        return answer_log_probs(found[0], answer)
