"""GGUF files as folders of safetensors: dequantised once, kept in the user's cache, shared by processes."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.atomic import make_folder, write_file
from innerloop.errors import InputError, first_line

if TYPE_CHECKING:
    from gguf import GGUFReader
    from transformers import PreTrainedTokenizerBase

CACHE_FORMAT = 1  # goes up when the same GGUF file has to be converted anew
_ORIGIN = "innerloop.json"  # in a converted folder: where it comes from; its presence says that the folder is whole
_SHORT = 1000  # entries of a list in a header, such as one per layer; vocabularies have more
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
    if _whole(folder):
        return folder
    logger.info("dequantising %s into %s (once)", gguf, folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
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
        temporary.chmod(0o755)  # mkdtemp made it private
        _publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _place(gguf: Path) -> Path:
    return cache_folder() / "models" / f"{gguf.stem}-{content_key(gguf)}-v{CACHE_FORMAT}"


def _whole(folder: Path) -> bool:
    return (folder / _ORIGIN).is_file() and any(folder.glob("*.safetensors"))


def _publish(temporary: Path, folder: Path) -> None:
    """Give a finished folder its name, or leave it to the process that was faster."""
    try:
        temporary.rename(folder)
    except OSError as error:
        if not _whole(folder):
            raise InputError(f"the model cache {str(folder)!r} is damaged; delete that folder and try again") from error


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


def header(gguf: Path) -> dict[str, Any]:
    """What a GGUF file's header says, but for long lists, with the number of its weights as ``weights``.

    Kept in the cache, since reading a vocabulary of tens of thousands of tokens takes seconds.
    """
    kept = cache_folder() / "headers" / f"{content_key(gguf)}-v{CACHE_FORMAT}.json"
    with suppress(OSError, ValueError):
        found = json.loads(kept.read_text(encoding="utf-8"))
        if isinstance(found, dict) and "weights" in found:
            return found
    from gguf import GGUFReader

    with _readable(gguf):
        reader = GGUFReader(gguf)
        facts = {name: field.contents() for name, field in reader.fields.items() if len(field.data) <= _SHORT}
    facts["weights"] = sum(int(tensor.n_elements) for tensor in reader.tensors)
    with suppress(InputError):  # without room for it the next start takes as long
        make_folder(kept.parent)
        write_file(kept, json.dumps(facts).encode())
    return facts


def _convert(gguf: Path, folder: Path) -> None:
    """Write the dequantised model, its configuration and its tokenizer into ``folder``."""
    from gguf import GGUFReader

    with _readable(gguf):
        reader = GGUFReader(gguf)
        _check_space(reader, folder)
        _convert_parts(gguf, reader, folder)


@contextmanager
def _readable(gguf: Path) -> Iterator[None]:
    """InputError for what the readers raise where a file is damaged or of a kind they do not know."""
    try:
        yield
    except (ValueError, KeyError, IndexError, NotImplementedError, OSError) as error:
        if isinstance(error, InputError):
            raise
        reason = first_line(error)
        raise InputError(f"cannot read {str(gguf)!r} as a GGUF model: {reason}") from error


def _check_space(reader: GGUFReader, folder: Path) -> None:
    needed = 4 * sum(int(tensor.n_elements) for tensor in reader.tensors)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"the dequantised model needs {needed / 2**30:.1f} GiB and {str(folder.parent)!r} has {free / 2**30:.1f} "
            "GiB left; set INNERLOOP_CACHE to a folder with more room"
        )


def _convert_parts(gguf: Path, reader: GGUFReader, folder: Path) -> None:
    import torch
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM

    source: dict[str, Any] = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    config = AutoConfig.from_pretrained(**source)
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
    with torch.device("meta"):
        clean = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    clean.load_state_dict(model.state_dict(), assign=True)
    clean.save_pretrained(folder)
    _tokenizer(gguf, reader).save_pretrained(folder)
    origin = {"gguf": gguf.name, "transformers": transformers.__version__, "format": CACHE_FORMAT}
    (folder / _ORIGIN).write_text(json.dumps(origin, indent=1) + "\n")


def tokenizer_of(gguf: Path) -> tuple[PreTrainedTokenizerBase, int | None]:
    """The tokenizer of a GGUF file and the context that its model was made for; the weights are not read.

    Where the file has been converted, both come from there: reading them from the file itself takes seconds.
    """
    from gguf import GGUFReader

    folder = _place(gguf)
    with _readable(gguf):
        if _whole(folder):
            from transformers import AutoTokenizer

            context = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("max_position_embeddings")
            return AutoTokenizer.from_pretrained(folder, local_files_only=True), context
        reader = GGUFReader(gguf)
        with quiet_bars():
            tokenizer = _tokenizer(gguf, reader)
        field = next((field for name, field in reader.fields.items() if name.endswith(".context_length")), None)
    return tokenizer, None if field is None else int(field.contents())


def _tokenizer(gguf: Path, reader: GGUFReader) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(pretrained_model_name_or_path=str(gguf.parent), gguf_file=gguf.name)
    _split_digits(tokenizer, reader)
    return tokenizer


def _split_digits(tokenizer: PreTrainedTokenizerBase, reader: GGUFReader) -> None:
    """Give a byte-level tokenizer the splitting rule that its GGUF file names and transformers leaves out."""
    from tokenizers import pre_tokenizers

    kind, rule = (reader.get_field(f"tokenizer.ggml.{name}") for name in ("model", "pre"))
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if kind is None or kind.contents() != "gpt2" or rule is None or backend is None:
        return
    if not isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel):
        return  # transformers knows the rule and has put it in front
    if rule.contents() in _SINGLE_DIGITS:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    elif rule.contents() not in _LIKE_GPT2:
        logger.warning("the tokenizer's rule %r is read as GPT-2's: some texts may be split oddly", rule.contents())


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
