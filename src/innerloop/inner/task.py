"""What a probe method is given: one trajectory with its tokens, positions and answers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Task:
    """One trajectory, tokenised.

    ``prompt`` and ``trajectory`` are token ids; ``positions`` the rising positions 0…n to measure; ``suffix`` the
    tokens of s; ``answers`` the tokens of each answer to score, the reference answer first.
    """

    prompt: tuple[int, ...]
    trajectory: tuple[int, ...]
    positions: tuple[int, ...]
    suffix: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]

    @property
    def context(self) -> tuple[int, ...]:
        """Prompt and the part of the trajectory that some position sees."""
        return self.prompt + self.trajectory[: self.positions[-1]]

    def seen(self, position: int) -> int:
        """Context tokens before the branch at a position."""
        return len(self.prompt) + position

    def branch(self, answer: int) -> tuple[int, ...]:
        """The tokens fed behind the context: suffix and answer, without the last one, which is only predicted."""
        return (self.suffix + self.answers[answer])[:-1]

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence that the model has to hold at once."""
        return len(self.context) + max(len(self.branch(i)) for i in range(len(self.answers)))


def answer_losses(
    logits: Float[Tensor, "*batch answer vocabulary"], answer: Int[Tensor, " answer"]
) -> Float[Tensor, "*batch"]:
    """Mean −log p of the answer's tokens in nats (RaML alg. 3); the log-softmax is taken in float32 or wider."""
    logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
    target = answer.expand(logits.shape[:-1])
    return F.cross_entropy(logits.flatten(0, -2), target.flatten(), reduction="none").view(target.shape).mean(dim=-1)
