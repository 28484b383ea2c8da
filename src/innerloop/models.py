"""A model by name: its weights, and how to talk to it (``innerloop.speaker``)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from innerloop.errors import InputError
from innerloop.gguf_cache import quiet_bars
from innerloop.libraries import told
from innerloop.model_files import resolve
from innerloop.model_folder.weights import tensors
from innerloop.model_size import skeleton
from innerloop.speaker import NoThinking, Speaker, brought, max_context, speak

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DType = Literal["auto", "float32", "bfloat16", "float16", "float64"]
_DTYPES = ("float32", "bfloat16", "float16", "float64")
# Of a configuration: what says nothing of what is computed, or is not the same before and after saving.
_VOLATILE = ("_name_or_path", "transformers_version", "dtype", "architectures")


@dataclass(frozen=True, eq=False, kw_only=True)
class LoadedModel(Speaker):
    """A causal language model in evaluation mode, its tokenizer, and how to talk to it.

    ``fingerprint`` identifies configuration and weights.
    """

    model: PreTrainedModel = field(repr=False)
    fingerprint: str

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.model.dtype

    def describe(self) -> dict[str, Any]:
        """What a run's manifest says about the model."""
        return {
            "name": self.name,
            "architecture": type(self.model).__name__,
            "parameters": sum(weight.numel() for weight in self.model.parameters()),
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": str(self.device),
            "fingerprint": self.fingerprint,
            **self.manner(),
        }


def load(  # the one place where a user says everything about a model
    name: str,
    *,
    dtype: DType = "auto",
    device: str = "auto",
    threads: int | None = None,
    suffix: str | None = None,
    instruction: str | None = None,
    system: str | None = None,
    think_start: str | None = None,
    think_end: str | None = None,
    no_thinking: NoThinking = "switch",
    date: str | None = None,
    chat_template: str | None = None,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Load ``smollm2``, a folder, a ``.gguf`` file or a hub id.

    ``dtype`` auto is float32 on a CPU and bfloat16 on a GPU; ``device`` auto is the GPU where there is one. ``threads``
    sets torch's CPU threads. The rest replaces what the model brings along; see ``LoadedModel``. Only safetensors and
    GGUF weights are read. InputError for a name that leads nowhere.
    """
    if dtype not in ("auto", *_DTYPES):
        raise InputError(f"dtype {dtype!r} is not known; use auto, {', '.join(_DTYPES)}")
    if threads is not None and threads < 1:
        raise InputError(f"threads is {threads}; it must be 1 or more")
    if device not in ("auto", "cpu"):
        _device(device)  # before a long download or conversion
    folder = resolve(name, trust_remote_code=trust_remote_code)
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    place = _device(device)
    kind = _dtype(dtype, place)
    model, tokenizer = _read(name, folder, kind, trust_remote_code=trust_remote_code)
    model.to(place)
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    return wrap(
        model,
        tokenizer,
        name=name,
        suffix=suffix,
        instruction=brought(folder, "instruction") if instruction is None else instruction,
        system=brought(folder, "system") if system is None else system,
        think_start=think_start,
        think_end=think_end,
        no_thinking=no_thinking,
        date=date,
    )


def _read(name: str, folder: Path, dtype: torch.dtype, *, trust_remote_code: bool) -> tuple[Any, Any]:
    """Weights and tokenizer of a folder of safetensors, on the CPU."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    # The grouped product of a mixture's experts has no float64.
    experts = {"experts_implementation": "eager"} if dtype == torch.float64 else {}
    weights = sum(tensor.weights for tensor in tensors(folder).values())
    with told(f"model {name!r} cannot be loaded from {str(folder)!r}"), quiet_bars():
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, **options)
            skeleton(AutoConfig.from_pretrained(folder, **options), weights, trust_remote_code=trust_remote_code)
            read: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, output_loading_info=True, **experts, **options
            )
        except MemoryError as error:
            raise InputError(f"model {name!r} does not fit into memory; try dtype bfloat16") from error
    model, info = read
    if info["missing_keys"]:  # transformers would go on with random numbers in their place
        raise InputError(
            f"model {name!r} is no complete causal language model: {str(folder)!r} lacks {len(info['missing_keys'])} "
            f"weights, among them {min(info['missing_keys'])}"
        )
    return model, tokenizer


def wrap(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    name: str,
    suffix: str | None = None,
    instruction: str | None = None,
    system: str | None = None,
    think_start: str | None = None,
    think_end: str | None = None,
    no_thinking: NoThinking = "switch",
    date: str | None = None,
) -> LoadedModel:
    """A ``LoadedModel`` around a model and a tokenizer that are already in memory (trained or made by hand).

    The model itself is put into evaluation mode and its gradients are turned off.
    """
    config = model.config.get_text_config()
    speaker = speak(
        tokenizer,
        name=name,
        suffix=suffix,
        instruction=instruction,
        system=system,
        think_start=think_start,
        think_end=think_end,
        no_thinking=no_thinking,
        date=date,
        max_context=max_context(lambda field: getattr(config, field, None)),
    )
    shared = {entry.name: getattr(speaker, entry.name) for entry in fields(speaker)}
    return LoadedModel(**shared, model=model.eval().requires_grad_(False), fingerprint=fingerprint(model))


def fingerprint(model: PreTrainedModel) -> str:
    """16 hexadecimal digits that change with the configuration or any weight and are the same on every machine.

    Every row of every weight enters as the sum of its bits, taken as integers modulo 2³², which is exact in any order
    of summation: reading the weights once is enough. A model of another dtype has another fingerprint.
    """
    import torch

    config = model.config.to_diff_dict()
    kept = {key: value for key, value in config.items() if key not in _VOLATILE} | {"class": type(model).__name__}
    digest = hashlib.blake2b(json.dumps(kept, sort_keys=True, default=str).encode(), digest_size=8)
    for name, weight in sorted({**dict(model.named_parameters()), **_saved_buffers(model)}.items()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        rows = weight.detach().reshape(-1, weight.shape[-1] if weight.ndim else 1).contiguous()
        bits = rows.view(torch.int32 if rows.shape[-1] * rows.element_size() % 4 == 0 else torch.uint8)
        digest.update(bits.sum(dim=-1, dtype=torch.int32).cpu().numpy().tobytes())
    return digest.hexdigest()


def _saved_buffers(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    buffers = dict(model.named_buffers())
    return {name: buffers[name] for name in model.state_dict() if name in buffers}


def _device(device: str) -> torch.device:
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device {device!r} is not known; use auto, cpu, cuda or cuda:N") from error
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device {device!r} was asked for, but torch sees {torch.cuda.device_count()} GPUs; use cpu or auto"
        )
    return place


def _dtype(dtype: str, device: torch.device) -> torch.dtype:
    import torch

    if dtype == "auto":
        dtype = "float32" if device.type == "cpu" else "bfloat16"
    kind = getattr(torch, dtype)
    assert isinstance(kind, torch.dtype)
    return kind
