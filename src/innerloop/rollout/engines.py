"""Which engines there are, which options belong to which, and which one ``auto`` takes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from innerloop.errors import InputError

TRANSFORMERS, LLAMACPP, VLLM, SERVER = "transformers", "llamacpp", "vllm", "server"
ENGINES = (TRANSFORMERS, LLAMACPP, VLLM, SERVER)
# From so many trajectories on vLLM's start on a CPU, about a minute, is made up for (docs/engines.md): beside
# transformers, and beside llama.cpp, which it passes on small files where it has many streams.
_PAYS, _PAYS_FOR_GGUF = 100, 200
_SMALL_GGUF, _MANY_STREAMS = 2**28, 16  # bytes; completions at once
# Options that only some engines have a use for.
TAKERS: Mapping[str, tuple[str, ...]] = {
    "batch_size": (TRANSFORMERS,),
    "dtype": (TRANSFORMERS, VLLM),
    "device": (TRANSFORMERS,),
    "threads": (TRANSFORMERS, LLAMACPP, VLLM),
    "trust_remote_code": (TRANSFORMERS, VLLM, SERVER),
    "concurrency": (LLAMACPP, VLLM, SERVER),
    "gpu_memory_utilization": (VLLM,),
    "tensor_parallel": (VLLM,),
    "server": (SERVER,),
    "server_model": (SERVER,),
    "api": (SERVER,),
    "key_env": (SERVER,),
    "timeout": (SERVER,),
    "retries": (SERVER,),
    "requests_per_minute": (SERVER,),
}


def able(engine: str, given: Iterable[str]) -> tuple[str, ...]:
    """The engines that can be meant: ``engine`` itself, or for ``auto`` those that take all ``given`` options.

    `InputError` where an option does not apply, and where a server is meant but not named.
    """
    given = list(given)
    if engine != "auto":
        for name in given:
            if engine not in TAKERS.get(name, ENGINES):
                takers = " or ".join(TAKERS[name])
                raise InputError(f"{_option(name)} does not apply to --engine {engine}, only to {takers}: leave it out")
        if engine == SERVER and "server" not in given:
            raise InputError("--engine server needs the server's address: --server http://localhost:8000/v1")
        return (engine,)
    found = [name for name in ENGINES if all(name in TAKERS.get(option, ENGINES) for option in given)]
    if "server" not in given and SERVER in found:
        found.remove(SERVER)
    if not found:
        mattering = ", ".join(_option(name) for name in given if name in TAKERS)
        raise InputError(f"--engine auto: no engine takes {mattering} together; leave some out")
    return tuple(found)


def choose(model: str, among: Collection[str], count: int | None = None, streams: int | None = None) -> tuple[str, str]:
    """The fastest engine of ``among`` that is installed and fits the model, and why it is that one.

    ``count``: trajectories to sample, and ``streams``: at once, where that is known. The order is that of
    ``benchmarks/rollout.py``. A server is taken where one is named. llama.cpp computes with a GGUF file as it is, at
    once, and with one stream several times as fast as others with the unpacked weights; where torch has a GPU and
    llama.cpp has none, the others are faster all the same. vLLM is the fastest on a GPU; on a CPU it has to make up for
    its start first, and is the faster one on a GGUF file where that is small and many streams run.
    """
    from innerloop.model_files import locate
    from innerloop.rollout import llamacpp_engine, vllm_engine

    if SERVER in among:
        return SERVER, "a server is named"
    if len(among) == 1:
        return next(iter(among)), "only it takes these options"
    place = locate(model)
    size = place.stat().st_size if place is not None and place.is_file() else None
    gguf, gpu = size is not None, _torch_has_gpu()
    small = size is not None and size < _SMALL_GGUF and (streams or _MANY_STREAMS) >= _MANY_STREAMS
    why = "the model is no GGUF file"
    if gguf and LLAMACPP not in among:
        why = "llama.cpp does not take these options"
    elif gguf and not llamacpp_engine.installed():
        why = f"llama.cpp would be faster with this GGUF file: {llamacpp_engine.INSTALL}"
    elif gguf and gpu and not llamacpp_engine.has_gpu():
        why = "it uses the GPU, and the installed llama.cpp does not"
    elif small and not gpu and VLLM in among and vllm_engine.installed() and (count or 0) >= _PAYS_FOR_GGUF:
        return VLLM, f"{count} trajectories of so small a model are worth its start"
    elif gguf:
        return LLAMACPP, "the model is a GGUF file"
    if VLLM in among and (vllm_engine.installed() or TRANSFORMERS not in among):
        if gpu:
            return VLLM, "it is the fastest on a GPU"
        if TRANSFORMERS not in among:
            return VLLM, f"{why}, and transformers does not take these options"
        if (count or 0) >= _PAYS:
            return VLLM, f"{count} trajectories are worth its start"
        why += f"; vLLM starts too slowly for fewer than {_PAYS} trajectories on a CPU"
    return TRANSFORMERS, why


def _torch_has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
