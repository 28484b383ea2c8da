"""Which engines there are, which options belong to which, and which one ``auto`` takes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from innerloop.errors import InputError

TRANSFORMERS, LLAMACPP, SERVER = "transformers", "llamacpp", "server"
ENGINES = (TRANSFORMERS, LLAMACPP, SERVER)
# Options that only some engines have a use for.
TAKERS: Mapping[str, tuple[str, ...]] = {
    "batch_size": (TRANSFORMERS,),
    "dtype": (TRANSFORMERS,),
    "device": (TRANSFORMERS,),
    "threads": (TRANSFORMERS, LLAMACPP),
    "trust_remote_code": (TRANSFORMERS, SERVER),
    "concurrency": (LLAMACPP, SERVER),
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


def choose(model: str, among: Collection[str]) -> tuple[str, str]:
    """The fastest engine of ``among`` that is installed and fits the model, and why it is that one.

    A server is taken where one is named. llama.cpp computes with a GGUF file as it is, on a CPU many times as fast as
    with the unpacked weights; where torch has a GPU and llama.cpp has none, transformers is faster all the same.
    """
    from innerloop.model_files import locate
    from innerloop.rollout import llamacpp_engine

    if SERVER in among:
        return SERVER, "a server is named"
    if tuple(among) == (LLAMACPP,):
        return LLAMACPP, "only it takes these options"
    place = locate(model)
    if place is None or not place.is_file():
        return TRANSFORMERS, "the model is no GGUF file"
    if LLAMACPP not in among:
        return TRANSFORMERS, "only it takes these options"
    if not llamacpp_engine.installed():
        return TRANSFORMERS, f"llama.cpp would be faster with this GGUF file: {llamacpp_engine.INSTALL}"
    if _torch_has_gpu() and not llamacpp_engine.has_gpu():
        return TRANSFORMERS, "it uses the GPU, and the installed llama.cpp does not"
    return LLAMACPP, "the model is a GGUF file"


def _torch_has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
