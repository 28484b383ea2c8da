"""vLLM as an engine: what it is asked and what its answers become (a stand-in), and the bundled model, for real."""

from __future__ import annotations

import json
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from innerloop.errors import InputError
from innerloop.rollout.engine import Completion, Request, Sampling, fold_seed
from innerloop.rollout.vllm_engine import INSTALL, VllmEngine, installed
from innerloop.schema import Status
from innerloop.speaker import Speaker, load_speaker

MODULE = sys.modules[VllmEngine.__module__]  # its dotted name leads to the verb of the same name

HI = [71, 72]  # what the byte tokenizer has for "hi"


def by_id(completions: Iterator[Completion]) -> dict[str, Completion]:
    return {completion.id: completion for completion in completions}


class FakeLLM:
    """vLLM's engine as far as ours uses it: a request ends after as many steps as its prompt has tokens."""

    def __init__(self, arguments: dict[str, Any], replies: dict[str, tuple[str, list[int]]]) -> None:
        slots = arguments.get("max_num_seqs", 2)
        self.arguments = arguments
        self.replies = replies
        self.asked: dict[str, Any] = {}
        self.left: dict[str, int] = {}
        self.most = 0
        self.ended = False
        self.dies = False
        self.vllm_config = types.SimpleNamespace(scheduler_config=types.SimpleNamespace(max_num_seqs=slots))
        self.engine_core = types.SimpleNamespace(shutdown=self.shutdown)

    def shutdown(self) -> None:
        self.ended = True

    def add_request(self, name: str, prompt: dict[str, list[int]], parameters: Any) -> None:
        if 13 in prompt["prompt_token_ids"]:
            raise ValueError("no thirteen\nsecond line")
        self.asked[name] = parameters
        self.left[name] = len(prompt["prompt_token_ids"])
        self.most = max(self.most, len(self.left))

    def step(self) -> list[Any]:
        if self.dies:
            raise sys.modules["vllm.v1.engine.exceptions"].EngineDeadError("gone")
        self.left = {name: steps - 1 for name, steps in self.left.items()}
        done = [name for name, steps in self.left.items() if steps <= 0]
        self.left = {name: steps for name, steps in self.left.items() if name not in done}
        return [self._output(name) for name in done]

    def _output(self, name: str) -> Any:
        finish, ids = self.replies.get(name, ("stop", [*HI, 258]))
        total = float("nan") if finish == "nan" else -1.5
        kind = "stop" if finish == "nan" else finish
        output = types.SimpleNamespace(token_ids=ids, finish_reason=kind, cumulative_logprob=total if ids else None)
        return types.SimpleNamespace(request_id=name, finished=True, outputs=[output])


