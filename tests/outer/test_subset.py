from __future__ import annotations

from collections import Counter
from itertools import combinations
from statistics import pvariance

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.errors import InputError
from innerloop.outer.audit import Case, audit, cases
from innerloop.outer.rewards import REWARDS, Rollout
from innerloop.outer.subset import CHOICES, chosen_rows, generator_for

REWARD = st.sampled_from([-1.0, -0.5, 0.0, 1.0])


@given(rewards=st.lists(REWARD, min_size=2, max_size=8), data=st.data())
@pytest.mark.slow
def test_max_variance_is_the_best_of_all_subsets(rewards: list[float], data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(rewards)))
    chosen = CHOICES["max-variance"](rewards, n, generator_for(0, 0, 0))
    best = max(pvariance(subset) for subset in combinations(rewards, n))
    assert pvariance([rewards[i] for i in chosen]) == pytest.approx(best)
    assert len(set(chosen)) == n


@given(rewards=st.lists(REWARD, min_size=2, max_size=8), data=st.data())
def test_extremes_are_the_highest_and_the_lowest(rewards: list[float], data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(rewards)))
    chosen = CHOICES["extremes"](rewards, n, generator_for(1, 2, 3))
    ranked = sorted(rewards)
    expected = ranked[: n // 2] + ranked[len(ranked) - (n - n // 2) :]
    assert sorted(rewards[i] for i in chosen) == expected


def test_every_subset_is_as_likely_as_every_other() -> None:
    found = Counter(tuple(CHOICES["random"]([0.0] * 5, 2, generator_for(0, step, 0))) for step in range(5000))
    assert len(found) == 10
    assert all(420 < count < 580 for count in found.values())  # 500 expected, sd 21


@given(seed=st.integers(0, 5), step=st.integers(0, 5), choice=st.sampled_from(sorted(CHOICES)))
def test_two_processes_choose_what_one_chooses(seed: int, step: int, choice: str) -> None:
    rewards = [float((7 * i) % 5) for i in range(24)]
    draw = {"choice": CHOICES[choice], "seed": seed, "step": step}
    whole = chosen_rows(rewards, 4, 3, **draw)
    first = chosen_rows(rewards[:12], 4, 3, **draw)
    second = chosen_rows(rewards[12:], 4, 3, **draw, first_group=3)
    assert whole == first + [12 + row for row in second]
    assert len(whole) == 18


def test_rewards_are_those_of_the_paper() -> None:
    table = {(True, True): 1.0, (False, True): 0.0, (True, False): -0.5, (False, False): -1.0}
    for (right, form), value in table.items():
        assert REWARDS["raml"](Rollout(right=right, form=form, share=0.5)) == value
    for reward in REWARDS.values():
        assert reward(Rollout(right=None, form=True, share=0.5)) is None


@given(short=st.floats(0, 1), long=st.floats(0, 1))
def test_a_right_rollout_is_worth_more_than_a_wrong_one_however_long(short: float, long: float) -> None:
    reward = REWARDS["right-short"]
    right = reward(Rollout(right=True, form=True, share=long))
    assert right is not None
    assert right >= 0.5 > (reward(Rollout(right=False, form=True, share=short)) or 0)


def test_the_audit_passes_a_reward_that_tells_them_apart_and_no_other() -> None:
    made = cases("q", "So \\boxed{42}", "So \\boxed{41}", "Six times seven is forty-two.", "<think>\\boxed{42}")
    assert [case.complete for case in made] == [True, True, True, False, True]

    def right(case: Case) -> bool:
        return case.text.startswith("So") and "{42}" in case.text

    assert audit(made, lambda found: [float(right(case)) for case in found])["right"] == 1
    with pytest.raises(InputError, match="for question q a wrong answer earns 1, the right one 1"):
        audit(made, lambda found: [1.0 for _ in found])
    with pytest.raises(InputError, match="an unfinished answer earns 1"):
        audit(made, lambda found: [float("{42}" in case.text) for case in found])
    with pytest.raises(InputError, match="a truncated answer earns 2"):
        audit(made, lambda found: [2.0 if not case.complete else float(right(case)) for case in found])
    with pytest.raises(InputError, match="could not be judged"):
        audit(made, lambda found: [None for _ in found])
