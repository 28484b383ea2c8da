"""GGUF files as folders of safetensors: dequantised once, kept in the user's cache, shared by processes."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.cache_entry import is_whole, seal
from innerloop.errors import InputError
from innerloop.gguf_header import Header, header
from innerloop.gguf_values import check_complete
from innerloop.libraries import told
from innerloop.model_size import skeleton

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CACHE_FORMAT = 2  # goes up when the same GGUF file has to be converted anew
_NO_NAME = re.compile(r"[^\w.+-]")
_NAME = 80  # characters of a file's name that its folder begins with
_ABANDONED = 3600.0  # seconds after which an unfinished conversion belongs to a process that was killed

# Vocabularies of type gpt2 whose merges were learned with every digit apart (llama.cpp's names). transformers reads
# them with GPT-2's rules, which differ where blanks stand before a digit: "\n\n1." and "  12".
_SINGLE_DIGITS = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")
_LIKE_GPT2 = ("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "roberta-bpe", "jina-es", "jina-de")

logger = logging.getLogger("innerloop.models")


def cache_folder() -> Path:
    """Where converted models live: ``INNERLOOP_CACHE``, else the user's cache folder."""
    override = os.environ.get("INNERLOOP_CACHE")
    if override:
        return Path(override).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("innerloop"))


def converted(gguf: Path) -> Path:
    """The folder with the dequantised float32 weights, configuration and tokenizer of a GGUF file.

    Made on first use. The folder's name comes from the file's content and the cache's format, so a changed file is
    converted anew. It is written under a temporary name and renamed: processes that start together may both convert,
    one folder stays and all use it.
    """
    folder = _place(gguf)
    if is_whole(folder):
        return folder
    logger.info("dequantising %s into %s (once)", gguf, folder)
    try:
        folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _sweep(folder.parent)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise InputError(
            f"cannot write the model cache {str(folder.parent)!r} ({error.strerror}); "
            "set INNERLOOP_CACHE to a folder that can be written"
        ) from error
    try:
        with quiet_bars():
            _convert(gguf, temporary)
        seal(temporary, {"gguf": gguf.name, "transformers": version("transformers"), "format": CACHE_FORMAT})
        _publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _place(gguf: Path) -> Path:
    name = _NO_NAME.sub("_", gguf.stem).lstrip(".")[:_NAME]
    return cache_folder() / "models" / f"{name}-{content_key(gguf)}-v{CACHE_FORMAT}"


def _publish(temporary: Path, folder: Path) -> None:
    """Give a finished folder its name, or leave it to the process that was faster."""
    try:
        temporary.rename(folder)
    except OSError as error:
        if not is_whole(folder):
            raise InputError(f"cannot write the model cache {str(folder)!r} ({error.strerror})") from error


def _sweep(parent: Path) -> None:
    """Remove what killed conversions left behind."""
    for left in parent.glob(".*-v*.*"):
        if time.time() - left.stat().st_mtime > _ABANDONED:
            shutil.rmtree(left, ignore_errors=True)


def content_key(file: Path) -> str:
    """20 hexadecimal digits from the file's size and content; a file is read once as long as it stays as it is."""
    try:
        state = file.stat()
        return _digest(file.resolve(), state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise InputError(f"cannot read {str(file)!r}: {error.strerror}") from error


@lru_cache(maxsize=256)
def _digest(file: Path, size: int, changed: int) -> str:  # noqa: ARG001  # a changed file is another one
    digest = hashlib.blake2b(str(size).encode(), digest_size=10)
    with file.open("rb") as stream:
        while block := stream.read(1 << 24):
            digest.update(block)
    return digest.hexdigest()


def _convert(gguf: Path, folder: Path) -> None:
    """Write the dequantised model, its configuration and its tokenizer into ``folder``."""
    found = header(gguf)
    with _readable(gguf):
        check_complete(found)
        _check_space(found, folder)
        with _alone(gguf) as source:
            _convert_parts(gguf, found, source, folder)


def _readable(gguf: Path) -> AbstractContextManager[None]:
    """InputError for what is raised where a file is damaged or of a kind that nobody knows."""
    return told(f"cannot read {str(gguf)!r} as a GGUF model")


@contextmanager
def _alone(gguf: Path) -> Iterator[dict[str, Any]]:
    """What transformers is told to read: the file in a folder of its own, since it looks at what lies beside it.

    A configuration there could name Python code, another tokenizer, or an adapter of another model.
    """
    with tempfile.TemporaryDirectory(prefix="innerloop-") as folder:
        (Path(folder) / "model.gguf").symlink_to(gguf.resolve())
        yield {
            "pretrained_model_name_or_path": folder,
            "gguf_file": "model.gguf",
            "trust_remote_code": False,
            "local_files_only": True,
        }


def _check_space(found: Header, folder: Path) -> None:
    needed = 4 * found.weights
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"the dequantised model needs {needed / 2**30:.1f} GiB and {str(folder.parent)!r} has {free / 2**30:.1f} "
            "GiB left; set INNERLOOP_CACHE to a folder with more room"
        )


def _convert_parts(gguf: Path, found: Header, source: dict[str, Any], folder: Path) -> None:
    import torch
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(**source)
    clean = skeleton(config, found.weights)
    # Newer transformers may keep the blocks packed; older ones always unpack them and have no such setting.
    packing = getattr(transformers, "GgufConfig", None)
    unpack = {} if packing is None else {"quantization_config": packing(dequantize=True)}
    read: Any = AutoModelForCausalLM.from_pretrained(
        **source, config=config, dtype=torch.float32, output_loading_info=True, **unpack
    )
    model, info = read
    if info["missing_keys"]:
        raise InputError(f"{str(gguf)!r} lacks weights of a {config.model_type} model: {min(info['missing_keys'])}, …")
    # The loaded model is marked as quantised and refuses to be saved; an empty one that takes its weights does not.
    clean.load_state_dict(model.state_dict(), assign=True)
    clean.save_pretrained(folder)
    _tokenizer(source, found).save_pretrained(folder)


def tokenizer_of(gguf: Path) -> tuple[PreTrainedTokenizerBase, int | None]:
    """The tokenizer of a GGUF file and the context that its model was made for; the weights are not read.

    Where the file has been converted, both come from there: reading them from the file itself takes seconds.
    """
    folder = _place(gguf)
    with _readable(gguf):
        if is_whole(folder):
            from transformers import AutoTokenizer

            context = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("max_position_embeddings")
            options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
            return AutoTokenizer.from_pretrained(folder, **options), context
        found = header(gguf)
        with quiet_bars(), _alone(gguf) as source:
            return _tokenizer(source, found), found.own("context_length")


def _tokenizer(source: dict[str, Any], found: Header) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(**source)
    _split_digits(tokenizer, found.fields.get("tokenizer.ggml.model"), found.fields.get("tokenizer.ggml.pre"))
    return tokenizer


def _split_digits(tokenizer: PreTrainedTokenizerBase, kind: Any, rule: Any) -> None:
    """Give a byte-level tokenizer the splitting rule that its GGUF file names and transformers leaves out."""
    from tokenizers import pre_tokenizers

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if kind != "gpt2" or rule is None or backend is None:
        return
    if not isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel):
        return  # transformers knows the rule and has put it in front
    if rule in _SINGLE_DIGITS:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    elif rule not in _LIKE_GPT2:
        logger.warning("the tokenizer's rule %r is read as GPT-2's: some texts may be split oddly", rule)


@contextmanager
def quiet_bars() -> Iterator[None]:
    """No progress bars of transformers on standard error: reading and writing take seconds."""
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