class Fake:
    """The stand-in's modules in ``sys.modules``; ``engines`` are those that were started."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, cpu: bool) -> None:
        self.engines: list[FakeLLM] = []
        self.replies: dict[str, tuple[str, list[int]]] = {}
        self.refuses: Exception | None = None
        self.cleaned = 0
        fake = self

        class LLMEngine:
            @staticmethod
            def from_engine_args(arguments: dict[str, Any]) -> FakeLLM:
                if fake.refuses is not None:
                    raise fake.refuses
                fake.engines.append(FakeLLM(arguments, fake.replies))
                return fake.engines[-1]

        def clean() -> None:
            fake.cleaned += 1

        parts: dict[str, dict[str, Any]] = {
            "vllm": {"SamplingParams": lambda **kw: types.SimpleNamespace(**kw)},
            "vllm.distributed": {"cleanup_dist_env_and_memory": clean},
            "vllm.platforms": {"current_platform": types.SimpleNamespace(is_cpu=lambda: cpu)},
            "vllm.sampling_params": {"RequestOutputKind": types.SimpleNamespace(FINAL_ONLY="final only")},
            "vllm.engine": {},
            "vllm.engine.arg_utils": {"EngineArgs": lambda **kw: kw},
            "vllm.v1": {},
            "vllm.v1.engine": {},
            "vllm.v1.engine.llm_engine": {"LLMEngine": LLMEngine},
            "vllm.v1.engine.exceptions": {"EngineDeadError": type("EngineDeadError", (Exception,), {})},
        }
        for name, content in parts.items():
            module = types.ModuleType(name)
            vars(module).update(content)
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(MODULE, "installed", lambda: True)
        for name in ("VLLM_NO_USAGE_STATS", "VLLM_LOGGING_LEVEL", "VLLM_LOGGING_STREAM", "OMP_NUM_THREADS"):
            monkeypatch.delenv(name, raising=False)
        for name in ("VLLM_CPU_OMP_THREADS_BIND", "VLLM_ENABLE_V1_MULTIPROCESSING"):
            monkeypatch.setenv(name, "")  # so that it is set back whatever happens
            monkeypatch.delenv(name)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    return Fake(monkeypatch, cpu=True)


@pytest.fixture
def tiny_speaker() -> Speaker:
    from innerloop.speaker import speak
    from innerloop.testing import byte_tokenizer

    return speak(byte_tokenizer(), name="tiny", max_context=64)


def ask(*lengths: int, **prompts: tuple[int, ...]) -> list[Request]:
    made = {f"n{n}": tuple(range(20, 20 + n)) for n in lengths} | prompts
    return [Request(id=name, prompt=prompt, seed=2**40 + i) for i, (name, prompt) in enumerate(made.items())]


@pytest.mark.model
class TestMapping:
    """Loads no model, but transformers, for the configuration of the folder."""

    def test_what_vllm_is_asked(self, fake: Fake, tiny_speaker: Speaker, tiny_model: Path) -> None:
        engine = VllmEngine(tiny_model, tiny_speaker, streams=3, threads=2)
        sampling = Sampling(temperature=0.6, top_k=7, top_p=0.9, max_tokens=50)
        requests = ask(5, 30)
        done = by_id(engine.generate(requests, sampling))
        (llm,) = fake.engines
        given = llm.arguments
        assert (given["model"], given["tokenizer"]) == (str(tiny_model), str(tiny_model))
        assert (given["load_format"], given["logprobs_mode"]) == ("safetensors", "raw_logprobs")
        assert (given["generation_config"], given["trust_remote_code"]) == ("vllm", False)
        assert (given["dtype"], given["enforce_eager"], given["max_num_seqs"]) == ("float32", True, 3)
        assert not given["enable_chunked_prefill"], "which fails with seeds"
        assert given["max_num_batched_tokens"] >= given["max_model_len"]
        assert given["max_model_len"] == 64, "no more than the model's context"
        assert 0 < given["kv_cache_memory_bytes"] < 2**30
        assert "gpu_memory_utilization" not in given
        asked = vars(llm.asked["n30"])
        assert asked == {
            "temperature": 0.6,
            "top_k": 7,
            "top_p": 0.9,
            "max_tokens": 34,
            "seed": fold_seed(requests[1].seed),
            "stop_token_ids": [258],
            "logprobs": 0,
            "detokenize": False,
            "output_kind": "final only",
        }
        assert llm.asked["n5"].max_tokens == 50
        assert done["n5"] == Completion(
            id="n5",
            token_ids=(*HI, 258),
            text="hi",
            status=Status.COMPLETE,
            logprob=-1.5,
            seed=requests[0].seed,
        )

    def test_on_a_gpu_vllm_knows_better(
        self, monkeypatch: pytest.MonkeyPatch, tiny_speaker: Speaker, tiny_model: Path
    ) -> None:
        fake = Fake(monkeypatch, cpu=False)
        engine = VllmEngine(tiny_model, tiny_speaker, memory_share=0.5, tensor_parallel=2)
        list(engine.generate(ask(5), Sampling(max_tokens=2)))
        given = fake.engines[0].arguments
        assert (given["dtype"], given["gpu_memory_utilization"], given["tensor_parallel_size"]) == ("bfloat16", 0.5, 2)
        assert not {"enforce_eager", "max_num_seqs", "kv_cache_memory_bytes"} & set(given)
        engine.close()
        assert (fake.engines[0].ended, fake.cleaned) == (True, 0)

    def test_every_way_to_end(self, fake: Fake, tiny_speaker: Speaker, tiny_model: Path) -> None:
        fake.replies.update(
            cut=("length", HI), full=("length", HI[:1]), gone=("abort", HI[:1]), nan=("nan", [HI[0], 258])
        )
        requests = ask(cut=(1, 2), full=(1,) * 60, gone=(1, 2), nan=(3,), odd=(13,), long=(1,) * 64, strange=(1, 999))
        done = by_id(VllmEngine(tiny_model, tiny_speaker).generate(requests, Sampling(max_tokens=20)))
        assert {name: (c.status, c.reason) for name, c in done.items()} == {
            "cut": (Status.TRUNCATED, "the limit of 20 tokens came before the end"),
            "full": (Status.TRUNCATED, "the context of 64 tokens is full"),
            "gone": (Status.ERROR, "vLLM ended it: abort"),
            "nan": (Status.ERROR, "tiny gives logits that are not numbers"),
            "odd": (Status.ERROR, "vLLM: no thirteen"),
            "long": (
                Status.ERROR,
                "the prompt has 64 tokens, and tiny has a context of 64: nothing can follow; use a shorter question or "
                "a model with a longer context",
            ),
            "strange": (Status.ERROR, "the prompt holds a token id outside 0…262, the vocabulary of tiny"),
        }
        assert (done["cut"].text, done["gone"].token_ids, done["nan"].logprob) == ("hi", (HI[0],), None)

    def test_each_as_soon_as_it_is_done_and_few_in_the_air(
        self, fake: Fake, tiny_speaker: Speaker, tiny_model: Path
    ) -> None:
        engine = VllmEngine(tiny_model, tiny_speaker, streams=2)
        names = [c.id for c in engine.generate(ask(9, 1, 5, 3, 7, 2), Sampling(max_tokens=4))]
        assert names[:2] == ["n1", "n3"]
        assert fake.engines[0].most == 4
        assert not fake.engines[0].ended, "it stays for the next call"
        assert len(list(engine.generate(ask(3), Sampling(max_tokens=4)))) == 1
        assert len(fake.engines) == 1

    def test_more_room_needs_another_one(self, fake: Fake, tiny_model: Path, tiny_speaker: Speaker) -> None:
        import dataclasses

        engine = VllmEngine(tiny_model, dataclasses.replace(tiny_speaker, max_context=4096))
        for tokens, rooms in ((100, [256]), (240, [256]), (300, [256, 512]), (10, [256, 512])):
            list(engine.generate(ask(9), Sampling(max_tokens=tokens)))
            assert [llm.arguments["max_model_len"] for llm in fake.engines] == rooms
        assert [llm.ended for llm in fake.engines] == [True, False]

    def test_stopping_early_ends_its_processes(self, fake: Fake, tiny_speaker: Speaker, tiny_model: Path) -> None:
        engine = VllmEngine(tiny_model, tiny_speaker)
        coming = engine.generate(ask(1, 2, 3), Sampling(max_tokens=4))
        assert next(coming).id == "n1"
        coming.close()  # type: ignore[attr-defined]
        assert (fake.engines[0].ended, fake.cleaned) == (True, 1)
        assert len(list(engine.generate(ask(3), Sampling(max_tokens=4)))) == 1
        assert len(fake.engines) == 2

    def test_an_engine_that_dies_stops_the_run(self, fake: Fake, tiny_speaker: Speaker, tiny_model: Path) -> None:
        engine = VllmEngine(tiny_model, tiny_speaker)
        coming = engine.generate(ask(1, 2), Sampling(max_tokens=4))
        next(coming)
        fake.engines[0].dies = True
        with pytest.raises(ConnectionError, match="vLLM's process has ended"):
            next(coming)
        assert fake.engines[0].ended

    def test_what_vllm_refuses_is_one_line(self, fake: Fake, tiny_speaker: Speaker, tiny_model: Path) -> None:
        fake.refuses = RuntimeError("Engine core initialization failed.\nmore")
        with pytest.raises(InputError, match=r"vLLM cannot run '.*': Engine core initialization failed\.; what its"):
            list(VllmEngine(tiny_model, tiny_speaker).generate(ask(1), Sampling(max_tokens=4)))

    def test_stop_tokens_are_the_models_and_the_tokenizers(
        self, fake: Fake, tiny_speaker: Speaker, tmp_path: Path
    ) -> None:
        (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 7}))
        assert sorted(VllmEngine(tmp_path, tiny_speaker)._stops) == [7, 258]
        (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [3, 4]}))
        assert sorted(VllmEngine(tmp_path, tiny_speaker)._stops) == [3, 4, 258]

    def test_its_environment_is_quiet_and_sends_nothing(
        self, fake: Fake, tiny_speaker: Speaker, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import os

        monkeypatch.setenv("VLLM_LOGGING_LEVEL", "DEBUG")
        list(VllmEngine(tiny_model, tiny_speaker, threads=3).generate(ask(1), Sampling(max_tokens=4)))
        found = {name: os.environ[name] for name in ("VLLM_NO_USAGE_STATS", "VLLM_LOGGING_LEVEL", "OMP_NUM_THREADS")}
        assert found == {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "DEBUG", "OMP_NUM_THREADS": "3"}

    def test_the_manifest_knows_the_weights(self, fake: Fake, tiny_speaker: Speaker, tiny_model: Path) -> None:
        described = VllmEngine(tiny_model, tiny_speaker).describe()
        assert (described["engine"], described["architecture"]) == ("vllm", "LlamaForCausalLM")
        assert described["parameters"] > 10_000
        assert len(described["fingerprint"]) == 20

    def test_float64_is_refused(self, fake: Fake, tiny_speaker: Speaker, tiny_model: Path) -> None:
        with pytest.raises(InputError, match="vLLM has no float64"):
            VllmEngine(tiny_model, tiny_speaker, dtype="float64")


def test_without_the_package_the_command_that_installs_it_is_named(
    cli: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, questions_file: Path
) -> None:
    monkeypatch.setattr(MODULE, "find_spec", lambda name: None)
    ran = cli("rollout", "--engine", "vllm", "--questions", questions_file, "--out", tmp_path / "R")
    assert ran.status == 2
    assert f"engine vllm needs the package vllm: {INSTALL}" in ran.err.splitlines()[-1]
    assert not (tmp_path / "R" / "trajectories").exists()


# For real


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    return load_speaker("smollm2")


@pytest.fixture(scope="module")
def engine(speaker: Speaker) -> Iterator[VllmEngine]:
    from innerloop.model_files import resolve

    engine = VllmEngine(resolve("smollm2"), speaker, streams=8)
    yield engine
    engine.close()


@pytest.mark.model
@pytest.mark.engine
@pytest.mark.filterwarnings("default")  # vLLM works in this process, and its warnings are not ours to mend
@pytest.mark.skipif(not installed(), reason="no vLLM here: make test-vllm has an environment of its own for it")
class TestReal:
    @staticmethod
    def requests(speaker: Speaker, count: int = 6) -> list[Request]:
        questions = [f"What is {i % 3} + 2?" for i in range(count)]
        prompts = [tuple(speaker.prompt(question)) for question in questions]
        return [Request(id=f"r{i}", prompt=prompt, seed=2**33 + i) for i, prompt in enumerate(prompts)]

    @pytest.mark.long
    def test_prompts_that_do_not_fit_into_one_step(self, speaker: Speaker, engine: VllmEngine) -> None:
        """Read in parts, they made vLLM fail on a CPU."""
        asked = [Request(id=f"l{i}", prompt=(5 + i,) * 640, seed=i) for i in range(8)]  # comes first: it sets the room
        done = by_id(engine.generate(asked, Sampling(max_tokens=2)))
        assert {name: completion.status for name, completion in done.items()} == {
            request.id: Status.TRUNCATED for request in asked
        }

    def test_every_request_once_seeds_repeat_and_the_limit_truncates(
        self, speaker: Speaker, engine: VllmEngine
    ) -> None:
        asked = self.requests(speaker)
        sampling = Sampling(max_tokens=10)
        done = by_id(engine.generate(asked, sampling))
        assert set(done) == {request.id for request in asked}
        assert len({c.token_ids for c in done.values()}) > 3, "equal prompts, other seeds"
        end = speaker.tokenizer.eos_token_id
        assert any(completion.status is Status.TRUNCATED for completion in done.values())
        for completion in done.values():
            ids = completion.token_ids
            if completion.status is Status.COMPLETE:
                assert (ids[-1], completion.text) == (end, speaker.decode(ids[:-1]))
            else:
                assert completion.reason == "the limit of 10 tokens came before the end"
                assert (len(ids), end in ids, completion.text) == (10, False, speaker.decode(ids))
        again = by_id(engine.generate(asked[::-1], sampling))
        same = sum(again[name].token_ids == done[name].token_ids for name in done)
        assert same >= len(asked) - 1, "whatever the order, up to rounding"

    def test_its_log_probabilities_are_the_models_own(self, speaker: Speaker, engine: VllmEngine) -> None:
        """At temperature 1 over all tokens, whatever was sampled with."""
        import torch

        from innerloop.models import load

        asked = self.requests(speaker, 3)
        loaded = load("smollm2", dtype="float32", device="cpu")
        for completion in engine.generate(asked, Sampling(temperature=0.5, top_k=5, max_tokens=20)):
            prompt = next(request.prompt for request in asked if request.id == completion.id)
            with torch.no_grad():
                logits = loaded.model(input_ids=torch.tensor([prompt + completion.token_ids])).logits[0]
            logprobs = logits[len(prompt) - 1 : -1].log_softmax(dim=-1)
            mine = logprobs.gather(-1, torch.tensor(completion.token_ids)[:, None]).sum().item()
            assert completion.logprob == pytest.approx(mine, abs=1e-2)

    def test_greedy_is_transformers_greedy(self, speaker: Speaker, engine: VllmEngine) -> None:
        """But for near-ties: where they part, transformers' two best tokens are within rounding."""
        import torch

        from innerloop.models import load
        from innerloop.rollout.transformers_engine import TransformersEngine

        asked = self.requests(speaker, 3)
        loaded = load("smollm2", dtype="float32", device="cpu")
        sampling = Sampling(temperature=0, max_tokens=32)
        theirs = by_id(TransformersEngine(loaded).generate(asked, sampling))
        ours = by_id(engine.generate(asked, sampling))
        for request in asked:
            a, b = ours[request.id].token_ids, theirs[request.id].token_ids
            if a != b:
                split = next(i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
                with torch.no_grad():
                    logits = loaded.model(input_ids=torch.tensor([request.prompt + b[:split]])).logits[0, -1]
                best, second = logits.topk(2).values
                assert best - second < 1e-3
        end = speaker.tokenizer.eos_token_id
        prompt = tuple(speaker.encode("<|im_start|>user\nSay hi.<|im_end|>\n<|im_start|>assistant\n"))
        (short,) = engine.generate([Request(id="a", prompt=prompt, seed=0)], Sampling(temperature=0, max_tokens=40))
        assert (short.status, short.token_ids[-1], "<|im_end|>" in short.text) == (Status.COMPLETE, end, False)

    def test_errors_are_those_of_their_own_request(self, speaker: Speaker, engine: VllmEngine) -> None:
        long = Request(id="long", prompt=(5,) * 8192, seed=0)
        odd = Request(id="odd", prompt=(5, 10**6), seed=0)
        done = by_id(engine.generate([long, odd, *self.requests(speaker, 1)], Sampling(max_tokens=2)))
        assert {name: c.status.value for name, c in done.items()} == {
            "long": "error",
            "odd": "error",
            "r0": "truncated",
        }
        assert "has a context of 8192: nothing can follow" in (done["long"].reason or "")

    def test_stopping_early_ends_it(self, speaker: Speaker, engine: VllmEngine) -> None:
        """Comes after those above: the engine that it ends is theirs."""
        coming = engine.generate(self.requests(speaker), Sampling(max_tokens=64))
        next(coming)
        assert engine._engine is not None
        coming.close()  # type: ignore[attr-defined]
        assert engine._engine is None
        assert not workers(psutil.Process())

    @pytest.mark.long
    def test_a_rollout_with_processes_of_its_own_leaves_none(
        self, cli: Any, tmp_path: Path, questions_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As on a GPU."""
        monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
        seen: list[list[str]] = []
        step = VllmEngine._step
        monkeypatch.setattr(VllmEngine, "_step", lambda self: seen.append(workers(psutil.Process())) or step(self))
        arguments = ["rollout", "--questions", questions_file, "--limit", "2", "--max-tokens", "8", "--samples", "2"]
        ran = cli(*arguments, "--engine", "vllm", "--concurrency", "4", "--out", tmp_path / "R", "--json")
        assert ran.status == 0, ran.err
        result = json.loads(ran.out)
        assert (result["trajectories"], result["modes"][0]["tokens"], result["modes"][0]["truncated"]) == (4, 32, 4)
        assert seen[0], "there were some"
        deadline = time.monotonic() + 20
        while workers(psutil.Process()) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not workers(psutil.Process())


def workers(process: psutil.Process) -> list[str]:
    """vLLM's processes below one. What renders chat templates stays, and Python's resource tracker, as everywhere."""
    children = [child for child in process.children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
    lines = [" ".join(child.cmdline()) for child in children]
    return [line for line in lines if "resource_tracker" not in line and "template_process" not in line]
