"""Drawing the next token so that neighbours, order and resuming change nothing.

The draw is the Gumbel maximum: argmax over tokens of (logit / temperature + noise), which is a draw from the softmax.
The noise is no stream that has to be kept in step but a function of (row seed, index in the completion, token id): the
SplitMix64 generator (Steele, Lea & Flood 2014) jumped to that index. So it is the same on every device and
for every version of torch, costs only the tokens that can be drawn, and a completion can be taken up in the middle.

Why not the inverse of the cumulative distribution: float rounding differs with the shape of a batch, and there one
uniform number meets up to a vocabulary of shifted boundaries, and a swap of two nearly equal probabilities moves whole
intervals. With noise of its own for every token the draw changes only where the best two tokens are within the rounding
of each other, which happens with probability at most 2 d / (1 + d) for a total variation distance d between the
two distributions (Daliri, Musco & Suresh 2024), at most twice what any method can reach.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from innerloop.rollout.engine import Sampling

_STEP = -7046029254386353131  # SplitMix64's odd increment 0x9E3779B97F4A7C15 as a signed 64-bit number
_FIRST = -4658895280553007687  # 0xBF58476D1CE4E5B9
_SECOND = -7723592293110705685  # 0x94D049BB133111EB
_NUCLEUS = 1024  # tokens sorted for top-p before the whole vocabulary is


def draw(
    logits: Float[Tensor, "row vocab"], seeds: Int[Tensor, " row"], index: Int[Tensor, " row"], sampling: Sampling
) -> Int[Tensor, " row"]:
    """One token id per row.

    ``seeds`` are the rows' own (int64), ``index`` counts the tokens that each completion has already. Rows do
    not see each other. Temperature 0 takes the likeliest token, the first of equals.
    """
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    scores, tokens = candidates(logits, sampling)
    best = (scores + gumbel(seeds, index, tokens)).argmax(dim=-1, keepdim=True)
    return tokens.expand_as(scores).gather(-1, best).squeeze(-1)


def candidates(
    logits: Float[Tensor, "row vocab"], sampling: Sampling
) -> tuple[Float[Tensor, "row candidate"], Int[Tensor, "#row candidate"]]:
    """Scores (logits over temperature, float64, −∞ where cut off by top-p) and ids of the tokens that can be drawn.

    The softmax of the scores is the distribution drawn from.
    """
    vocab = logits.shape[-1]
    if 0 < sampling.top_k < vocab:
        values, tokens = logits.topk(sampling.top_k)
        return _nucleus(values.double() / sampling.temperature, None, sampling.top_p), tokens
    if sampling.top_p == 1:
        return logits.double() / sampling.temperature, torch.arange(vocab, device=logits.device)[None]
    total = (logits.double() / sampling.temperature).logsumexp(dim=-1, keepdim=True)
    # Sorting a whole vocabulary costs more than the rest of the step together, and few tokens hold nearly all.
    for width in (min(_NUCLEUS, vocab), vocab):
        values, tokens = logits.topk(width)
        scores = values.double() / sampling.temperature
        if bool(((scores - total).exp().sum(dim=-1) >= sampling.top_p).all()):
            break
    return _nucleus(scores, total, sampling.top_p), tokens


def _nucleus(
    scores: Float[Tensor, "row candidate"], total: Float[Tensor, "row 1"] | None, top_p: float
) -> Float[Tensor, "row candidate"]:
    """Falling ``scores`` with −∞ behind the smallest set that holds ``top_p`` of the probability; the first one stays.

    ``total``: log of the sum over all tokens, where more than the candidates count.
    """
    if top_p == 1:
        return scores
    if total is None:
        total = scores.logsumexp(dim=-1, keepdim=True)
    probability = (scores - total).exp()
    before = probability.cumsum(dim=-1) - probability
    behind = before >= top_p
    behind[..., 0] = False
    return scores.masked_fill(behind, -torch.inf)


def gumbel(
    seeds: Int[Tensor, " row"], index: Int[Tensor, " row"], tokens: Int[Tensor, "#row candidate"]
) -> Float[Tensor, "row candidate"]:
    """Standard Gumbel noise (float64), a function of each entry's seed, index and token id alone."""
    keys = _mix(seeds + (index + 1) * _STEP)
    bits = _mix(keys[:, None] + (tokens + 1) * _STEP)
    uniform = _shift(bits, 11).double().add_(0.5).mul_(2.0**-53)  # strictly between 0 and 1
    return uniform.log_().neg_().log_().neg_()


def _mix(bits: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """SplitMix64's output function; int64 products wrap around as it needs."""
    bits = (bits ^ _shift(bits, 30)).mul_(_FIRST)
    bits ^= _shift(bits, 27)
    bits.mul_(_SECOND)
    bits ^= _shift(bits, 31)
    return bits


def _shift(bits: Int[Tensor, "*shape"], by: int) -> Int[Tensor, "*shape"]:
    """Logical right shift (torch's own keeps the sign)."""
    return (bits >> by).bitwise_and_((1 << (64 - by)) - 1)
