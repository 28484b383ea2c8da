"""Which engine is taken, and which options are refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from innerloop.errors import InputError
from innerloop.rollout.engines import ENGINES, TAKERS, able, choose
from innerloop.verbs.rollout import RolloutSettings

MODULE = "innerloop.rollout.llamacpp_engine"


@pytest.fixture
def gguf(tmp_path: Path) -> str:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")
    return str(path)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what is installed and what has a GPU."""
    import innerloop.rollout.llamacpp_engine
    import innerloop.rollout.vllm_engine  # noqa: F401

    def set_up(*, llamacpp: bool = True, gpu: bool = False, llamacpp_gpu: bool = False, vllm: bool = False) -> None:
        monkeypatch.setattr(sys.modules["innerloop.rollout.vllm_engine"], "installed", lambda: vllm)
        module = sys.modules[MODULE]  # its dotted name leads to the verb of the same name
        monkeypatch.setattr(module, "installed", lambda: llamacpp)
        monkeypatch.setattr(module, "has_gpu", lambda: llamacpp_gpu)
        monkeypatch.setattr(sys.modules["innerloop.rollout.engines"], "_torch_has_gpu", lambda: gpu)

    return set_up


def test_auto_takes_the_fastest_that_is_installed_and_fits(gguf: str, tiny_model: Path, machine: Any) -> None:
    both = ("transformers", "llamacpp")
    machine()
    assert choose(gguf, both) == ("llamacpp", "the model is a GGUF file")
    assert choose(str(tiny_model), both) == ("transformers", "the model is no GGUF file")
    assert choose("org/name", both)[0] == "transformers"
    assert choose(gguf, ("transformers",))[0] == "transformers"
    assert choose(gguf, ("server",)) == ("server", "a server is named")
    machine(gpu=True)
    assert choose(gguf, both) == ("transformers", "it uses the GPU, and the installed llama.cpp does not")
    machine(gpu=True, llamacpp_gpu=True)
    assert choose(gguf, both)[0] == "llamacpp"
    machine(llamacpp=False)
    name, why = choose(gguf, both)
    assert (name, "pip install 'innerloop[llamacpp]'" in why) == ("transformers", True)


def test_auto_takes_vllm_on_a_gpu_and_where_there_is_enough_to_do(gguf: str, tiny_model: Path, machine: Any) -> None:
    every, model = ("transformers", "llamacpp", "vllm"), str(tiny_model)
    large = str(Path(gguf).with_name("large.gguf"))
    with Path(large).open("wb") as file:
        file.truncate(2**30)  # takes no room
    machine()
    assert choose(model, every, 10_000)[0] == "transformers", "not installed"
    machine(vllm=True)
    assert choose(model, every, 10_000) == ("vllm", "10000 trajectories are worth its start")
    for count in (None, 8):
        name, why = choose(model, every, count)
        assert (name, "vLLM starts too slowly for fewer than 100 trajectories" in why) == ("transformers", True)
    assert choose(gguf, every, 10_000) == ("vllm", "10000 trajectories of so small a model are worth its start")
    for count, streams in ((None, None), (199, None), (10_000, 8)):
        assert choose(gguf, every, count, streams) == ("llamacpp", "the model is a GGUF file")
    assert choose(large, every, 10_000)[0] == "llamacpp"
    assert choose(gguf, ("transformers", "llamacpp"), 10_000)[0] == "llamacpp"
    assert choose(model, ("transformers", "llamacpp"), 10_000)[0] == "transformers", "options that it does not take"
    assert choose(model, ("llamacpp", "vllm"), 8)[0] == "vllm"
    assert choose(gguf, ("llamacpp", "vllm"), 8)[0] == "llamacpp"
    machine(gpu=True, vllm=True)
    assert choose(model, every, 8) == ("vllm", "it is the fastest on a GPU")
    assert choose(gguf, every, 8)[0] == "vllm", "llama.cpp without a GPU is slower"
    machine(gpu=True, vllm=True, llamacpp_gpu=True)
    assert choose(gguf, every, 8)[0] == "llamacpp"


def test_options_narrow_what_auto_may_take() -> None:
    assert able("auto", []) == ("transformers", "llamacpp", "vllm")
    assert able("auto", ["threads"]) == ("transformers", "llamacpp", "vllm")
    assert able("auto", ["dtype"]) == ("transformers", "vllm")
    assert able("auto", ["device"]) == ("transformers",)
    assert able("auto", ["concurrency"]) == ("llamacpp", "vllm")
    assert able("auto", ["tensor_parallel"]) == ("vllm",)
    assert able("auto", ["server", "concurrency"]) == ("server",)
    with pytest.raises(InputError, match="no engine takes --batch-size, --server together; leave some out"):
        able("auto", ["batch_size", "server"])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("option", TAKERS)
