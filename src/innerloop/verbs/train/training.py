"""Running a trainer into a run folder: its arguments, checkpoints, records and the saved model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.gguf_cache import quiet_bars
from innerloop.schema import Step
from innerloop.store import Run
from innerloop.verbs.train.recording import recording
from innerloop.verbs.train.reporting import Reporting
from innerloop.verbs.train.saved import lora_config, note_end, save_model
from innerloop.verbs.train.settings import TrainSettings
from innerloop.verbs.train.watching import watcher

if TYPE_CHECKING:
    from innerloop.models import LoadedModel

Make = Callable[[dict[str, Any], Any, Sequence[Any]], Any]  # arguments, LoRA configuration, callbacks → trainer


def train_with(settings: TrainSettings, run: Run, loaded: LoadedModel, *, rows: int, make: Make) -> None:
    """Train from the last whole checkpoint to the end, and save the model (with LoRA merged, and apart)."""
    from innerloop.outer.callbacks import Clock, Deadline, Record, Watch, Whole
    from innerloop.outer.checkpoints import last_whole
    from innerloop.outer.processes import main_first

    folder = run.path / "checkpoints"
    with main_first():  # it removes halves
        checkpoint, seconds = last_whole(folder, run.path)
    clock = Clock(seconds)
    reporting = Reporting()
    steps = settings.steps_of(rows)
    with recording(run, steps) as records:

        def looked(step: Step) -> None:
            records.add(step)
            reporting.tell(dict(step.metrics))

        deadline = Deadline(settings.minutes, clock)
        watch = Watch(watcher(settings, loaded), settings.watch_every, looked, clock)
        # The deadline before the looks, which want to know of the end.
        callbacks = [Record(records.add, clock), Whole(clock, records.flush), deadline, watch]
        trainer = make(_arguments(settings, folder, steps), lora_config(settings), callbacks)
        reporting.begin(trainer)
        _quieten(trainer)
        with quiet_bars():
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint is not None else None)
    note_end(run, deadline.reached)
    save_model(settings, run, trainer.accelerator.unwrap_model(trainer.model), loaded, _whole_weights(trainer))


def _whole_weights(trainer: Any) -> dict[str, Any] | None:
    """The weights where they are spread over processes, gathered by all of them; None where each has its own."""
    if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        return None
    return trainer.accelerator.get_state_dict(trainer.model_wrapped)


def _arguments(settings: TrainSettings, folder: Path, steps: int) -> dict[str, Any]:
    """The arguments that all of TRL's trainers share."""
    import torch

    on_gpu = torch.cuda.is_available() and settings.device != "cpu"
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": settings.rows_at_once(),
        "gradient_accumulation_steps": settings.parts,
        "max_steps": steps,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        "warmup_steps": settings.warmup,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.clip,
        "seed": settings.seed,
        "data_seed": settings.seed,
        "use_cpu": not on_gpu,
        "bf16": on_gpu and settings.dtype == "auto",
        "activation_checkpointing": on_gpu,
        "logging_steps": 1,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": settings.save_every,
        "save_total_limit": 2,
        "report_to": list(settings.report_to) or "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
    }


def _quieten(trainer: Any) -> None:
    """The trainer's own printing would stand between our lines."""
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
