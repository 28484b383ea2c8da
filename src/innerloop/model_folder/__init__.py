"""Looking at a model folder before any library does: it may come from anywhere.

A folder is read by transformers, tokenizers, safetensors, vLLM and Jinja, each of which believes what the files say.
Here each file is held against bounds, and what they say against each other, without allocating more than they weigh.
"""

from __future__ import annotations

from pathlib import Path

from innerloop.model_folder import config, files, tokenizer, weights


def check(folder: Path, *, weighed: bool = True) -> None:
    """InputError names the first file that no library should be given, and what to do.

    ``weighed``: the weights are there, too, and have to fit the configuration.
    """
    files.check(folder)
    tensors = weights.tensors(folder) if weighed else None
    config.check(folder, tensors)
    tokenizer.check(folder)