def test_an_option_that_an_engine_has_no_use_for_is_refused(engine: str, option: str) -> None:
    given = [option, *(["server"] if engine == "server" else [])]
    if engine in TAKERS[option]:
        assert able(engine, given) == (engine,)
    else:
        with pytest.raises(InputError, match=f"does not apply to --engine {engine}, only to .*: leave it out"):
            able(engine, given)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engine": "server"}, "--engine server needs the server's address: --server http://localhost:8000/v1"),
        ({"server": "http://h"}, "--server does not apply to --engine transformers, only to server"),
        (
            {"engine": "llamacpp", "dtype": "float32"},
            "--dtype does not apply to --engine llamacpp, only to transformers or vllm",
        ),
        ({"engine": "vllm", "device": "cuda:1"}, "--device does not apply to --engine vllm, only to transformers"),
        ({"tensor_parallel": 2}, "--tensor-parallel does not apply to --engine transformers, only to vllm"),
        ({"engine": "vllm", "tensor_parallel": 0}, "--tensor-parallel 0: must be 1 or more"),
        ({"engine": "vllm", "gpu_memory_utilization": 0}, "--gpu-memory-utilization 0: must be more than 0"),
        ({"engine": "llamacpp", "batch_size": 4}, "--batch-size does not apply to --engine llamacpp"),
        ({"engine": "server", "server": "http://h", "threads": 1}, "--threads does not apply to --engine server"),
        ({"engine": "server", "server": "ftp://h"}, "give an address such as http://localhost:8000/v1"),
        ({"engine": "server", "server": "http://k:s@h"}, "put the key into INNERLOOP_API_KEY instead"),
        ({"engine": "server", "server": "http://h", "timeout": 0}, "--timeout 0: must be more than 0"),
        ({"engine": "server", "server": "http://h", "retries": -1}, "--retries -1: must be 0 or more"),
        ({"engine": "llamacpp", "concurrency": 0}, "--concurrency 0: must be 1 or more"),
        (
            {"engine": "vlm"},
            "--engine vlm: did you mean vllm? it must be one of transformers, llamacpp, vllm, server, ray, auto",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_settings_refuse_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        RolloutSettings(questions="q", **settings)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_every_option_of_an_engine_is_a_setting_with_a_help_that_names_its_engines() -> None:
    fields = RolloutSettings.__dataclass_fields__
    for option, takers in TAKERS.items():
        if option in ("dtype", "device", "threads", "trust_remote_code", "server"):
            continue
        start = fields[option].metadata["help"].partition(":")[0]
        assert set(start.split(", ")) == set(takers)


# From the command line


@pytest.mark.model
def test_a_rollout_through_a_server_and_its_going_on(
    cli: Any, tmp_path: Path, tiny_model: Path, questions_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the tokenizer of a model folder, whose weights are not read."""
    from innerloop.store import Run
    from innerloop.testing import Asked, Reply, byte_tokenizer, serving

    (tiny_model / "model.safetensors").stat()
    tokenizer = byte_tokenizer()

    def script(asked: Asked) -> Reply:
        if "max_tokens" in asked.body and asked.body["max_tokens"] == 1:
            return Reply(text="x", finish="length")
        text = tokenizer.decode(asked.body["prompt"])
        if "3 and 3" in text and not fixed:
            return Reply(status=400, body=b'{"error": {"message": "no threes"}}')
        return Reply(text="So it is \\boxed{8}.")

    fixed: list[bool] = []
    monkeypatch.setenv("INNERLOOP_API_KEY", "sk-secret")
    count = lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])  # noqa: E731
    with serving(script, models=[{"id": "served"}], count=count) as server:
        arguments = ["rollout", "--model", tiny_model, "--questions", questions_file, "--samples", "2", "--top-k", "0"]
        arguments += ["--engine", "auto", "--server", server.url, "--out", tmp_path / "R", "--json"]
        ran = cli(*arguments)
        assert ran.status == 0, ran.err
        assert "engine: server (a server is named)" in ran.err
        result = json.loads(ran.out)
        counts = {name: result["modes"][0][name] for name in ("right", "wrong", "undecided", "failed")}
        assert counts == {"right": 2, "wrong": 8, "undecided": 2, "failed": 2}
        run = Run.open(tmp_path / "R")
        failed = [entry for entry in run.trajectories() if entry.reason]
        assert {entry.id.partition("/")[0] for entry in failed} == {"q-3"}
        assert {entry.reason for entry in failed} == {"400: no threes"}
        assert run.manifest["stages"]["rollout"]["model"]["served"] == "served"
        fixed.append(True)
        before = len(server.asked)
        ran = cli(*arguments)
        assert ran.status == 0, ran.err
        assert "this run began with it" in ran.err
        assert json.loads(ran.out)["new_trajectories"] == 2
        assert len([a for a in server.asked[before:] if a.body["max_tokens"] > 1]) == 2, "only what had failed"
    for path in (tmp_path / "R").rglob("*"):
        assert not path.is_file() or b"sk-secret" not in path.read_bytes()
    assert "sk-secret" not in ran.err


@pytest.mark.model
@pytest.mark.engine
def test_a_rollout_through_llama_cpp(cli: Any, tmp_path: Path, questions_file: Path) -> None:
    pytest.importorskip("xllamacpp", reason="no llama.cpp here: pip install 'innerloop[llamacpp]'")
    arguments = ["rollout", "--questions", questions_file, "--limit", "2", "--max-tokens", "8", "--threads", "1"]
    ran = cli(*arguments, "--engine", "auto", "--concurrency", "2", "--out", tmp_path / "R", "--json")
    assert ran.status == 0, ran.err
    assert "engine: llamacpp" in ran.err
    result = json.loads(ran.out)
    assert (result["trajectories"], result["modes"][0]["tokens"], result["modes"][0]["truncated"]) == (2, 16, 2)
