"""Sampling on a GPU: the log-probabilities of the CPU, the same noise, and completions that no batch changes."""

import pytest
import torch

from innerloop.rollout.draw import gumbel
from innerloop.rollout.engine import Request, Sampling
from innerloop.rollout.transformers_engine import TransformersEngine
from innerloop.schema import Status
from innerloop.testing import ARCHITECTURES

from .conftest import keeps_state, on

pytestmark = [pytest.mark.gpu, pytest.mark.model]

CPU = torch.device("cpu")
SAMPLING = Sampling(temperature=1.0, top_k=0, max_tokens=12)


def requests(count=6):
    """Prompts of unequal lengths."""
    return [Request(id=str(n), prompt=tuple(range(97, 97 + 3 * n + 2)), seed=n) for n in range(count)]


def sampled(loaded, **options):
    engine = TransformersEngine(loaded, **options)
    return {completion.id: completion for completion in engine.generate(requests(), SAMPLING)}


@torch.no_grad()
def logprob(loaded, request, completion):
    """log p of what was sampled, by one plain forward."""
    ids = torch.tensor([[*request.prompt, *completion.token_ids]], device=loaded.device)
    logits = loaded.model(input_ids=ids).logits[0, len(request.prompt) - 1 : -1].float().log_softmax(dim=-1)
    return float(logits.gather(-1, torch.tensor(completion.token_ids, device=loaded.device)[:, None]).sum())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_log_probability_is_that_of_the_cpu(architecture, dtype, device, record):
    done = sampled(on(device, architecture, dtype), batch_size=4)  # rows leave, and others join
    assert {completion.status for completion in done.values()} <= {Status.COMPLETE, Status.TRUNCATED}
    cpu = on(CPU, architecture, "float32")
    errors = [
        abs(done[request.id].logprob - logprob(cpu, request, done[request.id])) / len(done[request.id].token_ids)
        for request in requests()
    ]
    where = {"architecture": architecture, "dtype": dtype}
    record("rollout: largest error of a completion's log-probability per token", max(errors), "nats", **where)
    assert max(errors) < ((1e-2 if keeps_state(architecture) else 1e-4) if dtype == "float32" else 1.0)


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2"])
def test_a_completion_does_not_depend_on_its_batch(architecture, device):
    loaded = on(device, architecture, "float64")
    alone, together = sampled(loaded, batch_size=1), sampled(loaded, batch_size=5)
    here = sampled(on(CPU, architecture, "float64"))
    for name, completion in alone.items():
        assert completion.token_ids == together[name].token_ids == here[name].token_ids


def test_the_noise_is_the_same_on_every_device(device):
    seeds, index = torch.tensor([0, 5, -(2**62)]), torch.tensor([0, 7, 1000])
    tokens = torch.arange(1000)[None]
    there = gumbel(seeds.to(device), index.to(device), tokens.to(device)).cpu()
    torch.testing.assert_close(there, gumbel(seeds, index, tokens), rtol=1e-12, atol=1e-12)


def test_memory_that_is_free_bounds_the_batch(device):
    assert set(sampled(on(device, "llama", "float32"), memory=1)) == {request.id for request in requests()}
