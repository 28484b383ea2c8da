"""``--dry-run``: what a recipe would do and take, without doing it. Nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from innerloop.printable import shell_words
from innerloop.verbs.train.settings import OuterSettings

if TYPE_CHECKING:
    from innerloop.outer.estimate import Build, Work

CONFIGURATION = "recipes/accelerate/multi-gpu.yaml"
_BYTES = {"auto": 4, "float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}
_SPREAD = (2, 8, 64)  # processes to say the memory for, where weights are spread over them

FORWARD = "2·N per token + 4·layers·width of the heads·L(L+1)/2 per row of L tokens"
TRAINING = "6·N per token + 12·layers·width of the heads·L(L+1)/2 per row of L tokens"
TRAINING_LORA = "(4·N + 2·trained) per token + 12·layers·width of the heads·L(L+1)/2 per row of L tokens"


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One kind of work over the whole run. ``bound``: an upper bound, since nobody knows how long rollouts will be."""

    name: str
    tokens: int
    flops: int
    formula: str
    bound: bool = False


@dataclass(frozen=True, kw_only=True)
class PlannedMemory:
    """Bytes of each process: with everything in each (``total``), and with all but activations spread over so many.

    ``copies`` are weights that are there once more: a reference model, or what an inner loop adapted.
    """

    weights: int
    gradients: int
    optimiser: int
    copies: int
    activations: int
    total: int
    spread: dict[int, int]


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a recipe would do. ``dropped`` rows are over the length limit; N is ``matrices``.

    ``tokens_per_pass`` are those of a pass over the questions (None where there are no passes), ``rows_at_once`` those
    that a process works through together, ``longest`` the tokens of the longest row.
    """

    recipe: str
    model: str
    parameters: int
    trained: int
    matrices: int
    questions: int
    rows: int
    dropped: int
    steps: int
    processes: int
    rows_at_once: int
    longest: int
    tokens_per_pass: int | None
    tokens: int
    flops: int
    phases: tuple[Phase, ...]
    memory: PlannedMemory
    commands: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How much a recipe would do, in rows and tokens; see `DryRun`."""

    questions: int
    rows: int
    dropped: int = 0
    steps: int
    rows_at_once: int
    longest: int
    tokens_per_pass: int | None


def skeleton(settings: OuterSettings) -> Any:
    """The model without its weights: on the meta device, with adapters where ``--lora`` asks for them."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from innerloop.libraries import told
    from innerloop.model_files import locate, resolve, tokenizer_folder
    from innerloop.verbs.train.saved import lora_config

    trust = settings.trust_remote_code
    place = locate(settings.model)
    folder = (
        tokenizer_folder(settings.model, trust_remote_code=trust)
        if place is None
        else resolve(settings.model)  # a GGUF file is converted, once
    )
    with torch.device("meta"):
        with told(f"model {settings.model!r}: its configuration cannot be read"):
            config = AutoConfig.from_pretrained(folder, trust_remote_code=trust, local_files_only=True)
            model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=trust, dtype=torch.float32)
        if (lora := lora_config(settings)) is not None:
            from peft import get_peft_model

            model = get_peft_model(model, lora)
    return model


def phase(name: str, work: Work, formula: str, *, bound: bool = False) -> Phase:
    """A phase by its estimated work."""
    return Phase(name=name, tokens=work.tokens, flops=work.flops, formula=formula, bound=bound)


def trained_by(settings: OuterSettings) -> str:
    """The formula of training."""
    return TRAINING if settings.lora is None else TRAINING_LORA


def planned(
    recipe: str,
    settings: OuterSettings,
    build: Build,
    extent: Extent,
    phases: Sequence[Phase],
    command: Sequence[str] | None,
    *,
    logits: bool,
    copied: int = 0,
) -> DryRun:
    """The dry run of a recipe; ``logits``: whether its loss builds them, ``copied``: weights it holds once more."""
    import torch

    from innerloop.outer.estimate import memory
    from innerloop.processes import world

    held = memory(
        build,
        tokens=extent.rows_at_once * extent.longest,
        bytes_each=_BYTES[settings.dtype],
        checkpointing=settings.device != "cpu" and torch.cuda.is_available(),
        logits=logits,
        copied=copied,
    )
    return DryRun(
        recipe=recipe,
        model=settings.model,
        parameters=build.parameters,
        trained=build.trained,
        matrices=build.sizes.all,
        questions=extent.questions,
        rows=extent.rows,
        dropped=extent.dropped,
        steps=extent.steps,
        processes=world(),
        rows_at_once=extent.rows_at_once,
        longest=extent.longest,
        tokens_per_pass=extent.tokens_per_pass,
        tokens=sum(entry.tokens for entry in phases),
        flops=sum(entry.flops for entry in phases),
        phases=tuple(phases),
        memory=PlannedMemory(
            weights=held.weights,
            gradients=held.gradients,
            optimiser=held.optimiser,
            copies=held.copies,
            activations=held.activations,
            total=held.total,
            spread={processes: held.shared(processes) for processes in _SPREAD},
        ),
        commands=_commands(command),
    )


def _commands(command: Sequence[str] | None) -> tuple[str, ...]:
    """How to do it: in one process, and in several."""
    if command is None:
        return ()
    own = [word for word in command[1:] if word != "--dry-run"]
    return (
        shell_words(["innerloop", *own]),
        shell_words(["accelerate", "launch", "--config_file", CONFIGURATION, "-m", "innerloop", *own]),
    )
