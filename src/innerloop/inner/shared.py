"""The answer loss at every position by sharing the prefix: the trajectory runs once, then all branches against it.

n + n(|s| + |a|) tokens instead of the plain method's n²/2 (DESIGN: RaML alg. 3). The branches of many positions and
of several trajectories are packed into one row; see `attention` for what each of them attends to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedConfig

from innerloop.errors import InputError
from innerloop.inner.attention import BranchRun, Group, Prefix, PrefixRun, attending, installed
from innerloop.inner.task import Task, answer_losses
from innerloop.memory import cache_bytes, context_bytes, free_memory
from innerloop.models import LoadedModel


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How many tokens go into one forward. ``prefix``: contexts held at once; ``row``: tokens of a row of branches."""

    prefix: int
    row: int


@dataclass(frozen=True)
class _Branches:
    """Some positions of one task, for one of its answers: rows of one group."""

    task: int  # index within the wave
    answer: int
    rows: slice  # which of the task's positions


def shared_losses(
    loaded: LoadedModel,
    tasks: Sequence[Task],
    budget: Budget,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Iterator[Float[Tensor, "position answer"]]:
    """L̂ᵢ for every position and answer, task by task, float32 on the CPU, in nats per answer token."""
    for wave in waves([len(task.context) for task in tasks], budget.prefix):
        yield from _wave(loaded, [tasks[i] for i in wave], budget, on_progress)


def waves(lengths: Sequence[int], prefix: int) -> Iterator[range]:
    """Which neighbouring contexts are held at the same time: those of ``prefix`` tokens together, one at least."""
    start = 0
    while start < len(lengths):
        stop, held = start + 1, lengths[start]
        while stop < len(lengths) and held + lengths[stop] <= prefix:
            held += lengths[stop]
            stop += 1
        yield range(start, stop)
        start = stop


def plenty(lengths: Sequence[int], *, on_cpu: bool) -> int:
    """Tokens of contexts that are held at once where memory does not matter."""
    return max(_CPU_PREFIX if on_cpu else _GPU_PREFIX, *lengths)


@torch.inference_mode()
def _wave(
    loaded: LoadedModel, tasks: Sequence[Task], budget: Budget, on_progress: Callable[[int], None]
) -> list[Float[Tensor, "position answer"]]:
    """Tasks whose contexts are held at the same time."""
    losses = [torch.empty(len(task.positions), len(task.answers)) for task in tasks]
    with installed(loaded.model):
        prefixes = run_prefixes(loaded, [task.context for task in tasks])
        for packed in _rows(tasks, budget.row):
            for branches, loss in zip(packed, _run_row(loaded, tasks, prefixes, packed), strict=True):
                losses[branches.task][branches.rows, branches.answer] = loss.float().cpu()
            on_progress(sum(b.rows.stop - b.rows.start for b in packed if b.answer == 0))
    return losses


def run_prefixes(loaded: LoadedModel, contexts: Sequence[tuple[int, ...]]) -> list[Prefix]:
    """Keys and values of every context, from one packed row."""
    prefixes = [Prefix(len(context)) for context in contexts]
    tokens = [token for context in contexts for token in context]
    where = [position for prefix in prefixes for position in range(prefix.length)]
    with attending(PrefixRun(prefixes)):
        packed_logits(loaded, tokens, where, keep=[len(tokens) - 1])  # none are wanted, and one row is the least
    return prefixes


def _rows(tasks: Sequence[Task], budget: int) -> Iterator[list[_Branches]]:
    """Packs the branches of all tasks into rows of about ``budget`` tokens, evenly within a task."""
    row: list[_Branches] = []
    free = budget
    for index, task in enumerate(tasks):
        for answer in range(len(task.answers)):
            length = len(task.branch(answer))
            done, total = 0, len(task.positions)
            while done < total:
                room = free // length
                if room == 0 and row:
                    yield row
                    row, free = [], budget
                    room = free // length
                # Equal parts keep the last row from being a sliver that wastes a forward.
                parts = -(-(total - done) // max(room, 1))
                take = -(-(total - done) // parts)
                row.append(_Branches(index, answer, slice(done, done + take)))
                done += take
                free -= take * length
    if row:
        yield row


def _run_row(
    loaded: LoadedModel, tasks: Sequence[Task], prefixes: Sequence[Prefix], packed: Sequence[_Branches]
) -> Iterator[Float[Tensor, " position"]]:
    """Losses of each part of one packed row."""
    groups: list[Group] = []
    tokens: list[int] = []
    where: list[int] = []
    keep: list[int] = []  # positions in the row whose logits predict an answer token
    for branches in packed:
        task = tasks[branches.task]
        branch, answer = task.branch(branches.answer), task.answers[branches.answer]
        seen = tuple(task.seen(position) for position in task.positions[branches.rows])
        groups.append(Group(prefixes[branches.task], seen, len(branch)))
        for before in seen:
            keep.extend(range(len(tokens) + len(branch) - len(answer), len(tokens) + len(branch)))
            tokens.extend(branch)
            where.extend(range(before, before + len(branch)))
    with attending(BranchRun(groups)):
        logits = packed_logits(loaded, tokens, where, keep)
    done = 0
    for branches, group in zip(packed, groups, strict=True):
        answer = tasks[branches.task].answers[branches.answer]
        part = logits[done : done + len(group.seen) * len(answer)]
        done += len(part)
        yield answer_losses(part.view(len(group.seen), len(answer), -1), torch.tensor(answer, device=loaded.device))


def packed_logits(
    loaded: LoadedModel, tokens: list[int], where: list[int], keep: list[int]
) -> Float[Tensor, "kept vocabulary"]:
    """One forward of a packed row, with logits only at the positions to keep."""
    device = loaded.device
    out = loaded.model(
        input_ids=torch.tensor([tokens], device=device),
        position_ids=torch.tensor([where], device=device),
        logits_to_keep=torch.tensor(keep, device=device),
        use_cache=False,
    )
    return out.logits[0]


# Small rows keep a layer's activations in the processor's cache; a GPU wants to be filled.
_CPU_ROW, _GPU_ROW = 480, 8192
_CPU_PREFIX, _GPU_PREFIX = 1024, 32768


def budget_for(loaded: LoadedModel, tasks: Sequence[Task], memory: int | None) -> Budget:
    """Tokens per forward such that prefix cache and activations stay within ``memory`` bytes beside the weights."""
    on_cpu = loaded.device.type == "cpu"
    row, prefix = (_CPU_ROW, _CPU_PREFIX) if on_cpu else (_GPU_ROW, _GPU_PREFIX)
    limit = memory if memory is not None else free_memory(loaded.device) * 4 // 5
    config = loaded.model.config.get_text_config()
    size = loaded.dtype.itemsize
    longest = max(len(task.context) for task in tasks)
    shortest_row = max(len(task.branch(i)) for task in tasks for i in range(len(task.answers)))
    held = cache_bytes(config, size)
    # The prefix run and the rows of branches come one after the other: the larger of the two counts.
    fed = _row_bytes(config, size, longest, answers=max(len(a) for t in tasks for a in t.answers), branch=shortest_row)
    need = longest * (held + context_bytes(config, size)) + shortest_row * fed
    if need > limit:
        raise InputError(
            f"a context of {longest} tokens needs about {need / 2**20:.0f} MiB beside the weights, "
            f"but {limit / 2**20:.0f} MiB may be used: raise the memory setting or shorten the trajectory"
        )
    spare = limit - longest * held
    row = max(shortest_row, min(row, spare // fed))
    prefix = max(longest, min(prefix, (limit - row * fed) // (held + context_bytes(config, size))))
    return Budget(prefix=prefix, row=row)


def _row_bytes(config: PreTrainedConfig, size: int, longest: int, *, answers: int, branch: int) -> int:
    """Activations of one branch token: those of a layer, the logits of its share of answer positions (thrice, in
    float32, through the log-softmax), and the attention scores where they are materialised (off the CPU)."""
    logits = 3 * 4 * config.vocab_size * answers // branch
    scores = 2 * 4 * config.num_attention_heads * longest
    return context_bytes(config, size) + logits + scores
