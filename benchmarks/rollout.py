"""Sampled tokens per second of every engine that is installed, beside the same engine without our wrapping.

    python benchmarks/rollout.py                                  # 1, 16 and 64 streams, 3 rounds
    python benchmarks/rollout.py --python .venv-vllm/bin/python   # vLLM too, in its environment (make setup-vllm)
    python benchmarks/rollout.py --streams 4 --rounds 1 --max-tokens 32 --only refill,generate

The same model, prompts and sampling for all: questions of GSM8K and short sums by turns, so that answers are of mixed
length and end by themselves or at ``--max-tokens``. ``streams`` is how many completions an engine may work on at once;
there are ``--per-stream`` times as many requests, and four at least. Engines take turns, in every other round the other
way around; each is loaded and has done a little before the clock starts, in every round. Completions differ between
engines (other rounding, other generators), so tokens are counted for each. Prints Markdown: the median, and the range
over rounds.

A second table says what our wrapping costs: seconds per token of an engine, over those of the same engine bare, round
by round; wall time, and CPU time of the process, which says less of the machine's other guests.

``generate``: plain ``model.generate`` in static batches of like lengths. ``static`` and ``refill``: engine transformers
without and with rows that join. ``llamacpp bare`` and ``vllm bare``: the package's own interface fed directly, from
threads or by ``LLMEngine.add_request`` and ``step``. ``server``: engine server against llama.cpp's server on loopback,
which reads a prompt that it has met before only once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

from innerloop.rollout.engine import Engine, Request, Sampling, fold_seed
from innerloop.speaker import Speaker, load_speaker
from measure import DATA, log, spread

Work = Callable[[Sequence[Request]], int]  # samples, and gives the number of tokens
Rate = tuple[float, float]  # tokens per second of wall time, and of the process's CPU time
WRAPPED = {"llamacpp": "llamacpp bare", "vllm float32": "vllm bare float32", "vllm bfloat16": "vllm bare bfloat16"}


class Bench:
    """Makes the contestants. Each is kept loaded; ``streams`` is set anew by `work`."""

    def __init__(self, model: str, threads: int, sampling: Sampling) -> None:
        self.model = model
        self.threads = threads
        self.sampling = sampling
        self.speaker: Speaker = load_speaker(model)
        self._kept: dict[Any, Any] = {}

    def names(self) -> list[str]:
        """Those that can run here."""
        found = [f"{name} {kind}" for name in ("generate", "static", "refill") for kind in ("float32", "bfloat16")]
        if find_spec("xllamacpp"):
            found += ["llamacpp", "llamacpp bare", "server"]
        return found

    def vllm_names(self) -> list[str]:
        """Those that can run where vLLM is installed."""
        return ["vllm float32", "vllm bare float32", "vllm bfloat16", "vllm bare bfloat16"]

    def work(self, name: str, streams: int) -> Work:
        """What one of the contestants does with requests."""
        kind = name.rpartition(" ")[2]
        if name.startswith("generate"):
            return lambda requests: self._generate(self._loaded(kind), requests, streams)
        if name.startswith("vllm bare"):
            return self._vllm_bare(kind, streams)
        if name == "llamacpp bare":
            return lambda requests: self._llamacpp_bare(requests, streams)
        key = (name, streams)
        if key not in self._kept:
            self._kept = {k: v for k, v in self._kept.items() if k[1] in (streams, "loaded")}
            self._kept[key] = self._engine(name, kind, streams)
        return lambda requests: count(self._kept[key], requests, self.sampling)

    def end(self) -> None:
        """Ends processes."""
        for engine in self._kept.values():
            getattr(engine, "close", lambda: None)()
        self._kept = {}

    def _engine(self, name: str, kind: str, streams: int) -> Engine:
        if name.startswith("vllm"):
            from innerloop.model_files import resolve
            from innerloop.rollout.vllm_engine import VllmEngine

            self.end()
            place = resolve(self.model)
            return VllmEngine(place, self.speaker, streams=streams, dtype=kind, threads=self.threads)
        if name == "llamacpp":
            from innerloop.rollout.llamacpp_engine import LlamaCppEngine, gguf_file

            return LlamaCppEngine(gguf_file(self.model), self.speaker, streams=streams, threads=self.threads)
        if name == "server":
            from innerloop.rollout.server_engine import ServerEngine

            address = self._llamacpp_server(streams).listening_address
            engine = ServerEngine(address, model=self.model, speaker=self.speaker, concurrency=streams)
            engine.connect(self.sampling)
            return engine
        from innerloop.rollout.transformers_engine import TransformersEngine

        return TransformersEngine(self._loaded(kind), batch_size=streams, refill=name.startswith("refill"))

    def _loaded(self, kind: str) -> Any:
        from innerloop.models import load

        if (kind, "loaded") not in self._kept:
            self._kept[kind, "loaded"] = load(self.model, dtype=kind, device="cpu", threads=self.threads)  # type: ignore[arg-type]
        return self._kept[kind, "loaded"]

    def _generate(self, loaded: Any, requests: Sequence[Request], streams: int) -> int:
        import torch

        sampling, tokens = self.sampling, 0
        ordered = sorted(requests, key=lambda request: -len(request.prompt))
        pad = loaded.tokenizer.pad_token_id or 0
        for start in range(0, len(ordered), streams):
            prompts = [request.prompt for request in ordered[start : start + streams]]
            width = max(map(len, prompts))
            ids = torch.tensor([(pad,) * (width - len(prompt)) + prompt for prompt in prompts])
            mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
            with torch.inference_mode():
                made = loaded.model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    do_sample=True,
                    temperature=sampling.temperature,
                    top_k=sampling.top_k,
                    max_new_tokens=sampling.max_tokens,
                    pad_token_id=pad,
                )
            end = loaded.tokenizer.eos_token_id
            for row in made[:, width:].tolist():
                tokens += row.index(end) + 1 if end in row else len(row)
        return tokens

    def _llamacpp_server(self, streams: int) -> Any:
        import xllamacpp

        from innerloop.rollout.llamacpp_engine import gguf_file

        key = ("llamacpp server", streams)
        if key not in self._kept:
            settings = xllamacpp.CommonParams()
            settings.model.path = str(gguf_file(self.model))
            settings.n_parallel, settings.n_ctx = streams, streams * 512
            settings.n_batch = 2048
            settings.cache_ram_mib = settings.verbosity = 0
            settings.ui = settings.warmup = False
            settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = self.threads
            self._kept[key] = xllamacpp.Server(settings)
        return self._kept[key]

    def _llamacpp_bare(self, requests: Sequence[Request], streams: int) -> int:
        server, sampling = self._llamacpp_server(streams), self.sampling

        def one(request: Request) -> int:
            body = {
                "prompt": list(request.prompt),
                "max_tokens": sampling.max_tokens,
                "temperature": sampling.temperature,
                "top_k": sampling.top_k,
                "top_p": 1.0,
                "min_p": 0.0,
                "seed": fold_seed(request.seed),
                "cache_prompt": False,
            }
            return int(server.handle_completions(body)["usage"]["completion_tokens"])

        with ThreadPoolExecutor(2 * streams) as pool:
            return sum(pool.map(one, requests))

    def _vllm_bare(self, kind: str, streams: int) -> Work:
        """``LLMEngine`` of our own engine's settings is the engine; here only requests and outputs are bare."""
        ours = self.work(f"vllm {kind}", streams)
        key = (f"vllm {kind}", streams)

        def run(requests: Sequence[Request]) -> int:
            from vllm import SamplingParams
            from vllm.sampling_params import RequestOutputKind

            if self._kept[key]._engine is None:
                ours(requests[:1])
            engine = self._kept[key]._engine
            for request in requests:
                parameters = SamplingParams(
                    temperature=self.sampling.temperature,
                    top_k=self.sampling.top_k,
                    max_tokens=self.sampling.max_tokens,
                    seed=fold_seed(request.seed),
                    stop_token_ids=[self.speaker.tokenizer.eos_token_id],
                    detokenize=False,
                    output_kind=RequestOutputKind.FINAL_ONLY,
                )
                engine.add_request(request.id, {"prompt_token_ids": list(request.prompt)}, parameters)
            tokens = 0
            while engine.has_unfinished_requests():
                tokens += sum(len(output.outputs[0].token_ids) for output in engine.step() if output.finished)
            return tokens

        return run


