from __future__ import annotations

import math

import pytest

from innerloop.errors import InputError
from innerloop.rollout.engine import MAX_SEED, Completion, Engine, Request, Sampling
from innerloop.schema import Status
from innerloop.testing import ScriptedEngine


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("samples", 0),
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("top_p", math.nan),
        ("top_k", -1),
        ("max_tokens", 0),
        ("seed", -1),
        ("seed", MAX_SEED + 1),
    ],
)
def test_sampling_names_the_field_and_the_value_it_refuses(field: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"{field} is {value}.*must"):
        Sampling(**{field: value})


def test_sampling_takes_the_ends_of_its_ranges() -> None:
    Sampling(samples=1, temperature=0, top_p=1, top_k=0, max_tokens=1, seed=MAX_SEED)


def test_several_greedy_samples_are_refused_because_they_are_one() -> None:
    with pytest.raises(InputError, match=r"samples is 4 with temperature 0.*set samples to 1"):
        Sampling(samples=4, temperature=0)


def test_request_needs_an_id_a_prompt_and_a_seed() -> None:
    with pytest.raises(InputError, match="empty id"):
        Request(id="", prompt=(1,), seed=0)
    with pytest.raises(InputError, match="'q' has an empty prompt"):
        Request(id="q", prompt=(), seed=0)
    with pytest.raises(InputError, match="'q' has seed -1"):
        Request(id="q", prompt=(1,), seed=-1)


@pytest.mark.parametrize("logprob", [0.5, math.nan])
def test_completion_refuses_what_is_no_log_probability(logprob: float) -> None:
    with pytest.raises(InputError, match="log-probability"):
        Completion(id="q", token_ids=(1,), text="a", status=Status.COMPLETE, logprob=logprob)


def test_completion_that_failed_says_why() -> None:
    with pytest.raises(InputError, match="without a reason"):
        Completion(id="q", token_ids=(), text="", status=Status.ERROR)


def test_scripted_engine_is_an_engine() -> None:
    engine: Engine = ScriptedEngine({"q": "a"})
    request = Request(id="q", prompt=(1,), seed=0)
    assert [completion.text for completion in engine.generate([request], Sampling())] == ["a"]
