"""L_q of many questions in one forward, with logits at the answers' tokens only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from innerloop.errors import InputError
from innerloop.models import LoadedModel

#: What putting moved weights in place costs, in tokens of a forward (measured on SmolLM2): many short rows beside one
#: long one are padded up to it as long as that wastes less.
_SETUP = 200


@dataclass(frozen=True, kw_only=True)
class Row:
    """One question to score without a trajectory: the tokens of (I, q, s, a), the last of which is only predicted."""

    question_id: str
    tokens: tuple[int, ...]
    answer: tuple[int, ...]


def row_of(loaded: LoadedModel, question_id: str, prompt: Sequence[int], answer: str) -> Row:
    """A question's row; `InputError` where it is longer than the model allows."""
    ids = loaded.answer_ids(answer)
    tokens = (*prompt, *loaded.suffix_ids, *ids[:-1])
    if not prompt:
        raise InputError(f"question {question_id!r}: the prompt has no tokens")
    if loaded.max_context is not None and len(tokens) > loaded.max_context:
        raise InputError(
            f"question {question_id!r}: question, suffix and answer take {len(tokens)} tokens, but {loaded.name} holds "
            f"{loaded.max_context}; leave it out or choose a model with a longer context"
        )
    return Row(question_id=question_id, tokens=tokens, answer=tuple(ids))


def groups(rows: Sequence[Row], most: int) -> list[list[int]]:
    """Indices of rows that share a forward, rows of like length together, up to ``most`` tokens with the padding.

    The split with the smallest cost, counted as tokens with the padding and a fixed amount per group.
    """
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].tokens))
    best: list[tuple[int, int]] = [(0, 0)]  # of the first n rows: cost, where the last group begins
    for end in range(1, len(rows) + 1):
        longest = len(rows[order[end - 1]].tokens)
        starts = [s for s in range(end) if (end - s) * longest <= most] or [end - 1]
        best.append(min((best[s][0] + (end - s) * longest + _SETUP, s) for s in starts))
    found: list[list[int]] = []
    end = len(rows)
    while end:
        start = best[end][1]
        found.insert(0, order[start:end])
        end = start
    return found


def losses(loaded: LoadedModel, rows: Sequence[Row], points: int = 1) -> Float[Tensor, "points row"]:
    """Answer losses in nats per answer token, float32 or wider; the forward's batch is points × rows.

    Rows are padded on the right, where a causal model cannot see it: there is no mask to apply. Autograd works.
    """
    length = max(len(row.tokens) for row in rows)
    ids = torch.tensor([row.tokens + (0,) * (length - len(row.tokens)) for row in rows], device=loaded.device)
    where = [(r, len(row.tokens) - len(row.answer) + j) for r, row in enumerate(rows) for j in range(len(row.answer))]
    row_index, column = (torch.tensor(entry, device=loaded.device) for entry in zip(*where, strict=True))
    batch = (torch.arange(points, device=loaded.device)[:, None] * len(rows) + row_index).flatten()
    logits = _logits(loaded, ids.repeat(points, 1), batch, column.repeat(points))
    target = torch.tensor([token for row in rows for token in row.answer], device=loaded.device).repeat(points)
    nats = F.cross_entropy(logits if logits.dtype == torch.float64 else logits.float(), target, reduction="none")
    counts = [len(row.answer) for row in rows]
    return torch.stack([part.mean(dim=1) for part in nats.view(points, -1).split(counts, dim=1)], dim=1)


def _logits(loaded: LoadedModel, ids: Tensor, rows: Tensor, columns: Tensor) -> Float[Tensor, "predicted vocabulary"]:
    """Logits of a batch at chosen rows and columns only: the output head is given just those hidden states."""
    head = loaded.model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _module, args: (args[0][rows, columns][None], *args[1:]))
    try:
        logits: Tensor = loaded.model(input_ids=ids, use_cache=False).logits
    finally:
        handle.remove()
    return logits[0]
