"""The server engine against real servers on loopback: llama.cpp's own, and transformers serve."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from innerloop.model_files import resolve
from innerloop.rollout.engine import Completion, Request, Sampling
from innerloop.rollout.llamacpp_engine import INSTALL, LlamaCppEngine, gguf_file, installed
from innerloop.rollout.server_client import Patience
from innerloop.rollout.server_engine import ServerEngine
from innerloop.schema import Status
from innerloop.speaker import Speaker, load_speaker

pytestmark = [pytest.mark.model, pytest.mark.engine]

GREEDY = Sampling(temperature=0, max_tokens=48)
PATIENCE = Patience(timeout=120, retries=1)


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    return load_speaker("smollm2", instruction="")


def asked(engine: ServerEngine, sampling: Sampling) -> list[Completion]:
    engine.connect(sampling)
    prompts = [tuple(engine.speaker.prompt(text)) for text in ("Say hi.", "Tell me a story about a very long road.")]
    requests = [Request(id=f"r{i}", prompt=prompt, seed=i) for i, prompt in enumerate(prompts)]
    return sorted(engine.generate(requests, sampling), key=lambda completion: completion.id)


def check(done: list[Completion]) -> None:
    short, long = done
    assert (short.status, short.reason) == (Status.COMPLETE, None)
    assert 0 < (short.tokens or 0) < 48
    assert short.text.strip()
    assert (long.status, long.tokens) == (Status.TRUNCATED, 48)


@pytest.mark.skipif(not installed(), reason=f"no llama.cpp here: {INSTALL}")
def test_llama_cpps_server_however_it_is_talked_to(speaker: Speaker) -> None:
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(gguf_file("smollm2"))
    settings.n_parallel, settings.n_ctx = 1, 1024
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    settings.verbosity, settings.cache_ram_mib = 0, 0
    settings.ui = settings.warmup = settings.cache_prompt = False
    settings.api_keys = ["sk-secret"]
    server = xllamacpp.Server(settings)
    said = {}
    for api in ("auto", "text", "chat"):
        options: dict[str, Any] = {"api": api, "key": "sk-secret", "patience": PATIENCE, "concurrency": 1}
        engine = ServerEngine(server.listening_address, model="smollm2", speaker=speaker, **options)
        done = asked(engine, GREEDY)
        check(done)
        said[engine.api] = [completion.text for completion in done]
    assert set(said) == {"tokens", "text", "chat"}
    assert said["tokens"] == said["text"] == said["chat"]
    own = LlamaCppEngine(gguf_file("smollm2"), speaker, streams=1, threads=1)
    assert [c.text for c in asked_directly(own, speaker)] == said["tokens"]


def asked_directly(engine: LlamaCppEngine, speaker: Speaker) -> list[Completion]:
    prompts = [tuple(speaker.prompt(text)) for text in ("Say hi.", "Tell me a story about a very long road.")]
    return list(engine.generate([Request(id=f"r{i}", prompt=p, seed=i) for i, p in enumerate(prompts)], GREEDY))


@pytest.fixture(scope="module")
def transformers_serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a server and the model's folder, which is its name there."""
    if any(find_spec(package) is None for package in ("fastapi", "uvicorn", "openai")):
        pytest.skip("no transformers serve here: pip install 'transformers[serving]'")
    folder = resolve("smollm2")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log"
    program = "from transformers.cli.transformers import main; main()"
    command = [sys.executable, "-c", program, "serve", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as sink:
        process = subprocess.Popen([*command, "--device", "cpu"], stdout=sink, stderr=sink, env=environment)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                assert process.poll() is None, log.read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}", folder
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("api", [pytest.param("text", marks=pytest.mark.long), "chat"])
def test_transformers_serve(transformers_serve: tuple[str, Path], speaker: Speaker, api: str) -> None:
    """It takes no token ids and no top_k of its own, and finds its model by the folder's name alone."""
    url, folder = transformers_serve
    wanted: Any = "auto" if api == "text" else api
    engine = ServerEngine(
        url, model="smollm2", served=str(folder), speaker=speaker, api=wanted, patience=PATIENCE, concurrency=1
    )
    check(asked(engine, Sampling(temperature=0, top_k=7, max_tokens=48)))
    assert engine.api == api
    hot = Sampling(temperature=1.0, top_k=0, max_tokens=8)
    texts = [tuple(c.text for c in asked(engine, hot)) for _ in range(2)]
    assert texts[0] == texts[1], "one request at a time: a seed repeats"
