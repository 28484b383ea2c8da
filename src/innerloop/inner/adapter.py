"""θ'ₜ as a LoRA adapter that plain ``peft`` loads: ΔW = B A with scaling 1, one pair per patched site.

Nothing but the low-rank factors is written; neither the model nor a dense ΔW is copied. An adapter is made from a patch
in contiguous placement: whoever loads it feeds question, suffix and answer with ordinary position ids.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from innerloop.errors import InputError
from innerloop.inner.patch import Factors, Patch
from innerloop.models import LoadedModel

FORMAT = 1  # of innerloop.json
WEIGHTS = "adapter_model.safetensors"  # the name that peft looks for
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What an adapter was made of, as written beside it.

    ``prompt`` and ``answer`` are token ids. ``trajectories`` are the ids of what was merged into one patch (usually
    one), ``positions`` how many of each one's tokens were seen. ``residuals`` is max |Δ log p| over the answer's tokens
    between the patched and each trajectory's own full run, before the factors were rounded for storage.
    """

    question_id: str
    question: str
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    trajectories: tuple[str, ...]
    positions: tuple[int, ...]
    gauge: str
    residuals: tuple[float, ...]


def save_adapter(
    loaded: LoadedModel, patch: Patch, row: int, folder: str | Path, origin: Origin, *, dtype: str = "float32"
) -> Path:
    """Writes one batch entry of a patch as a PEFT LoRA adapter; returns the folder.

    The folder appears whole or not at all. `InputError` where it exists already, where peft is missing or cannot put
    an adapter on one of the sites, and for a ``dtype`` other than float32, bfloat16 and float16.
    """
    folder = Path(folder)
    check_target(folder)
    if dtype not in _DTYPES:
        raise InputError(f"adapter dtype {dtype!r} is not known; use {', '.join(_DTYPES)}")
    pairs = {site: balanced(factors[[row]]) for site, factors in patch.items()}
    config = _config(loaded, pairs)
    _refuse_what_peft_cannot_load(loaded, config)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        config.save_pretrained(str(partial))
        _write_weights(partial / WEIGHTS, pairs, config.r, _DTYPES[dtype])
        _write_origin(partial, loaded, origin, rank=config.r, dtype=dtype)
        check_target(folder)  # it may have come into being meanwhile
        partial.rename(folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"the adapter cannot be written to {str(folder)!r}: {reason}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def check_target(folder: str | Path) -> None:
    """`InputError` where an adapter could not be written: the path is taken, or peft is not installed.

    To be called before the long work, too.
    """
    if os.path.lexists(folder):
        raise InputError(f"adapter folder {str(folder)!r} exists already; name another one or move it away")
    if find_spec("peft") is None:
        raise InputError("saving an adapter needs peft: pip install peft")


def balanced(factors: Factors) -> tuple[Float[Tensor, "rank n"], Float[Tensor, "out rank"]]:
    """LoRA's A and B of the first batch entry, float64, with ΔW = B A and the size shared equally.

    A = √S Vᵀ and B = U √S from the singular value decomposition ΔW = U S Vᵀ (taken in the factors' space): A Aᵀ = Bᵀ B
    is diagonal, so no direction is lost to rounding because one factor is large where the other is small.
    """
    left, upper = torch.linalg.qr(factors.up[0].double())
    right, lower = torch.linalg.qr(factors.down[0].double())
    u, values, v = torch.linalg.svd(upper @ lower.T, full_matrices=False)
    root = values.sqrt()
    return (root[:, None] * v) @ right.T, (left @ u) * root


def _config(loaded: LoadedModel, pairs: Mapping[str, tuple[Tensor, Tensor]]) -> Any:
    """A LoraConfig with scaling lora_alpha / r = 1 on exactly the patched sites."""
    from peft import LoraConfig

    rank = max(a.shape[0] for a, _ in pairs.values())
    return LoraConfig(
        r=rank,
        lora_alpha=rank,
        use_rslora=False,
        lora_dropout=0.0,
        bias="none",
        target_modules=list(pairs),
        fan_in_fan_out=any(isinstance(loaded.model.get_submodule(site), Conv1D) for site in pairs),
        task_type="CAUSAL_LM",
        base_model_name_or_path=_base(loaded),
        inference_mode=True,
    )


def _base(loaded: LoadedModel) -> str:
    """Where transformers finds the base model: the folder or hub id that it was read from."""
    return str(getattr(loaded.model.config, "_name_or_path", "") or loaded.name)


def _refuse_what_peft_cannot_load(loaded: LoadedModel, config: Any) -> None:
    """Puts the adapter on a skeleton of the model that holds no numbers, as peft will when it is loaded."""
    from copy import deepcopy

    from peft import inject_adapter_in_model

    with torch.device("meta"):
        skeleton = type(loaded.model)(deepcopy(loaded.model.config))
    try:
        inject_adapter_in_model(deepcopy(config), skeleton)
    except ValueError as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise InputError(
            f"{type(loaded.model).__name__}: peft cannot hold this patch as an adapter: {reason}"
        ) from error


def _write_weights(path: Path, pairs: Mapping[str, tuple[Tensor, Tensor]], rank: int, dtype: torch.dtype) -> None:
    """The factors under peft's names; sites of lower rank are filled up with zeros, which change nothing."""
    from safetensors.torch import save_file

    tensors = {}
    for site, (a, b) in pairs.items():
        missing = rank - a.shape[0]
        name = f"base_model.model.{site}"
        tensors[f"{name}.lora_A.weight"] = _stored(torch.nn.functional.pad(a, (0, 0, 0, missing)), dtype)
        tensors[f"{name}.lora_B.weight"] = _stored(torch.nn.functional.pad(b, (0, missing)), dtype)
    save_file(tensors, path, metadata={"format": "pt"})


def _stored(factor: Tensor, dtype: torch.dtype) -> Tensor:
    return factor.to(device="cpu", dtype=dtype).contiguous()


def _write_origin(folder: Path, loaded: LoadedModel, origin: Origin, *, rank: int, dtype: str) -> None:
    """innerloop.json and the model card."""
    base = _base(loaded)
    note = {
        "format": FORMAT,
        "base_model": base,
        "base_fingerprint": loaded.fingerprint,
        "gauge": origin.gauge,
        "scope": "weights",
        "placement": "contiguous",
        "rank": rank,
        "dtype": dtype,
        "question_id": origin.question_id,
        "question": origin.question,
        "suffix": loaded.suffix,
        "input_ids": [*origin.prompt, *loaded.suffix_ids],
        "answer_ids": list(origin.answer),
        "trajectories": [
            {"id": name, "position": position, "residual": residual}
            for name, position, residual in zip(origin.trajectories, origin.positions, origin.residuals, strict=True)
        ],
        "use": "load base_model with peft and generate from input_ids: the answer comes as if it had read the "
        "trajectory. The change was made for this question and this answer; elsewhere it has no meaning.",
    }
    text = json.dumps(note, indent=2, ensure_ascii=False) + "\n"
    (folder / "innerloop.json").write_text(text, encoding="utf-8", errors="backslashreplace")
    literal = json.dumps(base) if base.isascii() else ascii(base)  # both of Python's, and of one line
    (folder / "README.md").write_text(_CARD.format(base=literal), encoding="utf-8")


_CARD = """---
library_name: peft
tags: [innerloop]
---
# The weights that a chain of thought stands for

This LoRA adapter is θ' − θ for one question: with it, the base model answers without the trajectory as it did with it.
What it was made of and how exact it is stands in `innerloop.json`.

```python
import json, torch, transformers, peft
base = transformers.AutoModelForCausalLM.from_pretrained({base}, dtype=torch.float32)
model = peft.PeftModel.from_pretrained(base, "PATH OF THIS FOLDER")
ids = torch.tensor([json.load(open("PATH OF THIS FOLDER/innerloop.json"))["input_ids"]])
print(model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=16))
```
"""
