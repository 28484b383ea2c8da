"""The trained model in its run folder: as any tool reads it, with LoRA merged, and apart."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.errors import InputError
from innerloop.gguf_cache import quiet_bars
from innerloop.processes import is_main
from innerloop.prompts import INSTRUCTION
from innerloop.speaker import MANNER_FILE
from innerloop.store import Run
from innerloop.verbs.train.settings import OuterSettings

if TYPE_CHECKING:
    from innerloop.models import LoadedModel


def finished(run: Run, minutes: float | None) -> bool:
    """Whether the folder holds the model at the end of its training; one of fewer ``minutes`` has not come to it.

    `InputError` where that one would have to begin from its first step again, over the model that is there.
    """
    if not run.noted("trained") or not (run.path / "model" / "config.json").is_file():
        return False
    reached = run.noted("ended_after_minutes")
    if reached is None or (minutes is not None and minutes <= reached):
        return True
    if not list((run.path / "checkpoints").glob("checkpoint-*")):
        raise InputError(
            f"{run.path}: its checkpoints are gone, so the training cannot go on behind minute {reached:g}; "
            f"train its model in another folder: --model {run.path} --out OTHER"
        )
    return False


def note_end(run: Run, minutes: float | None) -> None:
    """Remember the limit that ended a training before its last step; None where it came to that."""
    run.note("ended_after_minutes", minutes)


def lora_config(settings: OuterSettings) -> Any:
    """PEFT's configuration of ``--lora``, or None."""
    if settings.lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(r=settings.lora, lora_alpha=2 * settings.lora, target_modules="all-linear", task_type="CAUSAL_LM")


def save_model(
    settings: OuterSettings, run: Run, model: Any, loaded: LoadedModel, weights: dict[str, Any] | None = None
) -> None:
    """Write ``model``, and with LoRA ``adapter`` too; whole or not at all, and noted as the end of the training.

    Of several processes the first one writes. ``weights`` stand for the model's own, where these are spread.
    """
    if not is_main():
        return
    if settings.lora is not None:
        model.save_pretrained(run.path / "adapter")
        model = model.merge_and_unload()
    unfinished = run.path / "model.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    with quiet_bars():
        model.save_pretrained(unfinished, state_dict=weights)
    loaded.tokenizer.save_pretrained(unfinished)
    _keep_manner(loaded, unfinished)
    shutil.rmtree(run.path / "model", ignore_errors=True)
    unfinished.rename(run.path / "model")
    run.note("trained", True)


def _keep_manner(loaded: LoadedModel, folder: Path) -> None:
    """A model is asked as it was trained to be asked."""
    if loaded.instruction != INSTRUCTION:
        (folder / MANNER_FILE).write_text(json.dumps({"instruction": loaded.instruction}) + "\n", encoding="utf-8")
