from __future__ import annotations

import functools
import logging
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from innerloop.errors import InputError
from innerloop.models import LoadedModel, wrap
from innerloop.rollout.batch import can_join, can_pad
from innerloop.rollout.engine import Completion, Request, Sampling
from innerloop.rollout.sample import plan, sample
from innerloop.rollout.transformers_engine import TransformersEngine
from innerloop.schema import Mode, Question, Status
from innerloop.testing import ARCHITECTURES, byte_tokenizer, tiny

pytestmark = pytest.mark.model

HOT = Sampling(temperature=1.0, top_k=0, max_tokens=20)


def requests(count: int = 7, lengths: tuple[int, ...] = (3, 20, 37)) -> list[Request]:
    """Random prompts of unequal length (the middle ones beyond the tiny models' window), the first one twice."""
    rng = random.Random(0)
    prompts = [tuple(rng.randrange(256) for _ in range(lengths[i % len(lengths)])) for i in range(count - 1)]
    return [Request(id=f"r{i}", prompt=prompt, seed=7919 * i) for i, prompt in enumerate([*prompts, prompts[0]])]


def run(loaded: LoadedModel, asked: list[Request], sampling: Sampling = HOT, **options: Any) -> dict[str, Completion]:
    return {c.id: c for c in TransformersEngine(loaded, **options).generate(asked, sampling)}


