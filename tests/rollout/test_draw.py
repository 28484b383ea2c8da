from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from innerloop.rollout.draw import candidates, draw, gumbel
from innerloop.rollout.engine import Sampling


def exact(logits: Tensor, sampling: Sampling) -> Tensor:
    """The distribution to draw from, by transformers' own processors."""
    steps = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_k:
        steps.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        steps.append(TopPLogitsWarper(sampling.top_p))
    return steps(torch.zeros(len(logits), 1, dtype=torch.long), logits.double()).softmax(dim=-1)


def drawn_from(logits: Tensor, sampling: Sampling) -> Tensor:
    scores, tokens = candidates(logits, sampling)
    probabilities = torch.zeros(logits.shape, dtype=torch.float64)
    return probabilities.scatter(-1, tokens.expand_as(scores), scores.softmax(dim=-1))


SETTINGS = [
    Sampling(temperature=1.0, top_k=0),
    Sampling(temperature=0.5, top_k=0),
    Sampling(temperature=1.7, top_k=5),
    Sampling(temperature=1.0, top_k=0, top_p=0.8),
    Sampling(temperature=0.7, top_k=8, top_p=0.6),
]


@pytest.mark.parametrize("sampling", SETTINGS, ids=str)
def test_draws_follow_the_distribution(sampling: Sampling) -> None:
    logits = 1.5 * torch.randn(1, 12, generator=torch.Generator().manual_seed(1))
    count = 40_000
    seeds = torch.arange(count) * 1_000_003
    tokens = draw(logits.expand(count, -1), seeds, torch.zeros(count, dtype=torch.long), sampling)
    expected = exact(logits, sampling)[0]
    seen = torch.bincount(tokens, minlength=12)
    possible = expected > 0
    assert seen[~possible].sum() == 0
    assert chisquare(seen[possible].numpy(), (expected[possible] * count).numpy()).pvalue > 1e-3


def test_draws_along_one_completion_follow_it_too_and_do_not_depend_on_each_other() -> None:
    """One seed, rising index: also pairs of neighbouring draws are as frequent as independence says."""
    logits = torch.tensor([[0.0, 1.0, -1.0]])
    count = 40_000
    tokens = draw(
        logits.expand(count, -1), torch.full((count,), 5), torch.arange(count), Sampling(temperature=1, top_k=0)
    )
    p = logits.double().softmax(dim=-1)[0]
    pairs = torch.bincount(tokens[:-1] * 3 + tokens[1:], minlength=9)
    assert chisquare(pairs.numpy(), (torch.outer(p, p).flatten() * (count - 1)).numpy()).pvalue > 1e-3


@settings(deadline=None)
@given(
    seed=st.integers(0, 10_000),
    vocabulary=st.integers(1, 60),
    temperature=st.floats(0.1, 3),
    top_k=st.integers(0, 70),
    top_p=st.floats(0.05, 1),
)
def test_cuts_are_those_of_transformers(
    seed: int, vocabulary: int, temperature: float, top_k: int, top_p: float
) -> None:
    logits = 2 * torch.randn(3, vocabulary, generator=torch.Generator().manual_seed(seed))
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    torch.testing.assert_close(drawn_from(logits, sampling), exact(logits, sampling), atol=1e-12, rtol=1e-9)


def test_a_flat_vocabulary_is_sorted_whole_for_top_p() -> None:
    logits = 0.1 * torch.randn(2, 5000, generator=torch.Generator().manual_seed(0))
    sampling = Sampling(temperature=1.0, top_k=0, top_p=0.9)
    torch.testing.assert_close(drawn_from(logits, sampling), exact(logits, sampling), atol=1e-12, rtol=1e-9)


def test_temperature_zero_takes_the_likeliest_token() -> None:
    logits = torch.randn(50, 20, generator=torch.Generator().manual_seed(0))
    tokens = draw(logits, torch.arange(50), torch.arange(50), Sampling(temperature=0))
    assert tokens.tolist() == logits.argmax(dim=-1).tolist()


def test_a_draw_knows_nothing_of_the_other_rows() -> None:
    logits = torch.randn(9, 300, generator=torch.Generator().manual_seed(0))
    seeds, index = torch.arange(9) * 17, torch.arange(9) % 4
    sampling = Sampling(temperature=1, top_k=50)
    together = draw(logits, seeds, index, sampling)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    assert draw(logits[order], seeds[order], index[order], sampling).tolist() == together[order].tolist()
    alone = [draw(logits[i : i + 1], seeds[i : i + 1], index[i : i + 1], sampling).item() for i in range(9)]
    assert alone == together.tolist()


def splitmix64(state: int) -> int:
    """The generator's output function in Python's integers."""
    mask = 2**64 - 1
    state &= mask
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & mask
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB & mask
    return state ^ (state >> 31)


def test_noise_is_splitmix64s() -> None:
    step = 0x9E3779B97F4A7C15
    # the published first outputs for the seed 1234567
    assert [splitmix64(1234567 + i * step) for i in (1, 2)] == [6457827717110365317, 3203168211198807973]
    for seed, index, token in [(0, 0, 0), (1234567, 1, 3), (2**63 - 1, 4000, 151_000)]:
        key = splitmix64(seed + (index + 1) * step)
        uniform = ((splitmix64(key + (token + 1) * step) >> 11) + 0.5) / 2**53
        made = gumbel(torch.tensor([seed]), torch.tensor([index]), torch.tensor([[token]]))
        assert made.item() == pytest.approx(-math.log(-math.log(uniform)), rel=1e-9)


@pytest.mark.slow
def test_a_small_change_of_the_logits_flips_few_draws() -> None:
    """At most 2 d / (1 + d) of them, d the total variation distance: the reason for this way of drawing."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 2000, generator=generator)
    moved = logits + 0.05 * torch.randn(1, 2000, generator=generator)
    count = 3000
    sampling = Sampling(temperature=1, top_k=0)
    seeds, index = torch.arange(count), torch.zeros(count, dtype=torch.long)
    flips = draw(logits.expand(count, -1), seeds, index, sampling) != draw(
        moved.expand(count, -1), seeds, index, sampling
    )
    distance = 0.5 * (logits.softmax(-1) - moved.softmax(-1)).abs().sum().item()
    bound = 2 * distance / (1 + distance)
    assert 0 < flips.double().mean().item() < bound + 3 * math.sqrt(bound / count)
