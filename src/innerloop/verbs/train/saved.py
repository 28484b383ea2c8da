"""The trained model in its run folder: as any tool reads it, with LoRA merged, and apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.atomic import is_file, make_folder, remove_folder, rename
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
    if not run.noted("trained") or not is_file(run.path / "model" / "config.json", root=run.path):
        return False
    reached = run.noted("ended_after_minutes")
    if reached is None or (minutes is not None and minutes <= reached):
        return True
    from innerloop.outer.checkpoints import any_there

    if not any_there(run.path / "checkpoints", run.path):
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
        with _made_anew(run.path / "adapter", run.path) as folder:
            model.save_pretrained(folder)
        model = model.merge_and_unload()
    with _made_anew(run.path / "model", run.path) as folder:
        with quiet_bars():
            model.save_pretrained(folder, state_dict=weights)
        loaded.tokenizer.save_pretrained(folder)
        _keep_manner(loaded, folder)
    run.note("trained", True)


@contextmanager
def _made_anew(path: Path, root: Path) -> Iterator[Path]:
    """An empty folder to write to, which takes the place of the one that is there once the block is through."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    remove_folder(unfinished, root)
    make_folder(unfinished, root=root)
    yield unfinished
    remove_folder(path, root)
    rename(unfinished, path.name, root)


def _keep_manner(loaded: LoadedModel, folder: Path) -> None:
    """A model is asked as it was trained to be asked."""
    manner = {} if loaded.instruction == INSTRUCTION else {"instruction": loaded.instruction}
    if loaded.system is not None:
        manner["system"] = loaded.system
    if manner:
        (folder / MANNER_FILE).write_text(json.dumps(manner) + "\n", encoding="utf-8")