def independent_logprob(loaded: LoadedModel, request: Request, completion: Completion) -> float:
    """Of the completion's tokens by one forward over everything, no cache, no padding."""
    with torch.no_grad():
        ids = torch.tensor([request.prompt + completion.token_ids])
        logprobs = loaded.model(input_ids=ids, use_cache=False).logits[0].double().log_softmax(dim=-1)
    start = len(request.prompt) - 1
    return sum(logprobs[start + i, token].item() for i, token in enumerate(completion.token_ids))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_neighbours_order_and_padding_change_nothing(architecture: str, caplog: pytest.LogCaptureFixture) -> None:
    loaded = tiny(architecture, dtype="float64")  # no draw is near enough to a boundary for its rounding
    asked = requests()
    together = run(loaded, asked)
    assert len(together) == len(asked)
    assert len({c.token_ids for c in together.values()}) == len(asked)  # equal prompts too: their seeds differ
    alone = run(loaded, asked, batch_size=1)
    some = run(loaded, asked[::-2], batch_size=3)
    for request in asked:
        one, many = alone[request.id], together[request.id]
        assert one.token_ids == many.token_ids
        assert (one.text, one.status, one.reason, one.seed) == (many.text, many.status, many.reason, many.seed)
        assert many.logprob == pytest.approx(one.logprob, abs=1e-9)
        # State-space layers compute in float32 inside, one token at a time otherwise than many at once.
        tolerance = 1e-9 if can_pad(loaded) else 1e-3
        assert many.logprob == pytest.approx(independent_logprob(loaded, request, many), abs=tolerance)
        if request.id in some:
            assert some[request.id].token_ids == one.token_ids
    assert "failed together" not in caplog.text


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_is_generates_greedy(architecture: str) -> None:
    loaded = tiny(architecture, dtype="float64")  # no draw is near enough to a boundary for its rounding
    asked = requests(4)
    ours = run(loaded, asked, Sampling(temperature=0, max_tokens=12))
    for request in asked:
        ids = torch.tensor([request.prompt])
        theirs = loaded.model.generate(  # type: ignore[operator]
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=12,
            eos_token_id=258,
            pad_token_id=256,
        )
        assert ours[request.id].token_ids == tuple(theirs[0, len(request.prompt) :].tolist())


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1.0, top_k=0, max_tokens=1),
        Sampling(temperature=0.6, top_k=0, max_tokens=1),
        Sampling(temperature=1.3, top_k=10, max_tokens=1),
        Sampling(temperature=1.0, top_k=0, top_p=0.7, max_tokens=1),
        Sampling(temperature=0.8, top_k=30, top_p=0.8, max_tokens=1),
    ],
    ids=str,
)
def test_samples_follow_the_models_distribution(sampling: Sampling) -> None:
    loaded = tiny("llama")
    prompt = requests()[1].prompt
    count = 20_000
    asked = [Request(id=str(i), prompt=prompt, seed=i) for i in range(count)]
    done = run(loaded, asked, sampling, batch_size=5000)
    seen = torch.bincount(torch.tensor([c.token_ids[0] for c in done.values()]), minlength=263)
    with torch.no_grad():
        logits = loaded.model(input_ids=torch.tensor([prompt])).logits[:, -1].double()
    steps = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_k:
        steps.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        steps.append(TopPLogitsWarper(sampling.top_p))
    expected = steps(torch.tensor([prompt]), logits).softmax(dim=-1)[0] * count
    assert seen[expected == 0].sum() == 0
    rare = expected < 5  # the test statistic wants cells that are not nearly empty: all rare tokens make one
    observed = torch.cat([seen[~rare], seen[rare].sum()[None]]).double()
    wanted = torch.cat([expected[~rare], expected[rare].sum()[None]])
    full = wanted > 0
    assert chisquare(observed[full].numpy(), wanted[full].numpy()).pvalue > 1e-3
    logprobs = logits.log_softmax(dim=-1)[0]  # at temperature 1, nothing cut off, whatever was sampled with
    assert all(c.logprob == pytest.approx(logprobs[c.token_ids[0]].item(), abs=1e-4) for c in done.values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_log_probabilities_are_those_of_one_forward_in_lower_precision_too(dtype: str) -> None:
    loaded = tiny("llama", dtype=dtype)
    asked = requests(lengths=(20,))
    for request in asked:
        (completion,) = run(loaded, [request]).values()
        tolerance = 1e-4 if dtype == "float32" else 0.5
        assert completion.logprob == pytest.approx(independent_logprob(loaded, request, completion), abs=tolerance)


def test_the_end_token_completes_and_is_not_shown() -> None:
    loaded = tiny("llama")
    ends = list(range(128))  # half of the letters end: nearly every completion does
    loaded.model.generation_config.eos_token_id = ends  # type: ignore[union-attr]
    done = run(loaded, requests())
    complete = [c for c in done.values() if c.status is Status.COMPLETE]
    assert complete
    for completion in complete:
        assert completion.token_ids[-1] in ends
        assert not set(completion.token_ids[:-1]) & set(ends)
        assert completion.text == loaded.decode(completion.token_ids[:-1])
        assert completion.reason is None


def test_the_tokenizers_end_token_counts_where_the_model_names_none() -> None:
    loaded = tiny("llama")
    loaded.model.generation_config.eos_token_id = None  # type: ignore[union-attr]
    with torch.no_grad():
        loaded.model.lm_head.weight[258] = 50 * loaded.model.lm_head.weight[258]  # type: ignore[union-attr,index,operator]
    done = run(loaded, requests(), Sampling(temperature=1.0, top_k=0, max_tokens=60))
    assert any(c.token_ids[-1] == 258 and c.status is Status.COMPLETE for c in done.values())


def test_the_token_limit_truncates() -> None:
    for completion in run(tiny("llama"), requests(), Sampling(temperature=0, max_tokens=3)).values():
        assert completion.status is Status.TRUNCATED
        assert len(completion.token_ids) == 3
        assert completion.reason == "the limit of 3 tokens came before the end"


def test_the_context_limits_and_names_itself() -> None:
    loaded = tiny("llama", max_position_embeddings=32)
    asked = [Request(id=str(n), prompt=tuple(range(n)), seed=0) for n in (20, 31, 32, 40)]
    done = run(loaded, asked)
    assert (len(done["20"].token_ids), len(done["31"].token_ids)) == (12, 1)
    assert done["31"].reason == "the context of 32 tokens is full"
    for name in ("32", "40"):
        assert done[name].status is Status.ERROR
        assert f"has {name} tokens, and tiny-llama has a context of 32" in (done[name].reason or "")
        assert (done[name].token_ids, done[name].logprob) == ((), None)


def test_a_token_outside_the_vocabulary_is_an_error_of_its_own_request_only() -> None:
    loaded = tiny("llama")
    asked = requests()
    bad = Request(id="bad", prompt=(1, 263), seed=0)
    done = run(loaded, [*asked, bad])
    assert "outside 0…262" in (done["bad"].reason or "")
    assert {name: c for name, c in done.items() if name != "bad"} == run(loaded, asked)


def meddle(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, before: Callable[[Tensor], None]) -> None:
    """Calls ``before`` with the input ids of every forward."""
    forward = loaded.model.forward

    @functools.wraps(forward)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        before(kwargs["input_ids"])
        return forward(*args, **kwargs)

    monkeypatch.setattr(loaded.model, "forward", wrapped)


def test_a_failure_hits_the_request_that_causes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny("llama", dtype="float64")
    asked = requests()
    expected = run(loaded, asked)

    def fail(ids: Tensor) -> None:
        if (ids == 260).any():
            raise ValueError("no users here\nsecond line")

    meddle(loaded, monkeypatch, fail)
    done = run(loaded, [*asked, Request(id="bad", prompt=(5, 260, 5), seed=0)])
    bad = done.pop("bad")
    assert (bad.status, bad.reason, bad.token_ids) == (Status.ERROR, "ValueError: no users here", ())
    assert {name: c.token_ids for name, c in done.items()} == {name: c.token_ids for name, c in expected.items()}


def test_out_of_memory_halves_the_batch_and_goes_on_where_it_was(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = tiny("llama", dtype="float64")
    asked = requests(12)
    expected = run(loaded, asked)
    forwards: list[int] = []

    def fail(ids: Tensor) -> None:
        forwards.append(len(ids))
        if len(forwards) > 5 and len(ids) > 3:
            raise torch.OutOfMemoryError("no more")

    meddle(loaded, monkeypatch, fail)
    with caplog.at_level(logging.WARNING, "innerloop"):
        done = run(loaded, asked, batch_size=8)
    assert {name: c.token_ids for name, c in done.items()} == {name: c.token_ids for name, c in expected.items()}
    for name, completion in done.items():
        assert completion.logprob == pytest.approx(expected[name].logprob, abs=1e-9)
    assert [record.getMessage() for record in caplog.records] == [
        "out of memory with 8 completions at once; going on with 4",
        "out of memory with 4 completions at once; going on with 2",
    ]
    assert max(forwards[forwards.index(2) :]) == 2  # the batches behind it are smaller from the start


def test_out_of_memory_with_one_row_is_an_error_not_an_endless_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny("llama")

    def fail(ids: Tensor) -> None:
        raise torch.OutOfMemoryError("never enough")

    meddle(loaded, monkeypatch, fail)
    done = run(loaded, requests())
    assert {(c.status, c.reason) for c in done.values()} == {(Status.ERROR, "OutOfMemoryError: never enough")}


def test_an_interrupt_goes_through_and_what_was_yielded_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny("llama")
    calls = 0

    def interrupt(ids: Tensor) -> None:
        nonlocal calls
        calls += 1
        if calls > 30:
            raise KeyboardInterrupt

    meddle(loaded, monkeypatch, interrupt)
    completions = TransformersEngine(loaded, batch_size=2).generate(requests(), HOT)
    assert len([next(completions), next(completions)]) == 2
    with pytest.raises(KeyboardInterrupt):
        next(completions)


def test_rows_leave_the_batch_when_done_and_are_given_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny("llama", max_position_embeddings=40)
    rows: list[int] = []
    meddle(loaded, monkeypatch, lambda ids: rows.append(len(ids)))
    given_after = [
        (completion.id, len(rows))
        for completion in TransformersEngine(loaded).generate(requests(lengths=(37, 30, 22)), HOT)
    ]
    assert rows[1:] == sorted(rows[1:], reverse=True)  # the first forward reads equal prompts once
    assert rows[1] > rows[-1]
    assert given_after[0][1] == 3  # a prompt of 37 tokens in a context of 40 is done after three draws
    assert given_after[-1][1] == len(rows)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_that_join_a_running_batch_give_what_they_give_alone(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some letters end a completion, so that places fall free all the time."""
    loaded = tiny(architecture, dtype="float64")  # no draw is near enough to a boundary for its rounding
    loaded.model.generation_config.eos_token_id = list(range(16))  # type: ignore[union-attr]
    rng = random.Random(1)
    prompts = [
        tuple(rng.randrange(256) for _ in range(length)) for length in (3, 40, 12, 25, 3, 60, 18, 7) for _ in "ab"
    ]
    asked = [Request(id=f"r{i}", prompt=prompt, seed=104729 * i) for i, prompt in enumerate(prompts)]
    sampling = Sampling(temperature=1.0, top_k=0, max_tokens=24)
    expected = run(loaded, asked, sampling, batch_size=1, refill=False)
    assert len({len(c.token_ids) for c in expected.values()}) > 1
    steps: list[int] = []
    meddle(loaded, monkeypatch, lambda ids: steps.append(len(ids)) if ids.shape[1] == 1 else None)
    static = run(loaded, asked, sampling, batch_size=5, refill=False)
    shrinking = len(steps)
    refilled = run(loaded, asked, sampling, batch_size=5)
    for name, alone in expected.items():
        for other in (static[name], refilled[name]):
            assert (other.token_ids, other.status, other.reason) == (alone.token_ids, alone.status, alone.reason)
            assert other.logprob == pytest.approx(alone.logprob, abs=1e-9)
    assert max(steps) <= 5
    refilling = len(steps) - shrinking
    # In the same order, nobody can begin later than in batches that run to their end.
    assert refilling < shrinking if can_join(loaded) else refilling == shrinking


def test_padding_that_nobody_needs_any_more_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long row leaves; those that join behind it do not go on carrying its columns."""
    loaded = tiny("gemma3", dtype="float64", max_position_embeddings=100)
    asked = [Request(id=f"r{n}", prompt=tuple(range(n)), seed=n) for n in (96, 8, 7, 6, 5, 4)]
    widths: list[int] = []
    forward = loaded.model.forward

    @functools.wraps(forward)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        widths.append(kwargs["attention_mask"].shape[-1] if "attention_mask" in kwargs else 0)
        return forward(*args, **kwargs)

    monkeypatch.setattr(loaded.model, "forward", wrapped)
    sampling = Sampling(temperature=1.0, top_k=0, max_tokens=10)
    run(loaded, asked, sampling, batch_size=2)
    assert max(widths) >= 99
    assert widths[-1] < 25


def test_a_model_whose_state_cannot_be_padded_says_that_batches_shrink(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "innerloop"):
        TransformersEngine(tiny("mamba"))
        TransformersEngine(tiny("llama"))
    assert [record.getMessage() for record in caplog.records] == [
        "tiny-mamba: rows cannot join a batch under way, so each batch ends before the next one begins"
    ]


def test_a_row_that_fails_as_it_joins_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny("llama", dtype="float64")
    asked = requests(9)
    sampling = Sampling(temperature=1.0, top_k=0, max_tokens=6)
    expected = run(loaded, asked, sampling)

    def fail(ids: Tensor) -> None:
        if (ids == 260).any():
            raise ValueError("no users here")

    meddle(loaded, monkeypatch, fail)
    done = run(loaded, [*asked, Request(id="bad", prompt=(5, 260), seed=0)], sampling, batch_size=3)
    assert done.pop("bad").reason == "ValueError: no users here"
    assert {name: c.token_ids for name, c in done.items()} == {name: c.token_ids for name, c in expected.items()}


def test_equal_prompts_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny("llama")
    shapes: list[tuple[int, ...]] = []
    meddle(loaded, monkeypatch, lambda ids: shapes.append(tuple(ids.shape)))
    prompt = requests()[1].prompt
    run(loaded, [Request(id=str(i), prompt=prompt, seed=i) for i in range(8)])
    assert shapes[:2] == [(1, 20), (8, 1)]


def test_memory_bounds_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny("llama")
    asked = requests(lengths=(20,))
    rows: list[int] = []
    meddle(loaded, monkeypatch, lambda ids: rows.append(len(ids)))
    free = run(loaded, asked)
    assert rows[1] == len(asked)
    rows.clear()
    assert set(run(loaded, asked, memory=1)) == set(free)
    assert set(rows) == {1}


def test_a_long_context_counts_against_memory_as_long_as_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny("llama")
    asked = [Request(id=str(n), prompt=tuple(range(n)), seed=0) for n in (200, *range(10, 22))]
    rows: list[int] = []
    meddle(loaded, monkeypatch, lambda ids: rows.append(len(ids)))
    run(loaded, asked, Sampling(temperature=0, max_tokens=6), memory=400_000)
    assert set(rows[:6]) == {1}  # the long one has the memory for itself; the short ones then share it
    assert max(rows) > 3


@pytest.mark.parametrize(("options", "field"), [({"batch_size": 0}, "batch_size"), ({"memory": 0}, "memory")])
def test_settings_are_checked(options: dict[str, int], field: str) -> None:
    with pytest.raises(InputError, match=rf"{field} is 0: it must be"):
        TransformersEngine(tiny("llama"), **options)


def test_a_model_without_a_cache_is_refused() -> None:
    config = AutoConfig.for_model("rwkv", vocab_size=263, hidden_size=32, num_hidden_layers=2)
    loaded = wrap(AutoModelForCausalLM.from_config(config), byte_tokenizer(), name="rwkv")
    with pytest.raises(InputError, match="RwkvForCausalLM keeps its state in no transformers cache"):
        TransformersEngine(loaded)


def test_who_can_be_padded() -> None:
    assert can_pad(tiny("llama"))
    assert can_pad(tiny("gemma3"))
    assert not any(can_pad(tiny(name)) for name in ("mamba", "falcon_h1", "jamba", "lfm2", "qwen3_next"))


def test_float64_with_eager_attention_is_not_padded_into_nan() -> None:
    loaded = tiny("gemma3", dtype="float64")
    expected = run(loaded, requests())
    loaded.model.set_attn_implementation("eager")
    done = run(loaded, requests())
    assert {name: c.token_ids for name, c in done.items()} == {name: c.token_ids for name, c in expected.items()}


def test_logits_that_are_not_numbers_are_an_error() -> None:
    loaded = tiny("llama")
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight[5] = torch.nan  # type: ignore[union-attr,index,operator]
    good, bad = Request(id="good", prompt=(1, 2), seed=0), Request(id="bad", prompt=(1, 5), seed=0)
    done = run(loaded, [good, bad], Sampling(temperature=1.0, max_tokens=1))
    assert (done["good"].status, done["bad"].status) == (Status.TRUNCATED, Status.ERROR)
    assert "not numbers" in (done["bad"].reason or "")


def test_questions_become_trajectories_in_every_mode() -> None:
    loaded = tiny("llama", thinking_switch=True)
    questions = [Question(id=f"q{i}", question=f"{i} + {i}?", answer=str(2 * i)) for i in range(2)]
    sampling = Sampling(samples=2, temperature=1.0, max_tokens=10, seed=4)
    planned = plan(questions, loaded, sampling, modes=list(Mode))
    trajectories = {t.id: t for t in sample(TransformersEngine(loaded), loaded, planned, sampling)}
    assert len(trajectories) == 12
    for trajectory in trajectories.values():
        assert trajectory.status is not Status.ERROR
        assert trajectory.tokens == len(trajectory.token_ids or ())
        if trajectory.mode is Mode.THINKING:  # ten random bytes do not close the thinking part
            assert trajectory.final is None
    rest = plan(questions, loaded, sampling, modes=list(Mode), done=set(trajectories) - {"q1/thinking-1"})
    (again,) = sample(TransformersEngine(loaded), loaded, rest, sampling)
    assert again.token_ids == trajectories["q1/thinking-1"].token_ids


def test_smollm2_repeats_itself_whatever_the_batch(smollm2: LoadedModel) -> None:
    """A real model in float32: rounding is far below the gaps between the best tokens for as short a text as this."""
    questions = [Question(id=f"q{i}", question=f"What is {i} plus {7 * i}?", answer=str(8 * i)) for i in range(2)]
    sampling = Sampling(samples=2, max_tokens=16, seed=1)
    planned = plan(questions, smollm2, sampling)
    batches = [
        {t.id: t for t in sample(TransformersEngine(smollm2, batch_size=size), smollm2, planned, sampling)}
        for size in (4, 1)
    ]
    assert {i: t.token_ids for i, t in batches[0].items()} == {i: t.token_ids for i, t in batches[1].items()}
    request = planned[0].request
    trajectory = batches[0][request.id]
    assert trajectory.token_ids is not None
    with torch.no_grad():
        ids = torch.tensor([request.prompt + trajectory.token_ids])
        logprobs = smollm2.model(input_ids=ids).logits[0, len(request.prompt) - 1 : -1].log_softmax(dim=-1)
    picked = logprobs.gather(-1, torch.tensor(trajectory.token_ids)[:, None]).sum().item()
    assert trajectory.logprob == pytest.approx(picked, abs=1e-2)
