"""Reading what passes through chosen modules of a model while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn


class Watch(NamedTuple):
    """A module by its name in the model, and which side of it."""

    module: str
    side: Literal["input", "output"]


def input_of(module: str) -> Watch:
    """What goes into a module, as its first argument."""
    return Watch(module, "input")


def output(module: str) -> Watch:
    """What comes out of a module."""
    return Watch(module, "output")


layer_input, layer_output = input_of, output  # a block's sides are the residual stream before and after it


@contextmanager
def watching(model: nn.Module, watches: Sequence[Watch]) -> Iterator[dict[Watch, Tensor]]:
    """What passed through the watched modules in the last forward inside the block."""
    seen: dict[Watch, Tensor] = {}

    def hook(watch: Watch) -> Any:
        def record(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
            seen[watch] = first(args, kwargs) if watch.side == "input" else (out[0] if isinstance(out, tuple) else out)

        return record

    with ExitStack() as hooks:
        for watch in dict.fromkeys(watches):
            handle = model.get_submodule(watch.module).register_forward_hook(hook(watch), with_kwargs=True)
            hooks.callback(handle.remove)
        yield seen


def first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """A module's input: its first argument, or ``hidden_states`` where it is called by keywords."""
    found: Tensor = args[0] if args else kwargs["hidden_states"]
    return found