class Elsewhere:
    """The contestants of another Python, over a pipe."""

    def __init__(self, python: str, arguments: Sequence[str]) -> None:
        command = [python, os.path.abspath(__file__), "--serve", *arguments]  # noqa: PTH100
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def rate(self, name: str, streams: int, warm: bool) -> Rate:
        """One round."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, streams, warm]) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith('{"rate"'):
                wall, cpu = json.loads(line)["rate"]
                return float(wall), float(cpu)
        raise RuntimeError(f"the process for {name} has ended")

    def end(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


def count(engine: Engine, requests: Sequence[Request], sampling: Sampling) -> int:
    """Tokens that an engine makes; an error stops the benchmark."""
    tokens = 0
    for completion in engine.generate(requests, sampling):
        if completion.status.value == "error":
            raise RuntimeError(f"{completion.id}: {completion.reason}")
        tokens += completion.tokens or len(completion.token_ids)
    return tokens


def questions(speaker: Speaker, number: int) -> list[Request]:
    """Short sums and GSM8K questions by turns."""
    with (DATA / "gsm8k_test.jsonl").open() as lines:
        long = [json.loads(line)["question"] for line, _ in zip(lines, range(number), strict=False)]
    draw = random.Random(0)
    mixed = [long[i] if i % 2 else f"What is {draw.randrange(99)} plus {draw.randrange(99)}?" for i in range(number)]
    return [Request(id=f"r{i}", prompt=tuple(speaker.prompt(text)), seed=7919 * i) for i, text in enumerate(mixed)]


def rate(bench: Bench, name: str, streams: int, per_stream: int, *, warm: bool) -> Rate:
    """One round. Not ``warm``: it is the first one, and the engine is to make room for what it will be given."""
    requests = questions(bench.speaker, max(4, streams * per_stream))
    work = bench.work(name, streams)
    longest = sorted(requests, key=lambda request: -len(request.prompt))
    work(longest[: 1 if warm else max(4, min(streams, 16))])
    start, used = time.perf_counter(), time.process_time()
    tokens = work(requests)
    return tokens / (time.perf_counter() - start), tokens / (time.process_time() - used)


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--streams", type=lambda text: [int(part) for part in text.split(",")], default=[1, 16, 64])
    parser.add_argument("--per-stream", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=192)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="parts of names, with commas between them")
    parser.add_argument("--python", help="of an environment with vLLM and innerloop")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measures, and prints a table."""
    given = arguments()
    bench = Bench(given.model, given.threads, Sampling(max_tokens=given.max_tokens))
    if given.serve:
        for line in sys.stdin:
            name, streams, warm = json.loads(line)
            found = rate(bench, name, streams, given.per_stream, warm=warm)
            sys.stdout.write(json.dumps({"rate": found}) + "\n")
            sys.stdout.flush()
        bench.end()
        return
    wanted = [part for part in given.only.split(",") if part]
    chosen = [name for name in bench.names() if not wanted or any(part in name for part in wanted)]
    there = [name for name in bench.vllm_names() if not wanted or any(part in name for part in wanted)]
    elsewhere = None
    if given.python and there:
        passed = ["--model", given.model, "--per-stream", str(given.per_stream), "--threads", str(given.threads)]
        elsewhere = Elsewhere(given.python, [*passed, "--max-tokens", str(given.max_tokens)])
        chosen += there
    elif find_spec("vllm"):
        chosen += there
    rates: dict[tuple[str, int], list[Rate]] = {}
    for streams in given.streams:
        for turn in range(given.rounds):
            warm = turn > 0
            for name in chosen if turn % 2 == 0 else reversed(chosen):
                if elsewhere is not None and name.startswith("vllm"):
                    found = elsewhere.rate(name, streams, warm)
                else:
                    found = rate(bench, name, streams, given.per_stream, warm=warm)
                rates.setdefault((name, streams), []).append(found)
                log(f"{name}, {streams} streams, round {turn + 1}: {found[0]:.1f} tokens/s")
    bench.end()
    if elsewhere is not None:
        elsewhere.end()
    table(given, chosen, rates)


def table(given: argparse.Namespace, names: Sequence[str], rates: dict[tuple[str, int], list[Rate]]) -> None:
    """Markdown."""
    shape = f"{given.model}, {given.threads} CPU threads, at most {given.max_tokens} tokens, {given.rounds} rounds"
    head = "| engine | " + " | ".join(f"{streams} streams" for streams in given.streams) + " |\n"
    head += "| --- |" + " ---: |" * len(given.streams)
    print(f"Tokens per second: {shape}; median (range)\n\n{head}")
    for name in names:
        cells = [spread([wall for wall, _ in rates[name, streams]], 0) for streams in given.streams]
        print(f"| {name} | " + " | ".join(cells) + " |")
    print(f"\nSeconds per token over those of the same engine bare: wall, CPU; median (range)\n\n{head}")
    for name, bare in WRAPPED.items():
        if not {name, bare} <= set(names):
            continue
        cells = []
        for streams in given.streams:
            rounds = list(zip(rates[name, streams], rates[bare, streams], strict=True))
            cells.append(", ".join(spread([plain[i] / ours[i] for ours, plain in rounds], 2) for i in (0, 1)))
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
