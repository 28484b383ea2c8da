"""``train init``: a fresh model, a folder like any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from innerloop.errors import InputError
from innerloop.verbs.shared import OutputSettings, about, at_least, check_choices


@dataclass(frozen=True, kw_only=True)
class InitSettings(OutputSettings):
    """What to make."""

    shape: Literal["tiny", "small"] = field(
        default="tiny", metadata=about("tiny: 0.9 M weights, learns a family in minutes on a laptop; small: 14 M.")
    )
    tokenizer: Literal["characters", "bytes"] = field(
        default="characters", metadata=about("A token per printable ASCII character, or per byte of any text.")
    )
    seed: int = field(default=0, metadata=about("Of the weights."))

    def __post_init__(self) -> None:
        at_least("seed", self.seed, 0)
        check_choices(self)


@dataclass(frozen=True, kw_only=True)
class InitResult:
    """The folder that was made."""

    model: Path
    shape: str
    parameters: int
    vocabulary: int


def init(settings: InitSettings, *, command: Sequence[str] | None = None) -> InitResult:  # noqa: ARG001  # as all verbs
    """Make a randomly initialised model with tokenizer and chat template. `InputError` where the folder is taken."""
    if settings.out is None:
        raise InputError("--out is missing: say which folder the model goes into")
    from innerloop.outer.init import fresh, save

    model, tokenizer = fresh(settings.shape, settings.tokenizer, settings.seed)
    save(model, tokenizer, settings.out)
    return InitResult(
        model=settings.out,
        shape=settings.shape,
        parameters=sum(weight.numel() for weight in model.parameters()),
        vocabulary=len(tokenizer),
    )
